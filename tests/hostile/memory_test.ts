/**
 * What hostile input can take of this machine: the real program, its peak memory measured from outside, and nothing left
 * behind.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import * as zlib from "node:zlib";
import { environment, MAIN, programWords } from "../cli/program.ts";
import { HAS_ZSTD } from "../io/compressed_samples.ts";
import { notRun } from "../oracle/notice.ts";
import { withDirectory } from "../source/helpers.ts";
import { buildTar, joinBytes } from "../tar/build.ts";
import { padded, paxHeader, rawEntry, rawHeader, rawTar } from "../tar/raw.ts";

/** Above what the program takes for a tar of one file. */
const MIB = 1 << 20;
const ALLOWANCE_BYTES = 160 * MIB;
/** With the default limits: takes minutes, and gibibytes of the disk. */
const IS_FULL = process.env["BLESSFS_HOSTILE_MEMORY"] === "full";

interface Run {
  readonly code: number | null;
  readonly stderr: string;
  /** The most memory that was resident at once; 0 where the system does not tell. */
  readonly peakBytes: number;
}

/** Runs the program on a source, with temporary files of its own that must be gone afterwards. */
async function run(directory: string, source: string, ...more: string[]): Promise<Run> {
  const tmpdir = join(directory, "tmp");
  mkdirSync(tmpdir, { recursive: true });
  const output = join(directory, "image.ext4");
  rmSync(output, { force: true });
  const [command, ...words] = programWords(MAIN);
  const args = ["bless", source, "-o", output, "--quiet", "--tmpdir", tmpdir, ...more];
  const child = spawn(command, [...words, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: environment(),
  });
  let stderr = "";
  child.stderr.on("data", (text) => stderr += text);
  let peakBytes = 0;
  const poll = setInterval(() => peakBytes = Math.max(peakBytes, peakOf(child.pid!)), 20);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearInterval(poll);
  assertEquals(readdirSync(tmpdir), []);
  assertEquals(existsSync(output), code === 0);
  assertEquals(readdirSync(directory).filter((name) => name.includes(".part-")), []);
  return { code, stderr, peakBytes };
}

/** Linux keeps the peak of a process for as long as it lives. */
function peakOf(pid: number): number {
  try {
    const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(kibibytes?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

let baseline: Run | undefined;

async function baselineOf(directory: string): Promise<Run> {
  const path = join(directory, "small.tar");
  writeFileSync(path, buildTar([{ path: "f", data: "1" }]));
  return baseline ??= await run(directory, `tar:${path}`);
}

function write(directory: string, name: string, parts: readonly Uint8Array[]): string {
  const path = join(directory, name);
  writeFileSync(path, joinBytes(parts));
  return `tar:${path}`;
}

/** One header, and a payload of zeros without an end: members of a stream that follow one another. */
function bomb(compress: (bytes: Uint8Array) => Uint8Array, count: number): Uint8Array[] {
  const member = compress(new Uint8Array(64 * MIB));
  const header = compress(rawHeader({ name: "zeros", size: "\x80\0\0\0\0\0\0\x10\0\0\0\0" }));
  return [header, ...Array.from({ length: count }, () => member)];
}

interface Case {
  readonly name: string;
  readonly parts: () => Uint8Array[];
  readonly options?: readonly string[];
  /** What the error says; undefined where the input is accepted. */
  readonly refused?: string;
  readonly allowanceBytes?: number;
}

const gzip = (bytes: Uint8Array) => zlib.gzipSync(bytes, { level: 9 });
const HEADERS_64_MIB = () => {
  const header = rawHeader({ name: "same" });
  return Buffer.concat(Array.from({ length: 64 * MIB / 512 }, () => header));
};

const CASES: readonly Case[] = [
  {
    name: "a gzip bomb stops at the limit of unpacked bytes",
    parts: () => bomb(gzip, 100),
    options: ["--limit", "unpacked-bytes=200M"],
    refused: "inflates to more than 209715200 bytes",
  },
  {
    name: "a gzip bomb stops at a ratio",
    parts: () => bomb(gzip, 100),
    options: ["--limit", "unpacked-ratio=500,unpacked-ratio-floor-bytes=100M"],
    refused: "inflate to more than 500 times as many",
  },
  {
    name: "zeros behind the end of a tar stop at the limit of unpacked bytes",
    parts: () => [gzip(buildTar([])), ...bomb(gzip, 100).slice(1)],
    options: ["--limit", "unpacked-bytes=200M"],
    refused: "inflates to more than",
  },
  {
    name: "headers without an end stop at the limit of entries",
    parts: () => {
      const member = gzip(HEADERS_64_MIB());
      return Array.from({ length: 80 }, () => member);
    },
    options: ["--limit", "layer-entries=100000"],
    refused: "the number of entries is 100001",
  },
  {
    name: "headers that stand for no file stop at the limit of headers",
    parts: () => {
      const label = rawHeader({ name: "label", flag: "V" });
      return [gzip(Buffer.concat(Array.from({ length: 300_000 }, () => label)))];
    },
    options: ["--limit", "layer-headers=200000"],
    refused: "the number of headers is 200001",
  },
  {
    name: "paths of the greatest depth are taken, over and over",
    parts: () => {
      const deep = "d/".repeat(1000);
      const entries = Array.from({ length: 50 }, (_, i) => ({ path: `${i}/${deep}f` }));
      return [buildTar(entries)];
    },
    // Of 50,000 directories.
    allowanceBytes: 400 * MIB,
  },
  {
    name: "sparse maps of the greatest length are read",
    parts: () => {
      const ranges = 262_144;
      const map = Array.from({ length: ranges }, (_, i) => `${i * 8192}\n0\n`).join("");
      const stored = padded(`${ranges}\n${map}`);
      const records = [["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], [
        "GNU.sparse.realsize",
        `${ranges * 8192}`,
      ]] as const;
      const file = joinBytes([paxHeader(records), rawEntry({}, stored)]);
      return [gzip(Buffer.concat([file, file])), gzip(rawTar(file))];
    },
    // Of three quarters of a million ranges.
    allowanceBytes: 400 * MIB,
  },
  {
    name: "a PAX header of gibibytes is refused by its size",
    parts:
      () => [rawHeader({ flag: "x", size: "\x80\0\0\0\0\0\0\x10\0\0\0\0" }), new Uint8Array(512)],
    refused: "more than the limit of 1048576",
  },
  {
    name: "PAX headers of a mebibyte each stop at their limit together",
    parts: () => {
      const value = "v".repeat(1_000_000);
      const entry = joinBytes([paxHeader([["SCHILY.xattr.user.a", value]]), rawHeader({})]);
      return [gzip(Buffer.concat(Array.from({ length: 100 }, () => entry)))];
    },
    options: ["--limit", "extended-header-total-bytes=40M"],
    refused: "the size of all extended headers",
  },
  {
    name: "symlinks that lead through each other stop at the limit of hops",
    parts: () => {
      const links = Array.from({ length: 1000 }, (_, i) => ({
        path: `s${i}`,
        link: `s${i + 1}/s${i + 1}`,
      }));
      return [buildTar([...links, { path: "s1000", link: "." }, { path: "s0/f" }])];
    },
    refused: "more than 255 symlinks",
  },
];

for (const { name, parts, options = [], refused, allowanceBytes = ALLOWANCE_BYTES } of CASES) {
  Deno.test(`${name}, in bounded memory`, async () => {
    await withDirectory(async (directory) => {
      const small = await baselineOf(directory);
      assertEquals([small.code, small.stderr], [0, ""]);
      const found = await run(directory, write(directory, "hostile.tar", parts()), ...options);
      if (refused === undefined) assertEquals([found.code, found.stderr], [0, ""]);
      else {
        assertEquals(found.code, 3, found.stderr);
        assertStringIncludes(found.stderr, refused);
      }
      assertPeak(found, small, allowanceBytes);
    });
  });
}

function assertPeak(found: Run, small: Run, allowanceBytes: number): void {
  if (small.peakBytes === 0) return notRun("peak memory", "this system does not tell it in /proc");
  const more = found.peakBytes - small.peakBytes;
  assert(more < allowanceBytes, `${Math.round(more / MIB)} MiB more than for a small tar`);
}

Deno.test("a zstd bomb stops at the usual ratio, in bounded memory", async () => {
  if (!HAS_ZSTD) return notRun("a zstd bomb", "this runtime's node:zlib does not know zstd");
  await withDirectory(async (directory) => {
    const small = await baselineOf(directory);
    const parts = bomb((bytes) => zlib.zstdCompressSync(bytes), 20);
    const found = await run(directory, write(directory, "hostile.tar", parts));
    assertEquals(found.code, 3, found.stderr);
    assertStringIncludes(found.stderr, "inflate to more than 2000 times as many");
    assertPeak(found, small, ALLOWANCE_BYTES);
  });
});

Deno.test("ten million entries stop at the usual limits, in the memory that docs/LIMITS.md says", async () => {
  if (!IS_FULL) return notRun("ten million entries", "BLESSFS_HOSTILE_MEMORY is not full");
  await withDirectory(async (directory) => {
    const small = await baselineOf(directory);
    const members = Array.from({ length: 100 }, (_, part) => distinctHeaders(part, 100_000));
    const source = write(directory, "hostile.tar", members);
    const found = await run(directory, source);
    assertStringIncludes(found.stderr, "the number of entries is 1048577");
    process.stdout.write(`peak of ten million entries: ${Math.round(found.peakBytes / MIB)} MiB\n`);
    assertPeak(found, small, 3072 * MIB);
  });
});

/** Headers of files with a name each, compressed. */
function distinctHeaders(part: number, count: number): Uint8Array {
  const digits = 10;
  const template = rawHeader({ name: "0".repeat(digits) });
  const sumOfRest =
    template.reduce((sum, byte, i) => i >= 148 && i < 156 ? sum + 32 : sum + byte, 0) -
    digits * 0x30;
  const bytes = Buffer.alloc(count * 512);
  for (let i = 0; i < count; i++) {
    const at = i * 512;
    bytes.set(template, at);
    const name = `${(part * count + i) % 1000}/`.padEnd(4, "x") +
      (part * count + i).toString(36).padStart(6, "0");
    bytes.write(name, at, "latin1");
    let sum = sumOfRest;
    for (let j = 0; j < digits; j++) sum += name.charCodeAt(j);
    bytes.write(sum.toString(8).padStart(6, "0"), at + 148, "latin1");
  }
  return zlib.gzipSync(bytes, { level: 1 });
}

/** What no source may take, whatever it asks for; less where the limits are an eighth of the usual ones. */
const BOUND_BYTES = (IS_FULL ? 700 : 400) * MIB;
const SHARE = IS_FULL ? 1 : 1 / 8;

Deno.test("attributes and implied directories without end are refused by limits that are named", async () => {
  await withDirectory(async (directory) => {
    const options = IS_FULL
      ? []
      : ["--limit", `attribute-bytes=${128 * SHARE}M,implied-directories=${262_144 * SHARE}`];
    const times = <T>(count: number, make: (i: number) => T) =>
      Array.from({ length: Math.ceil(count * SHARE) }, (_, i) => make(i));
    const value = "x".repeat(60_000);
    const attributes = times(2300, (i) => [
      paxHeader([["SCHILY.xattr.user.a", value]]),
      rawHeader({ name: `f${i}` }),
    ]);
    const many = times(60, (i) => [
      paxHeader(Array.from({ length: 18_000 }, (_, j) => [`SCHILY.xattr.user.${j}`, "v"])),
      rawHeader({ name: `f${i}` }),
    ]);
    const deep = "a/".repeat(1000);
    const implied = times(300, (i) => [
      paxHeader([["path", `${i}/${deep}f`]]),
      rawHeader({ name: "f" }),
    ]);
    for (
      const [parts, limit] of [
        [attributes, "attribute-bytes"],
        [many, "attribute-bytes"],
        [implied, "implied-directories"],
      ] as const
    ) {
      const source = write(directory, "bad.tar", [...parts.flat(), new Uint8Array(1024)]);
      const found = await run(directory, source, ...options);
      assertEquals(found.code, 3, found.stderr);
      assert(found.stderr.includes(`--limit ${limit}=`), found.stderr.slice(-300));
      assert(found.peakBytes < BOUND_BYTES, `${limit}: ${found.peakBytes}`);
    }
  });
});
