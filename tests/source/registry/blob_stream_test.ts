import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { ServerResponse } from "node:http";
import { setImmediate } from "node:timers/promises";
import { InputError, InterruptedError, IoError } from "../../../lib/errors.ts";
import { digestOf } from "../../../lib/bytes/digest.ts";
import type { Descriptor } from "../../../lib/source/documents.ts";
import { parseReference } from "../../../lib/source/source_name.ts";
import { connectRegistry } from "../../../lib/source/registry/client.ts";
import { blobPieces, PROGRESS_BYTES } from "../../../lib/source/registry/image.ts";
import { MAX_ATTEMPTS } from "../../../lib/source/registry/retry.ts";
import { noise } from "../helpers.ts";
import {
  errorBody,
  type FakeRegistry,
  type Misbehaviour,
  registrySource,
  type SeenRequest,
  sendCut,
  sendJson,
  TestTiming,
  withRegistry,
} from "./fake_registry.ts";

const BLOB = noise(300_000);
const DIGEST = digestOf(BLOB);
const ETAG = `"${DIGEST}"`;

interface Outcome {
  readonly bytes: Uint8Array;
  readonly error: Error | undefined;
  /** The Range and If-Range of each request for the blob. */
  readonly ranges: (string | undefined)[];
  readonly conditions: (string | string[] | undefined)[];
  readonly waits: number[];
}

interface Pull {
  readonly blob?: Uint8Array;
  readonly sizeBytes?: number;
  readonly signal?: AbortSignal;
  readonly onPiece?: (receivedBytes: number, timing: TestTiming) => void;
  readonly setUp?: (registry: FakeRegistry) => void;
}

/** Pulls the blob; the misbehaviour is asked for the blob alone, with the number of the request from 1. */
async function pull(
  misbehave: (
    count: number,
    response: ServerResponse,
    request: SeenRequest,
    registry: FakeRegistry,
  ) => boolean | void,
  options: Pull = {},
): Promise<Outcome> {
  const timing = new TestTiming();
  const blob = options.blob ?? BLOB;
  const onBlob: Misbehaviour = (request, response, registry) => {
    if (!request.path.includes("/blobs/")) return;
    return misbehave(registry.asked("/blobs/").length, response, request, registry);
  };
  return await withRegistry(async (registry) => {
    const digest = digestOf(blob);
    registry.blobs.set(digest, blob);
    options.setUp?.(registry);
    const reference = parseReference(`${registry.host}/app`);
    const client = await connectRegistry(reference, registrySource(timing));
    const descriptor = { digest, sizeBytes: options.sizeBytes ?? blob.length, urls: [] };
    const pieces: Uint8Array[] = [];
    let receivedBytes = 0;
    let error: Error | undefined;
    try {
      const request = {
        path: `/v2/app/blobs/${digest}`,
        descriptor: descriptor as unknown as Descriptor,
        what: "the blob",
      };
      for await (const piece of blobPieces(client, request, options.signal)) {
        pieces.push(piece);
        receivedBytes += piece.length;
        options.onPiece?.(receivedBytes, timing);
      }
    } catch (thrown) {
      error = thrown as Error;
    }
    const bytes = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
    const asked = registry.asked("/blobs/").map(({ headers }) => headers);
    return {
      bytes,
      error,
      ranges: asked.map(({ range }) => range),
      conditions: asked.map((headers) => headers["if-range"]),
      waits: timing.waits,
    };
  }, onBlob);
}

/** Sends the first bytes of what was asked for, and breaks off. */
function cutAt(lengthBytes: number, response: ServerResponse, from = 0): true {
  const isPart = from > 0;
  const rest = BLOB.subarray(from);
  sendCut(response, isPart ? 206 : 200, {
    "content-length": rest.length,
    etag: ETAG,
    ...isPart ? { "content-range": `bytes ${from}-${BLOB.length - 1}/${BLOB.length}` } : {},
  }, rest.subarray(0, lengthBytes));
  return true;
}

function isWhole({ bytes, error }: Outcome): void {
  assertEquals(error, undefined);
  assertEquals(digestOf(bytes), DIGEST);
}

Deno.test("blobPieces gives a blob that comes in one go", async () => {
  const outcome = await pull(() => {});
  isWhole(outcome);
  assertEquals([outcome.ranges, outcome.waits], [[undefined], []]);
});

Deno.test("blobPieces goes on where a connection broke", async () => {
  const outcome = await pull((count, response) => {
    if (count === 1) return cutAt(100_000, response);
    if (count === 2) return cutAt(50_000, response, 100_000);
    return;
  });
  isWhole(outcome);
  assertEquals(outcome.ranges, [undefined, "bytes=100000-", "bytes=150000-"]);
  assertEquals(outcome.conditions, [undefined, ETAG, ETAG]);
  assertEquals(outcome.waits, [1000, 2000]);
});

Deno.test("blobPieces starts again where a server has no ranges", async () => {
  const outcome = await pull((count, response) => {
    return count === 1 && cutAt(100_000, response);
  }, { setUp: (registry) => registry.hasRanges = false });
  isWhole(outcome);
  assertEquals(outcome.ranges, [undefined, "bytes=100000-"]);
});

Deno.test("blobPieces makes no use of a weak entity tag", async () => {
  const outcome = await pull((count, response) => {
    if (count > 1) return;
    const headers = { "content-length": BLOB.length, etag: `W/${ETAG}` };
    sendCut(response, 200, headers, BLOB.subarray(0, 10));
    return true;
  });
  isWhole(outcome);
  assertEquals(outcome.conditions, [undefined, undefined]);
});

const WRONG_RANGES = [
  "bytes 99999-299999/300000",
  "bytes 100000-299999/300001",
  "bytes 100000-200000/300000",
  "bytes 0-299999/300000",
  "bytes */300000",
  "nonsense",
];

for (const range of [...WRONG_RANGES, undefined]) {
  Deno.test(`blobPieces starts again when it gets the range ${range}`, async () => {
    const outcome = await pull((count, response) => {
      if (count === 1) return cutAt(100_000, response);
      if (count > 2) return;
      const headers = range === undefined ? {} : { "content-range": range };
      response.writeHead(206, headers).end(BLOB.subarray(100_000));
      return true;
    });
    isWhole(outcome);
    assertEquals(outcome.ranges, [undefined, "bytes=100000-", undefined]);
  });
}

Deno.test("blobPieces starts again when its range is refused", async () => {
  const outcome = await pull((count, response) => {
    if (count === 1) return cutAt(100_000, response);
    if (count > 2) return;
    response.writeHead(416, { "content-range": "bytes */300000" }).end();
    return true;
  });
  isWhole(outcome);
  assertEquals(outcome.ranges, [undefined, "bytes=100000-", undefined]);
});

Deno.test("blobPieces overcomes refusals in the middle of a blob", async () => {
  const outcome = await pull((count, response) => {
    if (count === 1) return cutAt(100_000, response);
    if (count > 3) return;
    response.writeHead(count === 2 ? 429 : 502, { "retry-after": "5" }).end();
    return true;
  });
  isWhole(outcome);
  assertEquals(outcome.waits, [1000, 5000, 5000]);
  assertEquals(outcome.ranges.slice(1), Array(3).fill("bytes=100000-"));
});

Deno.test("blobPieces gets a new token in the middle of a blob", async () => {
  const outcome = await pull((count, response, request, registry) => {
    if (count === 1) return cutAt(100_000, response);
    if (request.headers.authorization === "Bearer new") return;
    const challenge = `Bearer realm="${registry.origin}/token"`;
    response.writeHead(401, { "www-authenticate": challenge }).end();
    return true;
  }, {
    setUp: (registry) => {
      const behave = registry.behave.bind(registry);
      registry.behave = (request, response) => {
        if (request.path.startsWith("/token")) sendJson(response, 200, { token: "new" });
        else behave(request, response);
      };
    },
  });
  isWhole(outcome);
  assertEquals(outcome.waits, [1000]);
});

Deno.test("blobPieces gives up on a server that always breaks off", async () => {
  const outcome = await pull((_, response) => cutAt(0, response));
  assert(outcome.error instanceof IoError);
  assertStringIncludes(outcome.error.message, "sent 0 of 300000 bytes: the connection broke");
  assertEquals(outcome.ranges, Array(MAX_ATTEMPTS).fill(undefined));
  const same = await pull((_, response) => cutAt(5, response), {
    setUp: (registry) => registry.hasRanges = false,
  });
  assertStringIncludes(same.error!.message, "sent 5 of 300000 bytes");
  assertEquals(same.ranges.length, MAX_ATTEMPTS);
});

Deno.test("blobPieces goes on for as long as it gets on", async () => {
  const blob = noise(8 * PROGRESS_BYTES);
  const outcome = await pull((_, response, { headers }) => {
    const from = Number(/=(\d+)/.exec(headers.range ?? "")?.[1] ?? 0);
    if (from + PROGRESS_BYTES >= blob.length) return;
    const range = `bytes ${from}-${blob.length - 1}/${blob.length}`;
    const head = { "content-length": blob.length - from, "content-range": range };
    const part = blob.subarray(from, from + PROGRESS_BYTES);
    sendCut(response, from > 0 ? 206 : 200, head, part);
    return true;
  }, { blob });
  assertEquals([outcome.error, outcome.bytes.length], [undefined, blob.length]);
  assertEquals(digestOf(outcome.bytes), digestOf(blob));
  assert(outcome.ranges.length > MAX_ATTEMPTS);
});

Deno.test("blobPieces asks again for the end of a body that is too short", async () => {
  const outcome = await pull((count, response) => {
    if (count > 1) return;
    response.writeHead(200, { etag: ETAG }).end(BLOB.subarray(0, 200_000));
    return true;
  });
  isWhole(outcome);
  assertEquals(outcome.ranges, [undefined, "bytes=200000-"]);
});

Deno.test("blobPieces refuses at once a length that is not the announced one", async () => {
  for (const lengthBytes of [0, BLOB.length - 1, BLOB.length + 1, 2 ** 50 - 1]) {
    const { error, bytes, ranges } = await pull((_, response) => {
      sendCut(response, 200, { "content-length": lengthBytes }, BLOB.subarray(0, lengthBytes));
      return true;
    });
    assert(error instanceof InputError, String(error));
    assertStringIncludes(error.message, `its size is ${lengthBytes} bytes: wanted 300000`);
    assertEquals([bytes.length, ranges.length], [0, 1]);
  }
});

Deno.test("blobPieces reads no more of an endless body than was announced", async () => {
  const { error, bytes } = await pull((_, response) => {
    const more = () => {
      while (!response.destroyed && response.write(new Uint8Array(1 << 16)));
    };
    response.on("drain", more);
    more();
    return true;
  });
  assert(error instanceof InputError);
  assertStringIncludes(error.message, "is longer than the 300000 bytes that were announced");
  assert(bytes.length <= BLOB.length);
});

Deno.test("blobPieces tells a missing blob from other refusals, and asks once", async () => {
  const refused = (status: number) =>
    pull((_, response) => {
      sendJson(response, status, errorBody("DENIED", "no \u001b[31m"));
      return true;
    });
  const missing = await refused(404);
  assert(missing.error instanceof InputError);
  assertEquals(missing.error.message, `the blob: the blob ${DIGEST} is missing`);
  const denied = await refused(403);
  assert(denied.error instanceof IoError && !denied.error.message.includes("\u001b"));
  for (const outcome of [missing, denied, await refused(206)]) {
    assertEquals([outcome.error === undefined, outcome.ranges.length], [false, 1]);
  }
});

Deno.test("blobPieces makes do with a blob that is whole when its connection falls silent", async () => {
  const outcome = await pull((_, response) => {
    response.writeHead(200, { etag: ETAG });
    response.write(BLOB);
    return true;
  }, {
    onPiece: (receivedBytes, timing) => {
      if (receivedBytes === BLOB.length) setTimeout(() => timing.ring(), 0);
    },
  });
  isWhole(outcome);
  assertEquals(outcome.ranges.length, 1);
});

Deno.test("blobPieces goes on where a connection fell silent", async () => {
  const outcome = await pull((count, response) => {
    if (count > 1) return;
    response.writeHead(200, { etag: ETAG, "content-length": BLOB.length });
    response.write(BLOB.subarray(0, 1000));
    return true;
  }, {
    onPiece: (receivedBytes, timing) => {
      if (receivedBytes === 1000) setTimeout(() => timing.ring(), 0);
    },
  });
  isWhole(outcome);
  assertEquals(outcome.ranges, [undefined, "bytes=1000-"]);
});

Deno.test("blobPieces stops when it is told to", async () => {
  const controller = new AbortController();
  const { error, ranges, waits } = await pull((_, response) => {
    response.writeHead(200, { "content-length": BLOB.length });
    response.write(BLOB.subarray(0, 1000));
    return true;
  }, { signal: controller.signal, onPiece: () => setTimeout(() => controller.abort(), 0) });
  assert(error instanceof InterruptedError);
  assertEquals([ranges.length, waits], [1, []]);
});

Deno.test("blobPieces takes no more from the network than is read of it", async () => {
  const sizeBytes = 256 << 20;
  let sentBytes = 0;
  await withRegistry(async (registry) => {
    const reference = parseReference(`${registry.host}/app`);
    const client = await connectRegistry(reference, registrySource(new TestTiming()));
    const descriptor = { digest: DIGEST, sizeBytes, urls: [] } as unknown as Descriptor;
    const request = { path: "/v2/app/blobs/x", descriptor, what: "x" };
    const pieces = blobPieces(client, request, undefined);
    await pieces.next();
    // Server and client share the event loop: once it turns and nothing moves, the client takes no more.
    let before = -1;
    for (let quietTurns = 0; quietTurns < 100; quietTurns++) {
      if (before !== sentBytes) quietTurns = 0;
      before = sentBytes;
      await setImmediate();
    }
    assert(sentBytes < sizeBytes / 4, `${sentBytes}`);
    await pieces.return(undefined);
  }, ({ path }, response) => {
    if (path === "/v2/") return;
    response.writeHead(200, { "content-length": sizeBytes });
    const piece = new Uint8Array(1 << 18);
    const more = () => {
      while (sentBytes < sizeBytes && !response.destroyed) {
        sentBytes += piece.length;
        if (!response.write(piece)) return;
      }
    };
    response.on("drain", more);
    more();
    return true;
  });
});
