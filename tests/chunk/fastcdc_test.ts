import { assertEquals, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  Chunker,
  type ChunkerParameters,
  fastCdcGearTable,
  fastCdcParameters,
  GEAR_PARAMETERS,
  KERNEL_BASE64,
  splitMixGearTable,
} from "../../lib/chunk/fastcdc.ts";
import { UsageError } from "../../lib/errors.ts";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { notRun } from "../oracle/notice.ts";

type Chunk = [hash: bigint, length: number];

const PICTURE = readFileSync(new URL("./fixtures/sekien_akashita.jpg", import.meta.url));

function fastCdc(
  sizes: readonly [min: number, average: number, max: number],
  change: { normalization?: number; seed?: bigint } = {},
): ChunkerParameters {
  const [min, average, max] = sizes;
  return { ...fastCdcParameters(average, min, max), ...change } as ChunkerParameters;
}

function chunksOf(parameters: ChunkerParameters, bytes: Uint8Array, piece = bytes.length): Chunk[] {
  const chunks: Chunk[] = [];
  let expectedOffset = 0;
  const chunker = new Chunker(parameters, (chunk, offset, hash) => {
    assertEquals(offset, expectedOffset);
    expectedOffset += chunk.length;
    chunks.push([hash, chunk.length]);
  });
  for (let at = 0; at < bytes.length; at += piece) chunker.push(bytes.subarray(at, at + piece));
  chunker.finish();
  assertEquals(chunker.offset, bytes.length);
  return chunks;
}

function lengthsOf(parameters: ChunkerParameters, bytes: Uint8Array, piece?: number): number[] {
  return chunksOf(parameters, bytes, piece).map(([, length]) => length);
}

/** xorshift32, as little-endian words. */
function noise(sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  const view = new DataView(bytes.buffer);
  let state = 0x12345678;
  for (let at = 0; at < sizeBytes; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    view.setUint32(at, state >>> 0, true);
  }
  return bytes;
}

Deno.test("Chunker cuts the published picture where fastcdc-rs v2020 cuts it, with its hashes", () => {
  assertEquals(chunksOf(fastCdc([4096, 16384, 65535]), PICTURE), [
    [17968276318003433923n, 21325],
    [8197189939299398838n, 17140],
    [13019990849178155730n, 28084],
    [4509236223063678303n, 18217],
    [2504464741100432583n, 24700],
  ]);
  assertEquals(chunksOf(fastCdc([8192, 32768, 131072]), PICTURE), [
    [15733367461443853673n, 66549],
    [6321136627705800457n, 42917],
  ]);
  assertEquals(chunksOf(fastCdc([16384, 65536, 262144]), PICTURE), [
    [2504464741100432583n, 109466],
  ]);
});

Deno.test("Chunker with seed 666 cuts as published", () => {
  assertEquals(chunksOf(fastCdc([4096, 16384, 65535], { seed: 666n }), PICTURE), [
    [9312357714466240148n, 10605],
    [226910853333574584n, 55745],
    [12271755243986371352n, 11346],
    [14153975939352546047n, 5883],
    [5890158701071314778n, 11586],
    [8981594897574481255n, 14301],
  ]);
});

Deno.test("Chunker at normalization 0 and 3 cuts as published", () => {
  assertEquals(chunksOf(fastCdc([4096, 16384, 65535], { normalization: 0 }), PICTURE), [
    [443122261039895162n, 6634],
    [15733367461443853673n, 59915],
    [10460176299449652894n, 25597],
    [6197802202431009942n, 5237],
    [6321136627705800457n, 12083],
  ]);
  assertEquals(chunksOf(fastCdc([8192, 16384, 32768], { normalization: 3 }), PICTURE), [
    [10718006254707412376n, 17350],
    [13104072099671895560n, 19911],
    [12322483109039221194n, 17426],
    [16009206469796846404n, 17519],
    [2473608525189754172n, 19940],
    [2504464741100432583n, 17320],
  ]);
});

Deno.test("Chunker at normalization 2 cuts as the vectors of Bazel's remote-apis", () => {
  const sizes = [4096, 16384, 65535] as const;
  assertEquals(chunksOf(fastCdc(sizes, { normalization: 2 }), PICTURE), [
    [17583755766661134474n, 19186],
    [4098594969649699419n, 19279],
    [2365586132076908760n, 17354],
    [16009206469796846404n, 16387],
    [2473608525189754172n, 19940],
    [2504464741100432583n, 17320],
  ]);
  assertEquals(lengthsOf(fastCdc(sizes, { normalization: 2, seed: 666n }), PICTURE), [
    17635,
    17334,
    19136,
    17467,
    23593,
    14301,
  ]);
});

Deno.test("Chunker cuts zeros at the maximum, with the published hash", () => {
  assertEquals(
    chunksOf(fastCdc([64, 256, 1024]), new Uint8Array(10240)),
    Array.from({ length: 10 }, () => [14169102344523991076n, 1024]),
  );
});

Deno.test("Chunker cuts a mebibyte of noise into the known lengths", () => {
  const bytes = noise(1024 * 1024);
  const digest = createHash("sha256").update(bytes).digest("hex");
  assertEquals([digest.slice(0, 8), digest.slice(-8)], ["d26b9f08", "5208f915"]);
  const K = 1024;
  assertEquals(
    lengthsOf(fastCdc([32 * K, 128 * K, 512 * K]), bytes),
    [150167, 159698, 142158, 71464, 48084, 65115, 150380, 261510],
  );
  assertEquals(lengthsOf(fastCdc([16 * K, 64 * K, 256 * K]), bytes), [
    ...[109297, 40870, 78792, 80906, 124394, 46539, 42689],
    ...[48084, 22741, 42374, 70486, 77936, 158995, 104473],
  ]);
  const harder = lengthsOf(fastCdc([16 * K, 64 * K, 256 * K], { normalization: 2 }), bytes);
  assertEquals(harder.length, 15);
  assertEquals(harder.slice(0, 14), [
    ...[88776, 69100, 71083, 80906, 97171, 73762, 42689],
    ...[48084, 22741, 42374, 76234, 72188, 66135, 102679],
  ]);
  const fine = lengthsOf(fastCdc([4 * K, 16 * K, 64 * K]), bytes);
  const words = Buffer.from(Uint32Array.from(fine).buffer);
  assertEquals(fine.length, 51);
  assertEquals(
    createHash("sha256").update(words).digest("hex").slice(0, 16),
    "cde103eb4b70e829",
  );
});

Deno.test("Chunker cuts the same wherever its input is cut", () => {
  const bytes = noise(600_000);
  const parameters = fastCdc([64, 256, 1024]);
  const whole = chunksOf(parameters, bytes);
  for (const piece of [1021, 4096, 299_999]) {
    assertEquals(chunksOf(parameters, bytes, piece), whole);
  }
});

Deno.test("Chunker.pushZeros cuts as push does, but keeps long runs of zeros to itself", () => {
  for (const parameters of [fastCdc([64, 256, 1024]), GEAR_PARAMETERS]) {
    const bytes = noise(300_000);
    const zeroRuns: [number, number][] = [[1000, 1], [5000, 5000], [60_000, 200_000]];
    for (const [at, count] of zeroRuns) bytes.fill(0, at, at + count);
    const collect = (feed: (chunker: Chunker) => void) => {
      const chunks: string[] = [];
      const chunker = new Chunker(parameters, (chunk, offset) => {
        if (chunk.some((byte) => byte !== 0)) chunks.push(`${offset}+${chunk.length}`);
      });
      feed(chunker);
      assertEquals(chunker.offset, bytes.length);
      chunker.finish();
      return chunks;
    };
    const pushed = collect((chunker) => chunker.push(bytes));
    const skipped = collect((chunker) => {
      let at = 0;
      for (const [start, count] of zeroRuns) {
        chunker.push(bytes.subarray(at, start));
        chunker.pushZeros(count);
        at = start + count;
      }
      chunker.push(bytes.subarray(at));
    });
    assertEquals(skipped, pushed);
  }
});

Deno.test("Chunker with gear parameters cuts as a plain loop over the definition", () => {
  const bytes = noise(3 * 1024 * 1024);
  assertEquals(lengthsOf(GEAR_PARAMETERS, bytes), plainGearLengths(bytes));
  assertEquals(lengthsOf(GEAR_PARAMETERS, new Uint8Array(1024 * 1024 + 5)), [1024 * 1024, 5]);
});

function plainGearLengths(bytes: Uint8Array): number[] {
  const table = Array.from(splitMixGearTable(), (value) => Number(value & 0x1ffffn));
  const lengths: number[] = [];
  let start = 0;
  let hash = 0;
  for (let i = 0; i < bytes.length; i++) {
    hash = ((hash << 1) + table[bytes[i]!]!) & 0x1ffff;
    const length = i + 1 - start;
    if (length < 16 * 1024 || (hash !== 0 && length < 1024 * 1024)) continue;
    lengths.push(length);
    start = i + 1;
    hash = 0;
  }
  if (start < bytes.length) lengths.push(bytes.length - start);
  return lengths;
}

Deno.test("fastCdcParameters refuses sizes out of range and out of order", () => {
  for (
    const sizes of [[255], [2 ** 22 + 1], [4096, 63], [4096, 8192], [4096, 64, 4095], [
      4096,
      64,
      2 ** 24 + 1,
    ]]
  ) {
    assertThrows(
      () => fastCdcParameters(...(sizes as [number, number?, number?])),
      UsageError,
      "chunker: wanted",
    );
  }
});

Deno.test("KERNEL_BASE64 is what wat2wasm makes of fastcdc_kernel.wat", () => {
  const source = fileURLToPath(new URL("../../lib/chunk/fastcdc_kernel.wat", import.meta.url));
  const directory = mkdtempSync(join(tmpdir(), "blessfs-kernel-"));
  try {
    const target = join(directory, "kernel.wasm");
    const run = spawnSync("wat2wasm", [source, "-o", target], { encoding: "utf8" });
    if (run.error !== undefined) {
      notRun("the kernel against its own assembly", "wat2wasm is not installed");
      return;
    }
    assertEquals(run.stderr, "");
    assertEquals(readFileSync(target).toString("base64"), KERNEL_BASE64);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

Deno.test("fastCdcGearTable is the published table, and a seed changes every entry", () => {
  const table = fastCdcGearTable();
  assertEquals(
    createHash("sha256").update(Buffer.from(table.buffer)).digest("hex"),
    "91a3061015ae351cd3701852712bcd6aa4a1ce26c8a231d3969432b00f028f88",
  );
  assertEquals(fastCdcGearTable(666n).map((value) => value ^ 666n), table);
});

Deno.test("splitMixGearTable has splitmix64's numbers behind the first", () => {
  // The generator's first outputs from the state 0 are known; ours begins one step on.
  const table = splitMixGearTable();
  assertEquals(table[0], 0x6e789e6aa1b965f4n);
  assertEquals(table[1], 0x06c45d188009454fn);
});
