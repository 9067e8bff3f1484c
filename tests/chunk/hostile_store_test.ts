/** What a store must not believe: servers that say what is not so, and directories with something else in them. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { readdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { chunkId, chunkPath, compressChunk } from "../../lib/chunk/chunk.ts";
import { DirectoryStore } from "../../lib/chunk/directory_store.ts";
import { S3Store } from "../../lib/chunk/s3_store.ts";
import { InputError, IoError } from "../../lib/errors.ts";
import { type FileOperations, NODE_FILE_OPERATIONS } from "../../lib/io/file_sink.ts";
import {
  errorAnswer,
  type FakeS3,
  type FakeS3Options,
  type SeenRequest,
  TEST_KEYS,
  TEST_SETTINGS,
  withFakeS3,
} from "./fake_s3.ts";
import { noise, store, uploaderOf, withDirectory } from "./helpers.ts";

const SMALL = { chunkBytes: 4096 };
const FILE = noise(40 * 4096);

const isChunkPut = ({ method, key }: SeenRequest) => method === "PUT" && key.endsWith(".cacnk");

/** Opens a store and brings the file to it. */
async function upload(options: FakeS3Options, more = {}): Promise<FakeS3> {
  return await withFakeS3(options, async (server) => {
    const chunks = new S3Store(server.store(), {
      settings: TEST_SETTINGS,
      pause: () => Promise.resolve(),
      tries: 3,
    });
    await chunks.open();
    await store(FILE, uploaderOf(chunks, more), SMALL);
    return server;
  });
}

const chunksIn = (server: FakeS3) =>
  [...server.objects.keys()].filter((key) => key.endsWith(".cacnk"));

Deno.test("a server that answers 200 to everything is not a store", async () => {
  const pages: [body: string, why: string][] = [
    ["<html>console</html>", "is not an S3 server: it answers a list with something else"],
    ["", "is not an S3 server"],
    ["<Error><Code>InternalError</Code></Error>", "is not an S3 server: it says InternalError"],
  ];
  for (const [body, why] of pages) {
    const misbehave = () => ({ body, headers: { "content-type": "text/html" } });
    await assertRejects(() => upload({ misbehave }), IoError, why);
  }
});

Deno.test("a HEAD that says `there` must fit the chunk", async () => {
  const heads: [headers: Record<string, string>, why: string][] = [
    [{ "content-length": "7" }, "has 7 bytes: wanted a chunk"],
    [{ "content-length": "100000" }, "has 100000 bytes: wanted a chunk"],
    [{ "content-length": "0" }, "is empty: wanted a chunk"],
    [{ "content-length": "900", "content-type": "text/html; charset=utf-8" }, 'type "text/html'],
  ];
  for (const [headers, why] of heads) {
    const misbehave = ({ method }: SeenRequest) => method === "HEAD" ? { headers } : undefined;
    await assertRejects(() => upload({ misbehave }), InputError, why);
  }
});

Deno.test("a PUT that is answered with an error document has failed, whatever its status", async () => {
  const error = errorAnswer(200, "InternalError", "We encountered an internal error.");
  const misbehave = (request: SeenRequest) => isChunkPut(request) ? error : undefined;
  await assertRejects(() => upload({ misbehave }), IoError, "InternalError");
  let count = 0;
  const once = (request: SeenRequest) => isChunkPut(request) && ++count === 1 ? error : undefined;
  assertEquals(chunksIn(await upload({ misbehave: once })).length, 40);
});

Deno.test("a PUT without an entity tag is looked after", async () => {
  const misbehave = (request: SeenRequest) => isChunkPut(request) ? { body: "ok" } : undefined;
  await assertRejects(() => upload({ misbehave }), IoError, "was not stored, although the server");
});

Deno.test("a 412 is no proof: the chunk is asked for, and put without the condition", async () => {
  for (const status of [412, 304, 405, 501]) {
    const misbehave = (request: SeenRequest) =>
      isChunkPut(request) && request.headers["if-none-match"] !== undefined
        ? { status }
        : undefined;
    for (const verifyStore of [false, true]) {
      const server = await upload({ misbehave }, { verifyStore });
      assertEquals([chunksIn(server).length, server.faults], [40, []]);
    }
  }
  const refused = errorAnswer(400, "InvalidArgument", "Unsupported header 'if-none-match'");
  const misbehave = (request: SeenRequest) =>
    isChunkPut(request) && request.headers["if-none-match"] !== undefined ? refused : undefined;
  assertEquals(chunksIn(await upload({ misbehave })).length, 40);
});

Deno.test("what a 412 says is there is read when the store is verified", async () => {
  const id = chunkId(FILE.subarray(0, 4096), "sha512-256");
  const key = `chunks/${chunkPath(id)}`;
  const misbehave = ({ method, key: asked }: SeenRequest, _n: number) =>
    method === "HEAD" && asked === key && !seen ? (seen = true, { status: 404 }) : undefined;
  let seen = false;
  await withFakeS3({ misbehave }, async (server) => {
    server.objects.set(key, Buffer.from(compressChunk(noise(4096, 9), 1)));
    const chunks = new S3Store(server.store(), { settings: TEST_SETTINGS });
    await assertRejects(
      () => store(FILE, uploaderOf(chunks, { verifyStore: true }), SMALL),
      InputError,
      "is damaged",
    );
  });
});

Deno.test("the first refusal for good ends the requests that hang", async () => {
  let count = 0;
  const misbehave = (request: SeenRequest) =>
    !isChunkPut(request)
      ? undefined
      : ++count === 5
      ? errorAnswer(403, "AccessDenied", "no")
      : { silent: true } as const;
  const started = performance.now();
  await assertRejects(() => upload({ misbehave }), IoError, "access is denied");
  assert(performance.now() - started < 20_000);
});

Deno.test("an expired session behind a HEAD without a body is told as such", async () => {
  const misbehave = ({ method, key }: SeenRequest, n: number) =>
    method === "HEAD"
      ? { status: 400 }
      : n > 3 && key === ""
      ? errorAnswer(400, "ExpiredToken", "The provided token has expired.")
      : undefined;
  await assertRejects(() => upload({ misbehave }), IoError, "the session has expired");
});

Deno.test("no answer brings a key or a signature into a message", async () => {
  const echo = ({ headers }: SeenRequest) => {
    const said = `you sent ${headers["authorization"]} and ${TEST_KEYS.secretAccessKey}`;
    return errorAnswer(403, "SignatureDoesNotMatch", said);
  };
  const error = await assertRejects(() => upload({ misbehave: echo }), IoError);
  const said = `${error.message} ${error.hint}`;
  assert(!/[0-9a-f]{64}/.test(said) && !said.includes(TEST_KEYS.accessKeyId), said);
});

Deno.test("a dangling link at a chunk's name is not the chunk, and nothing is swallowed", async () => {
  await withDirectory(async (directory) => {
    const chunks = () => new DirectoryStore(directory);
    await store(FILE, uploaderOf(chunks()), SMALL);
    const path = join(directory, chunkPath(chunkId(FILE.subarray(0, 4096), "sha512-256")));
    rmSync(path);
    symlinkSync("/nonexistent/x", path);
    for (const verifyStore of [false, true]) {
      await assertRejects(
        () => store(FILE, uploaderOf(chunks(), { verifyStore }), SMALL),
        InputError,
        "is a link to nothing: wanted a chunk",
      );
    }
  });
});

Deno.test("chunks that are there, and their names, are synced before an index speaks of them", async () => {
  await withDirectory(async (directory) => {
    await store(FILE, uploaderOf(new DirectoryStore(directory)), SMALL);
    const synced = new Set<string>();
    const files: FileOperations = {
      ...NODE_FILE_OPERATIONS,
      syncDirectory: (path) => {
        synced.add(path);
        NODE_FILE_OPERATIONS.syncDirectory(path);
      },
    };
    await store(FILE, uploaderOf(new DirectoryStore(directory, { files })), SMALL);
    const folders = readdirSync(directory).map((name) => join(directory, name));
    const names = folders.flatMap((folder) =>
      readdirSync(folder).map((name) => join(folder, name))
    );
    assertEquals([...synced].sort(), [...folders, ...names].sort());
    const failing: FileOperations = {
      ...NODE_FILE_OPERATIONS,
      syncDirectory: () => {
        throw Object.assign(new Error("EIO"), { code: "EIO" });
      },
    };
    await assertRejects(
      () => store(FILE, uploaderOf(new DirectoryStore(directory, { files: failing })), SMALL),
      IoError,
      "cannot be flushed to the disk",
    );
  });
});
