import { assert, assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { chunkId, chunkPath, compressChunk, STORED_BYTES_MAX } from "../../lib/chunk/chunk.ts";
import { type ChunkIndex, chunksOf } from "../../lib/chunk/chunk_index.ts";
import { pruneStore } from "../../lib/chunk/store.ts";
import { S3Store } from "../../lib/chunk/s3_store.ts";
import { InputError, IoError } from "../../lib/errors.ts";
import {
  errorAnswer,
  type FakeS3,
  type FakeS3Options,
  TEST_SETTINGS,
  withFakeS3,
} from "./fake_s3.ts";
import { noise, store, uploaderOf } from "./helpers.ts";

const CONTENT = noise(4096);
const STORED = compressChunk(CONTENT, 1);
const ID = chunkId(CONTENT, "sha512-256");
const KEY = `chunks/${chunkPath(ID)}`;

async function withStore(
  options: FakeS3Options,
  test: (chunks: S3Store, server: FakeS3) => Promise<void>,
): Promise<void> {
  await withFakeS3(options, async (server) => {
    const chunks = new S3Store(server.store(), {
      settings: TEST_SETTINGS,
      pause: () => Promise.resolve(),
      tries: 4,
    });
    await test(chunks, server);
    assertEquals(server.faults, []);
  });
}

Deno.test("S3Store keeps a chunk under the key that desync asks for", async () => {
  await withStore({}, async (chunks, server) => {
    await chunks.open();
    assertEquals(await chunks.has(ID, 4096), false);
    assertEquals(await chunks.put(ID, STORED), "added");
    assertEquals(await chunks.has(ID, 4096), true);
    assertEquals([...server.objects.keys()], [KEY]);
    assertEquals(Uint8Array.from(await chunks.get(ID)), Uint8Array.from(STORED));
    assertEquals(chunks.name, server.store());
  });
});

Deno.test("S3Store does not replace a chunk that came in between", async () => {
  await withStore({}, async (chunks, server) => {
    server.objects.set(KEY, Buffer.from("an older one"));
    assertEquals(await chunks.put(ID, STORED), "present");
    assertEquals(server.objects.get(KEY)!.toString(), "an older one");
  });
});

Deno.test("S3Store does without conditions where the server has none", async () => {
  await withStore({ conditions: "refused" }, async (chunks, server) => {
    assertEquals(await chunks.put(ID, STORED), "added");
    assertEquals(await chunks.put(chunkId(noise(9), "sha256"), STORED), "added");
    const conditions = server.requests.map(({ headers }) => headers["if-none-match"]);
    assertEquals(conditions, ["*", undefined, undefined]);
  });
});

Deno.test("S3Store knows its own chunk again when the answer to it was lost", async () => {
  const misbehave: FakeS3Options["misbehave"] = (_, n) => n === 1 ? { cut: "after" } : undefined;
  await withStore({ misbehave }, async (chunks, server) => {
    assertEquals(await chunks.put(ID, STORED), "added");
    assertEquals([server.objects.size, server.count("PUT") >= 1], [1, true]);
  });
  // A busy server has done nothing, so the chunk that is there is somebody else's.
  const busy: FakeS3Options["misbehave"] = (_, n) =>
    n === 1 ? errorAnswer(503, "SlowDown", "") : undefined;
  await withStore({ misbehave: busy }, async (chunks, server) => {
    server.objects.set(KEY, Buffer.from("one of theirs"));
    assertEquals(await chunks.put(ID, STORED), "present");
  });
});

Deno.test("pruneStore keeps what indexes name in a bucket, page by page, and goes on where it stopped", async () => {
  for (const pageObjects of [1, 7, 1000]) {
    const stop = new AbortController();
    let deleted = 0;
    const misbehave: FakeS3Options["misbehave"] = ({ method, key }) => {
      if (method !== "DELETE" || !key.endsWith(".cacnk") || ++deleted !== 4) return undefined;
      stop.abort(new Error("stopped"));
      return { silent: true };
    };
    await withStore({ pageObjects, misbehave }, async (chunks, server) => {
      const kept = await store(noise(20 * 4096, 1), uploaderOf(chunks), { chunkBytes: 4096 });
      const keptKeys = [...server.objects.keys()].filter((key) => key.endsWith(".cacnk"));
      const gone = await store(noise(20 * 4096, 2), uploaderOf(chunks), { chunkBytes: 4096 });
      await Promise.all([kept, gone].map(({ index }) => assertStored(chunks, index)));
      const goneKeys = [...server.objects.keys()]
        .filter((key) => key.endsWith(".cacnk") && !keptKeys.includes(key));
      assertEquals([keptKeys.length, goneKeys.length], [20, 20]);
      for (const key of server.objects.keys()) {
        if (key.includes("/.blessfs/")) server.objects.delete(key);
      }
      server.objects.set("chunks/README", Buffer.from("not a chunk"));
      server.objects.set("elsewhere", Buffer.from("of others"));
      const options = { indexes: [kept.index], graceMs: 24 * 3600 * 1000 };
      const young = await pruneStore(chunks, options);
      assertEquals([young.keptChunks, young.youngChunks, young.removedChunks], [20, 20, 0]);
      for (const key of [...keptKeys, ...goneKeys]) server.times.set(key, "2025-06-01T12:00:00Z");
      const { signal } = stop;
      await assertRejects(() => pruneStore(chunks, { ...options, signal }), Error, "interrupted");
      // The mark is gone, too, so that others can write.
      assertEquals([...server.objects.keys()].filter((key) => key.includes("/.blessfs/")), []);
      const left = goneKeys.filter((key) => server.objects.has(key)).length;
      assertEquals(left, 17);
      const rest = await pruneStore(chunks, options);
      assertEquals([rest.keptChunks, rest.removedChunks, rest.missingChunks], [20, left, 0]);
      const wanted = [...keptKeys, "chunks/README", "elsewhere"].sort();
      assertEquals([...server.objects.keys()].sort(), wanted);
      await assertStored(chunks, kept.index);
    });
  }
});

async function assertStored(chunks: S3Store, index: ChunkIndex): Promise<void> {
  for (const { id, sizeBytes } of chunksOf(index)) assert(await chunks.has(id, sizeBytes));
}

Deno.test("S3Store opens only what it can use", async () => {
  const cases: [number, string, string][] = [
    [404, "NoSuchBucket", "there is no such bucket"],
    [403, "AccessDenied", "access is denied"],
    [403, "SignatureDoesNotMatch", "access is denied"],
  ];
  for (const [status, code, why] of cases) {
    await withStore({ misbehave: () => errorAnswer(status, code, "no") }, async (chunks) => {
      await assertRejects(() => chunks.open(), IoError, why);
    });
  }
});

Deno.test("S3Store does not take a refusal for a missing chunk", async () => {
  await withStore({ misbehave: () => ({ status: 403 }) }, async (chunks) => {
    await assertRejects(() => chunks.has(ID, 4096), IoError, "access is denied");
  });
});

Deno.test("S3Store finds empty chunks and refuses endless ones", async () => {
  await withStore({}, async (chunks, server) => {
    server.objects.set(KEY, Buffer.alloc(0));
    await assertRejects(() => chunks.has(ID, 4096), InputError, "is empty: wanted a chunk");
    server.objects.set(KEY, Buffer.alloc(STORED_BYTES_MAX + 1));
    await assertRejects(() => chunks.get(ID), Error, "more than");
  });
});

Deno.test("S3Store gets every chunk through, however the server misbehaves", async () => {
  let state = 1;
  const misbehave: FakeS3Options["misbehave"] = () => {
    state = state * 48271 % 2147483647;
    const kind = state % 12;
    if (kind === 0) return errorAnswer(503, "SlowDown", "slow");
    if (kind === 1) return { cut: "before" };
    if (kind === 2) return { cut: "after" };
    if (kind === 3) return errorAnswer(500, "InternalError", "oops");
    return undefined;
  };
  await withFakeS3({ misbehave }, async (server) => {
    const chunks = new S3Store(server.store(), {
      settings: TEST_SETTINGS,
      pause: () => Promise.resolve(),
      tries: 30,
    });
    const file = noise(150 * 4096);
    const { counts } = await store(file, uploaderOf(chunks), { chunkBytes: 4096 });
    // Runtimes send again by themselves when a connection is closed that was used before: who then finds the chunk there
    // cannot know that it is its own.
    assertEquals(counts.newChunks + counts.reusedChunks, 150);
    assertEquals([server.objects.size, server.faults], [150, []]);
    const again = await store(file, uploaderOf(chunks, { verifyStore: true }), {
      chunkBytes: 4096,
    });
    assertEquals([again.counts.newChunks, again.counts.reusedChunks], [0, 150]);
  });
});

Deno.test("S3Store takes the same file from several at once, each chunk from one of them", async () => {
  await withFakeS3({}, async (server) => {
    const file = noise(60 * 4096);
    const sinks = await Promise.all([1, 2, 3].map(() => {
      const chunks = new S3Store(server.store(), { settings: TEST_SETTINGS });
      return store(file, uploaderOf(chunks), { chunkBytes: 4096 });
    }));
    const sum = sinks.reduce((total, { counts }) => total + counts.newChunks, 0);
    assertEquals([sum, server.objects.size], [60, 60]);
    const sent = sinks.reduce((total, { counts }) => total + counts.sentBytes, 0);
    const stored = [...server.objects.values()].reduce((total, object) => total + object.length, 0);
    assert(sent === stored, `${sent} sent, ${stored} stored`);
  });
});
