// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * The table of checksum implementations of the kernel's "Ext4 Metadata Checksums" page, for this runtime: MB/s by
 * block size. Run it with `deno run -A bench/crc/main.ts` or `bun bench/crc/main.ts`.
 *
 * @module
 */
import { createCRC32 } from "hash-wasm";
import { crc32 } from "node:zlib";
import { crc32c } from "../../lib/bytes/crc32c.ts";
import { type Checksum, crc16Sarwate, crc32cSarwate, crc32cSlicing } from "./checksums.ts";

const BLOCK_SIZES_BYTES = [512 * 2 ** 20, 4096, 1024, 256, 128];
const RUN_MILLISECONDS = 300;
/** "123456789", and its checksums: a fast wrong answer is no answer. */
const CHECK_BYTES = new TextEncoder().encode("123456789");

interface Implementation {
  readonly name: string;
  readonly checksum: Checksum;
  /** Of CHECK_BYTES, from a register of all ones, inverted at the end; crc16 neither. */
  readonly check: number;
  readonly plain?: boolean;
}

async function implementations(): Promise<Implementation[]> {
  const wasm = await createCRC32(0x82f63b78);
  const wasmChecksum: Checksum = (bytes) => {
    wasm.init();
    wasm.update(bytes);
    return Number.parseInt(wasm.digest("hex"), 16);
  };
  const writers: Checksum = (bytes, start) => crc32c(start, bytes);
  const crc32cCheck = 0xe3069283;
  return [
    { name: "crc16 (ANSI), Sarwate", checksum: crc16Sarwate, check: 0xbb3d, plain: true },
    { name: "crc32c, Sarwate", checksum: crc32cSarwate, check: crc32cCheck },
    { name: "crc32c, slice by 4", checksum: crc32cSlicing(4), check: crc32cCheck },
    { name: "crc32c, slice by 8", checksum: crc32cSlicing(8), check: crc32cCheck },
    { name: "crc32c, slice by 16", checksum: crc32cSlicing(16), check: crc32cCheck },
    { name: "crc32c, hash-wasm", checksum: wasmChecksum, check: ~crc32cCheck >>> 0 },
    { name: "the library's (hash-wasm, seeded)", checksum: writers, check: crc32cCheck },
    { name: "crc32, node:zlib", checksum: (bytes) => ~crc32(bytes) >>> 0, check: 0xcbf43926 },
  ];
}

function verified(implementation: Implementation): Implementation {
  const { name, checksum, check, plain } = implementation;
  const register = checksum(CHECK_BYTES, plain ? 0 : 0xffffffff);
  const found = plain ? register : ~register >>> 0;
  if (found !== check) {
    throw new Error(`${name}: found ${found.toString(16)}, wanted ${check.toString(16)}`);
  }
  return implementation;
}

/** Bytes in MB/s, going through `input` block by block for a while, the whole input at least once. */
function rate(checksum: Checksum, input: Uint8Array, blockBytes: number): number {
  let doneBytes = 0;
  let register = 0xffffffff;
  const start = performance.now();
  let elapsedMs = 0;
  do {
    const until = Math.min(input.length, 16 * 2 ** 20);
    if (blockBytes >= input.length) {
      register = checksum(input, register);
      doneBytes += input.length;
    } else {
      for (let at = 0; at < until; at += blockBytes) {
        register = checksum(input.subarray(at, at + blockBytes), 0xffffffff);
      }
      doneBytes += until;
    }
    elapsedMs = performance.now() - start;
  } while (elapsedMs < RUN_MILLISECONDS);
  return register < 0 ? NaN : doneBytes / 1e3 / elapsedMs;
}

const input = new Uint8Array(BLOCK_SIZES_BYTES[0]!);
let state = 1;
for (let i = 0; i < input.length; i++) {
  state = Math.imul(state, 1664525) + 1013904223;
  input[i] = state >>> 24;
}
console.log("| checksum | 512 MiB | 4 KiB | 1 KiB | 256 B | 128 B |");
console.log("| -------- | ------: | ----: | ----: | ----: | ----: |");
for (const { name, checksum } of (await implementations()).map(verified)) {
  rate(checksum, input.subarray(0, 2 ** 20), 4096);
  const rates = BLOCK_SIZES_BYTES.map((bytes) => rate(checksum, input, bytes).toFixed(0));
  console.log(`| ${[name, ...rates].join(" | ")} |`);
}
