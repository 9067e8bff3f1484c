import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  BlessfsError,
  InputError,
  InterruptedError,
  IoError,
  UsageError,
} from "../../../lib/errors.ts";
import { digestOf } from "../../../lib/bytes/digest.ts";
import type { LayerJob, LayerListener } from "../../../lib/source/layers/read_layer.ts";
import { LayerWorker, PieceQueue } from "../../../lib/source/layers/worker.ts";
import { plainError, rebuiltError } from "../../../lib/io/thread.ts";
import { DEFAULT_SOURCE_LIMITS } from "../../../lib/source/types.ts";
import { sampleTar } from "../helpers.ts";

const LISTENER: LayerListener = { entries: () => {}, progress: () => {}, stopped: () => false };

function job(more: Partial<LayerJob> = {}): LayerJob {
  return {
    name: "layer",
    mediaType: undefined,
    sizeBytes: undefined,
    wantedDigest: undefined,
    wantedDiffId: undefined,
    verifyDiffId: true,
    limits: DEFAULT_SOURCE_LIMITS,
    tarLimits: {},
    ignoreZeros: false,
    content: "tar",
    ...more,
  };
}

/** A stream of these bytes that then waits for ever, or ends. */
async function* stream(bytes: Uint8Array, thenWaits: boolean): AsyncGenerator<Uint8Array> {
  yield bytes;
  if (thenWaits) await new Promise(() => {});
}

Deno.test("LayerWorker reads one layer after another, also after one that was bad", async () => {
  const worker = new LayerWorker();
  const tar = sampleTar();
  const read = (more: Partial<LayerJob> = {}) =>
    worker.run(job(more), { kind: "stream", stream: stream(tar, false) }, undefined, LISTENER);
  assertEquals((await read()).diffId, digestOf(tar));
  const bad = await assertRejects(() => read({ wantedDigest: digestOf(new Uint8Array(1)) }));
  assert(bad instanceof InputError);
  assertEquals((await read()).diffId, digestOf(tar));
  await worker.stop(new Error("over"));
  await worker.stop(new Error("again"));
});

Deno.test("LayerWorker.stop ends a layer that waits for its stream, with the reason given", async () => {
  const worker = new LayerWorker();
  const input = { kind: "stream", stream: stream(new Uint8Array(5 << 20), true) } as const;
  const reading = worker.run(job(), input, undefined, LISTENER);
  const reason = new Error("enough");
  const outcome = assertRejects(() => reading);
  await worker.stop(reason);
  assertEquals(await outcome, reason);
  const after = assertRejects(() => worker.run(job(), input, undefined, LISTENER));
  assertEquals(await after, reason);
});

Deno.test("LayerWorker passes on an unexpected error as one", async () => {
  const worker = new LayerWorker();
  const broken = job({ limits: undefined as unknown as LayerJob["limits"] });
  const input = { kind: "stream", stream: stream(sampleTar(), false) } as const;
  const error = await assertRejects(() => worker.run(broken, input, undefined, LISTENER));
  assert(error instanceof Error && !(error instanceof BlessfsError));
  await worker.stop(new Error("over"));
});

Deno.test("LayerWorker gives up when its listener throws", async () => {
  const worker = new LayerWorker();
  const wanted = new InputError("limit", "is reached");
  const listener = {
    ...LISTENER,
    progress: () => {
      throw wanted;
    },
  };
  const input = { kind: "stream", stream: stream(sampleTar(), true) } as const;
  // The stream has come to no end: only the listener can end this.
  const big = { kind: "stream", stream: stream(new Uint8Array(3 << 20), true) } as const;
  const error = await assertRejects(() => worker.run(job(), big, undefined, listener));
  assertEquals(error, wanted);
  await worker.stop(new Error("over"));
  const after = await assertRejects(() => worker.run(job(), input, undefined, LISTENER));
  assertEquals(after, wanted);
});

Deno.test("PieceQueue gives pieces in order, whether they are there before the reader or after", async () => {
  const taken: number[] = [];
  const queue = new PieceQueue((piece) => taken.push(piece[0]!));
  const read: number[] = [];
  queue.add(new Uint8Array([1]));
  queue.add(new Uint8Array([2]));
  const reading = (async () => {
    for await (const piece of queue) read.push(piece[0]!);
  })();
  while (read.length < 2) await new Promise((resolve) => setTimeout(resolve));
  assertEquals(read, [1, 2]);
  queue.add(new Uint8Array([3]));
  queue.end();
  await reading;
  assertEquals(read, [1, 2, 3]);
  assertEquals(taken, [1, 2, 3]);
});

Deno.test("PieceQueue tells of a piece only when its reader asks for the next", async () => {
  const taken: number[] = [];
  const queue = new PieceQueue((piece) => taken.push(piece[0]!));
  queue.add(new Uint8Array([1]));
  const pieces = queue[Symbol.asyncIterator]();
  assertEquals((await pieces.next()).value, new Uint8Array([1]));
  assertEquals(taken, []);
  queue.end();
  assertEquals((await pieces.next()).done, true);
  assertEquals(taken, [1]);
});

Deno.test("an error is the same after crossing as plain data", () => {
  const details = {
    hint: "do this",
    option: "grid",
    remedies: [{ option: "force", change: "set" } as const],
    data: { offset: 5, path: null, ok: true, name: "x" },
  };
  for (const ErrorClass of [InputError, IoError, UsageError, InterruptedError]) {
    const error = new ErrorClass("a: b: c", "why: so", details);
    const rebuilt = rebuiltError(structuredClone(plainError(error)));
    assert(rebuilt instanceof ErrorClass);
    assertEquals(rebuilt.message, error.message);
    assertEquals(rebuilt.name, error.name);
    assertEquals([rebuilt.what, rebuilt.why], ["a: b: c", "why: so"]);
    assertEquals([rebuilt.hint, rebuilt.option], ["do this", "grid"]);
    assertEquals(rebuilt.remedies, error.remedies);
    assertEquals<unknown>({ ...rebuilt.data }, details.data);
  }
});

Deno.test("an unexpected error keeps its message and stack, and is no expected one", () => {
  const error = new TypeError("x is undefined");
  const rebuilt = rebuiltError(structuredClone(plainError(error)));
  assertEquals(rebuilt.message, "x is undefined");
  assertEquals(rebuilt.stack, error.stack!);
  assert(!(rebuilt instanceof InputError));
  assertEquals(rebuiltError(plainError("thrown text")).message, "thrown text");
});
