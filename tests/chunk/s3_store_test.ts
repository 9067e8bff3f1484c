import { assert, assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { chunkId, chunkPath, compressChunk, STORED_BYTES_MAX } from "../../lib/chunk/chunk.ts";
import { type ChunkIndex, chunksOf } from "../../lib/chunk/chunk_index.ts";
import { pruneStore } from "../../lib/chunk/store.ts";
import { S3Client, type S3ClientOptions, S3Store } from "../../lib/chunk/s3_store.ts";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import {
  errorAnswer,
  type FakeS3,
  type FakeS3Options,
  settingsOf,
  TEST_KEYS,
  TEST_SETTINGS,
  withFakeS3,
} from "./fake_s3.ts";
import { noise, store, uploaderOf } from "./helpers.ts";
import { parseS3Address } from "../../lib/chunk/s3_request.ts";

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

const SLOW_DOWN = errorAnswer(503, "SlowDown", "Please reduce your request rate.");

/** A client that does not wait, but writes down how long it would. */
function clientOf(server: FakeS3, more: Partial<S3ClientOptions> = {}, prefix = "chunks") {
  const pauses: number[] = [];
  const client = new S3Client(parseS3Address(server.store(prefix)), {
    settings: TEST_SETTINGS,
    pause: (milliseconds) => (pauses.push(milliseconds), Promise.resolve()),
    ...more,
  });
  return { client, pauses };
}

async function put(options: FakeS3Options, more: Partial<S3ClientOptions> = {}) {
  return await withFakeS3(options, async (server) => {
    const { client, pauses } = clientOf(server, more);
    const request = { method: "PUT", key: "ab/x", body: noise(1000) } as const;
    const answer = await client.send(request, [200]);
    assertEquals([...server.objects.keys()], ["chunks/ab/x"]);
    return { server, pauses, answer };
  });
}

Deno.test("S3Client signs so that a server finds the same signature", async () => {
  const withToken = { ...TEST_KEYS, sessionToken: "FwoGZXIvYXdzE/+==" };
  for (const keys of [TEST_KEYS, withToken]) {
    for (const prefix of ["", "a", "a/b c/%2B+(x)'!*/%C3%A9~_.-"]) {
      await withFakeS3({ keys }, async (server) => {
        const { client } = clientOf(server, { settings: settingsOf(keys) }, prefix);
        const headers = { "if-none-match": "*", "content-type": "application/octet-stream" };
        const key = "0123/a.cacnk";
        await client.send({ method: "PUT", key, body: noise(5000), headers }, [200]);
        await client.send({ method: "HEAD", key }, [200]);
        const { body } = await client.send({ method: "GET", key }, [200]);
        assertEquals(Uint8Array.from(body), noise(5000));
        const query = { "list-type": "2", prefix: "a b/+&=é" };
        await client.send({ method: "GET", query }, [200]);
        assertEquals([server.faults, server.requests.length], [[], 4]);
      });
    }
  }
});

Deno.test("S3Client tries again after what passes, waiting longer each time", async () => {
  const passing = [
    SLOW_DOWN,
    errorAnswer(500, "InternalError", "We encountered an internal error"),
    { status: 502, body: "<html>" },
    { status: 504 },
    { status: 429 },
    errorAnswer(400, "RequestTimeout", "Your socket connection was not read from"),
    errorAnswer(409, "ConditionalRequestConflict", "A conflicting operation"),
  ];
  for (const answer of passing) {
    const { server, pauses } = await put({ misbehave: (_, n) => n <= 4 ? answer : undefined });
    assertEquals([server.requests.length, server.faults], [5, []]);
    for (const [i, pause] of pauses.entries()) {
      assert(pause >= 100 * 2 ** i && pause <= 200 * 2 ** i, `${pauses}`);
    }
  }
});

Deno.test("S3Client tries again when a connection breaks", async () => {
  for (const cut of ["before", "after", "within"] as const) {
    const { server } = await put({ misbehave: (_, n) => n <= 2 ? { cut } : undefined });
    assert(server.requests.length >= 3);
  }
});

Deno.test("S3Client tries again when a server does not answer in time", async () => {
  const misbehave: FakeS3Options["misbehave"] = (_, n) => n === 1 ? { silent: true } : undefined;
  const { answer } = await put({ misbehave }, { timeoutMs: 1000 });
  assertEquals(answer.mayBeRepeated, true);
});

Deno.test("S3Client listens to its signal no longer than a request takes", async () => {
  const { signal } = new AbortController();
  let listenerCount = 0;
  const [add, remove] = [signal.addEventListener, signal.removeEventListener];
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listenerCount++;
    add.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listenerCount--;
    remove.apply(signal, args);
  };
  const answers = [SLOW_DOWN, { silent: true } as const];
  const misbehave: FakeS3Options["misbehave"] = (_, n) => answers[n - 1];
  await put({ misbehave }, { signal, timeoutMs: 1000 });
  assertEquals(listenerCount, 0);
});

Deno.test("S3Client waits as long as the server wishes, within bounds", async () => {
  for (
    const [wish, most] of [["3", 3000], ["9999", 20_000], [
      "Wed, 21 Oct 2026 07:28:00 GMT",
      200,
    ]] as const
  ) {
    const headers = { "retry-after": wish };
    const { pauses } = await put({
      misbehave: (_, n) => n === 1 ? { status: 503, headers } : undefined,
    });
    assert(pauses[0]! <= most && pauses[0]! >= most / 2, `${pauses}`);
  }
});

Deno.test("S3Client gives up after so many tries, and says what the server said", async () => {
  await withFakeS3({ misbehave: () => SLOW_DOWN }, async (server) => {
    const { client } = clientOf(server, { tries: 5 });
    const error = await assertRejects(
      () => client.send({ method: "HEAD", key: "a" }, [200]),
      IoError,
      "was busy at every try",
    );
    assertEquals([server.requests.length, error.data["status"]], [5, 503]);
  });
});

Deno.test("S3Client does not try again what cannot get better", async () => {
  for (
    const [status, code] of [
      [403, "AccessDenied"],
      [404, "NoSuchBucket"],
      [400, "Bad"],
      [412, "X"],
      [409, "Other"],
    ] as const
  ) {
    await withFakeS3({ misbehave: () => errorAnswer(status, code, "no") }, async (server) => {
      const { client } = clientOf(server);
      await assertRejects(() => client.send({ method: "GET", key: "a" }, [200]), IoError, code);
      assertEquals(server.requests.length, 1);
    });
  }
});

Deno.test("S3Client does not follow redirects, which would carry the signature along", async () => {
  await withFakeS3({}, async (other) => {
    const headers = { location: `${other.origin}/bucket/chunks/a?X-Amz-Signature=hush` };
    await withFakeS3({ misbehave: () => ({ status: 307, headers }) }, async (server) => {
      const { client } = clientOf(server);
      const error = await assertRejects(
        () => client.send({ method: "GET", key: "a" }, [200]),
        IoError,
        "the server redirects",
      );
      assert(!error.message.includes("hush"), error.message);
      assertEquals(other.requests.length, 0);
    });
  });
});

Deno.test("S3Client stops at once when it is told to, in a request and between two", async () => {
  for (const answer of [{ silent: true }, SLOW_DOWN]) {
    await withFakeS3({ misbehave: () => answer }, async (server) => {
      const controller = new AbortController();
      const client = new S3Client(parseS3Address(server.store()), {
        settings: TEST_SETTINGS,
        signal: controller.signal,
      });
      const sent = client.send({ method: "HEAD", key: "a" }, [200]);
      setTimeout(() => controller.abort(), 30);
      await assertRejects(() => sent, InterruptedError);
    });
  }
});

Deno.test("S3Client says that nobody is there, without keys", async () => {
  const server = await withFakeS3({}, (server) => Promise.resolve(server.store()));
  const client = new S3Client(parseS3Address(server), {
    settings: TEST_SETTINGS,
    pause: () => Promise.resolve(),
    tries: 2,
  });
  const error = await assertRejects(
    () => client.send({ method: "HEAD", key: "a" }, [200]),
    IoError,
    "the server cannot be reached",
  );
  assert(!error.message.includes(TEST_KEYS.accessKeyId));
});

Deno.test("S3Client reads no more of an answer than was asked for", async () => {
  const body = "x".repeat(200_000);
  await withFakeS3({ misbehave: () => ({ body }) }, async (server) => {
    const { client } = clientOf(server);
    await assertRejects(
      () => client.send({ method: "GET", key: "a", mostBytes: 1000 }, [200]),
      InputError,
      "more than 1000 bytes",
    );
  });
  await withFakeS3({ misbehave: () => ({ status: 400, body }) }, async (server) => {
    const { client } = clientOf(server);
    await assertRejects(() => client.send({ method: "GET", key: "a" }, [200]), IoError, "refused");
  });
});
