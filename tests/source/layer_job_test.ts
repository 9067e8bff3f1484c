import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/io/digest.ts";
import {
  bigPieces,
  filePieces,
  type LayerJob,
  type LayerListener,
  PIECE_BYTES,
  readLayer,
} from "../../lib/source/layer_job.ts";
import { DEFAULT_SOURCE_LIMITS } from "../../lib/source/limits.ts";
import { gzipOf } from "../io/compressed_samples.ts";
import { buildTar, joinBytes } from "../tar/build.ts";
import { sampleTar } from "./helpers.ts";

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
