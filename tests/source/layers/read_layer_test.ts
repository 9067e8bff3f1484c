import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError, InterruptedError } from "../../../lib/errors.ts";
import { digestOf } from "../../../lib/bytes/digest.ts";
import { growingPieces } from "../../../lib/source/layers/load_layer.ts";
import {
  bigPieces,
  filePieces,
  type LayerJob,
  type LayerListener,
  PIECE_BYTES,
  readLayer,
} from "../../../lib/source/layers/read_layer.ts";
import { DEFAULT_SOURCE_LIMITS } from "../../../lib/source/types.ts";
import { gzipOf } from "../../io/compressed_samples.ts";
import { buildTar, joinBytes } from "../../tar/build.ts";
import { noise, sampleTar } from "../helpers.ts";

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

const QUIET: LayerListener = { entries: () => {}, progress: () => {}, stopped: () => false };

Deno.test("readLayer hands entries on in batches, and loses none", async () => {
  const entries = Array.from({ length: 1300 }, (_, i) => ({ path: `file-${i}` }));
  const batches: number[] = [];
  const paths: string[] = [];
  await readLayer(job(), [buildTar(entries)], undefined, {
    ...QUIET,
    entries: (batch) => {
      batches.push(batch.length);
      paths.push(...batch.map(({ path }) => path));
    },
  });
  assertEquals(batches, [512, 512, 276]);
  assertEquals(paths, entries.map(({ path }) => path));
});

Deno.test("readLayer counts what it reads and what that inflates to", async () => {
  const tar = sampleTar();
  const stored = gzipOf(tar);
  let storedBytes = 0;
  let uncompressedBytes = 0;
  const pieces = [stored.subarray(0, 50), stored.subarray(50)];
  const facts = await readLayer(job(), pieces, undefined, {
    ...QUIET,
    progress: (a, b) => {
      storedBytes += a;
      uncompressedBytes += b;
    },
  });
  assertEquals([storedBytes, uncompressedBytes], [stored.length, tar.length]);
  assertEquals([facts.storedBytes, facts.uncompressedBytes], [stored.length, tar.length]);
  assertEquals([facts.digest, facts.diffId], [digestOf(stored), digestOf(tar)]);
  assertEquals(facts.compression, "gzip");
});

Deno.test("readLayer says what the digest tells before what the decoder tells", async () => {
  const stored = gzipOf(sampleTar());
  const damaged = stored.slice();
  damaged[40]! ^= 0xff;
  const read = (more: Partial<LayerJob>) => readLayer(job(more), [damaged], undefined, QUIET);
  await assertRejects(() => read({}), InputError, "gzip data");
  await assertRejects(() => read({ wantedDigest: digestOf(damaged) }), InputError, "gzip data");
  await assertRejects(() => read({ wantedDigest: digestOf(stored) }), InputError, "its digest is");
});

Deno.test("readLayer reads no more than was announced", async () => {
  let asked = 0;
  function* endless(): Generator<Uint8Array> {
    for (;;) {
      asked++;
      yield new Uint8Array(1000);
    }
  }
  const read = () => readLayer(job({ sizeBytes: 2500 }), endless(), undefined, QUIET);
  await assertRejects(read, InputError, "longer than the 2500 bytes");
  assertEquals(asked, 3);
  const short = () =>
    readLayer(job({ sizeBytes: 2500 }), [sampleTar().subarray(0, 1024)], undefined, QUIET);
  await assertRejects(short, InputError);
});

Deno.test("readLayer stops between the outputs of one piece", async () => {
  const bomb = gzipOf(buildTar([{ path: "zeros", data: new Uint8Array(30_000_000) }]));
  let asked = 0;
  const read = () => readLayer(job(), [bomb], undefined, { ...QUIET, stopped: () => ++asked > 3 });
  await assertRejects(read, InterruptedError);
});

Deno.test("filePieces reads a part, through one buffer, to a file's early end", () => {
  const file = Uint8Array.from({ length: 100 }, (_, i) => i);
  const readAt = (target: Uint8Array, position: number) => {
    const part = file.subarray(position, position + target.length);
    target.set(part);
    return part.length;
  };
  const read = (offset: number, length: number) =>
    [...filePieces(readAt, offset, length)].map((piece) => [...piece]);
  assertEquals(read(10, 3), [[10, 11, 12]]);
  assertEquals(read(10, 0), []);
  assertEquals(read(98, 10), [[98, 99]]);
  assertEquals(read(100, 10), []);
});

Deno.test("bigPieces makes full pieces of pieces of any size", async () => {
  const total = 2 * PIECE_BYTES + 77;
  const bytes = new Uint8Array(total).map((_, i) => i);
  for (const pieceBytes of [1000, PIECE_BYTES, PIECE_BYTES + 1, total]) {
    const stream = async function* () {
      for (let at = 0; at < total; at += pieceBytes) {
        await Promise.resolve();
        yield bytes.subarray(at, at + pieceBytes);
        yield new Uint8Array(0);
      }
    };
    const pieces: Uint8Array[] = [];
    for await (const piece of bigPieces(stream())) pieces.push(piece);
    assertEquals(pieces.map(({ length }) => length), [PIECE_BYTES, PIECE_BYTES, 77]);
    assert(joinBytes(pieces).every((byte, i) => byte === bytes[i]));
  }
});

/** A file that is as long as `lengths` says, look by look, and its whole content. */
function growing(bytes: Uint8Array, lengths: readonly number[]) {
  let looks = 0;
  const length = () => lengths[Math.min(looks, lengths.length) - 1] ?? 0;
  return {
    isComplete: () => ++looks >= lengths.length,
    readAt: (target: Uint8Array, position: number) => {
      const part = bytes.subarray(position, Math.min(position + target.length, length()));
      target.set(part);
      return part.length;
    },
  };
}

Deno.test("growingPieces gives all of a file, however it grows, in full pieces", async () => {
  const bytes = noise(2 * PIECE_BYTES + 5);
  const ways = [
    [bytes.length],
    [0, 0, 1, 1, PIECE_BYTES, bytes.length],
    [PIECE_BYTES - 1, PIECE_BYTES + 1, 2 * PIECE_BYTES, bytes.length],
    // All of it was there before it was known to be all.
    [bytes.length, bytes.length, bytes.length, bytes.length],
  ];
  for (const lengths of ways) {
    const { readAt, isComplete } = growing(bytes, lengths);
    const found = new Uint8Array(bytes.length);
    const sizes: number[] = [];
    let at = 0;
    for await (const piece of growingPieces(readAt, isComplete)) {
      found.set(piece, at);
      at += piece.length;
      sizes.push(piece.length);
    }
    assertEquals(sizes, [PIECE_BYTES, PIECE_BYTES, 5]);
    assertEquals(found, bytes);
  }
});

Deno.test("growingPieces ends with the last full piece, and gives nothing of an empty file", async () => {
  for (const count of [0, 1, 2]) {
    const { readAt, isComplete } = growing(noise(count * PIECE_BYTES), [0, count * PIECE_BYTES]);
    let pieces = 0;
    for await (const piece of growingPieces(readAt, isComplete)) {
      assertEquals(piece.length, PIECE_BYTES);
      pieces++;
    }
    assertEquals(pieces, count);
  }
});

Deno.test("growingPieces gives up when it is told that the file will not be whole", async () => {
  let looks = 0;
  const isComplete = () => {
    if (++looks === 3) throw new Error("the program died");
    return false;
  };
  const read = async () => {
    for await (const piece of growingPieces(() => 0, isComplete)) assertEquals(piece.length, 0);
  };
  await assertRejects(read, Error, "the program died");
});
