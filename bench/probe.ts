/**
 * How fast the probe's cutters go, beside SHA-256 of the same bytes in the same run: `deno run -A bench/probe.ts`.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cpuUsage, stdout } from "node:process";
import { openFileReader, readExactly } from "../lib/io/random_reader.ts";
import { Chunker, fastCdcParameters, GEAR_PARAMETERS } from "../lib/chunk/fastcdc.ts";
import { CellCutter } from "../probe/units/cutters.ts";
import { ContentTable } from "../probe/units/store.ts";

const MIB = 1024 * 1024;
const INPUT_BYTES = 256 * MIB;
const GRID_BYTES = 128 * 1024;
const RUNS = 3;

/** xorshift32: no two cells are equal, and chunks have their usual lengths. */
function noise(sizeBytes: number): Uint8Array {
  const words = new Uint32Array(sizeBytes / 4);
  let state = 0x12345678;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}

/** The best of some runs, in MB of input for a second of this process's time on a core, whatever else the machine does. */
function measure(name: string, run: () => void): void {
  let bestMs = Infinity;
  for (let i = 0; i < RUNS; i++) {
    const before = cpuUsage();
    run();
    const { user, system } = cpuUsage(before);
    bestMs = Math.min(bestMs, (user + system) / 1000);
  }
  const rate = INPUT_BYTES / 1e6 / (bestMs / 1000);
  stdout.write(`${name.padEnd(52)}${rate.toFixed(0).padStart(7)} MB/s\n`);
}

const input = noise(INPUT_BYTES);

function eachPiece(use: (piece: Uint8Array, offset: number) => void): void {
  for (let at = 0; at < input.length; at += MIB) use(input.subarray(at, at + MIB), at);
}

measure("sha256 of 128 KiB blocks", () => {
  for (let at = 0; at < input.length; at += GRID_BYTES) {
    createHash("sha256").update(input.subarray(at, at + GRID_BYTES)).digest();
  }
});
measure("fixed grid of 128 KiB, cut and hashed", () => {
  const table = new ContentTable();
  const cutter = new CellCutter(GRID_BYTES, (cell) => table.indexOfBytes(cell, undefined));
  eachPiece((piece, offset) => cutter.write(piece, offset));
  cutter.finish(input.length);
});
measure("FastCDC 32K:128K:512K, cut only", () => {
  const chunker = new Chunker(fastCdcParameters(GRID_BYTES), () => {});
  eachPiece((piece) => chunker.push(piece));
  chunker.finish();
});
measure("gear 16K to 1M, cut only", () => {
  const chunker = new Chunker(GEAR_PARAMETERS, () => {});
  eachPiece((piece) => chunker.push(piece));
  chunker.finish();
});

/** The same from a file that is in memory: what the probe does with a whole image. */
function eachPieceOfFile(path: string, use: (piece: Uint8Array, offset: number) => void): void {
  const reader = openFileReader(path);
  const piece = new Uint8Array(MIB);
  for (let at = 0; at < INPUT_BYTES; at += MIB) {
    readExactly(reader, piece, at);
    use(piece, at);
  }
  reader.close();
}

const directory = mkdtempSync(join(tmpdir(), "blessfs-bench-"));
try {
  const path = join(directory, "input");
  writeFileSync(path, input);
  measure("a file: fixed grid of 128 KiB, read, cut and hashed", () => {
    const table = new ContentTable();
    const cutter = new CellCutter(GRID_BYTES, (cell) => table.indexOfBytes(cell, undefined));
    eachPieceOfFile(path, (piece, offset) => cutter.write(piece, offset));
    cutter.finish(INPUT_BYTES);
  });
  measure("a file: FastCDC 32K:128K:512K, read and cut", () => {
    const chunker = new Chunker(fastCdcParameters(GRID_BYTES), () => {});
    eachPieceOfFile(path, (piece) => chunker.push(piece));
    chunker.finish();
  });
} finally {
  rmSync(directory, { recursive: true });
}
