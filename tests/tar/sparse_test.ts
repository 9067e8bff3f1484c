import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { InputError } from "../../lib/errors.ts";
import { joinBytes } from "./build.ts";
import type { RawHeader } from "./raw.ts";
import { padded, paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
import { contentOf, readOne, readTar } from "./read.ts";

type Range = readonly [fileOffset: number, lengthBytes: number];

const text = new TextDecoder();

/** Twelve octal digits of a map in the old format. */
function octal(value: number): ByteString {
  return value.toString(8).padStart(11, "0") + "\0";
}

/** A sparse file in the old GNU format, with as many blocks of map as it takes. */
function oldSparse(
  ranges: readonly Range[],
  realSize: number,
  data: string,
  header: RawHeader = {},
) {
  const texts = ranges.map(([offset, length]) => octal(offset) + octal(length));
  const blocks: Uint8Array[] = [];
  for (let i = 4; i < texts.length; i += 21) {
    const block = texts.slice(i, i + 21).join("").padEnd(504, "\0");
    blocks.push(padded(block + (i + 21 < texts.length ? "\x01" : "\0")));
  }
  return rawTar(
    rawHeader({
      flag: "S",
      format: "gnu",
      name: "s",
      size: data.length,
      patches: [
        [386, texts.slice(0, 4).join("")],
        [482, texts.length > 4 ? "\x01" : "\0"],
        [483, octal(realSize)],
      ],
      ...header,
    }),
    ...blocks,
    padded(data),
    rawEntry({ name: "next" }, "N"),
  );
}

function sparse00(ranges: readonly Range[], realSize: number, data: string) {
  const records: [string, string][] = [
    ["GNU.sparse.size", `${realSize}`],
    ["GNU.sparse.numblocks", `${ranges.length}`],
  ];
  for (const [offset, length] of ranges) {
    records.push(["GNU.sparse.offset", `${offset}`], ["GNU.sparse.numbytes", `${length}`]);
  }
  return rawTar(paxHeader(records), rawEntry({ name: "s" }, data), rawEntry({ name: "next" }, "N"));
}

function sparse01(ranges: readonly Range[], realSize: number, data: string) {
  return rawTar(
    paxHeader([
      ["GNU.sparse.size", `${realSize}`],
      ["GNU.sparse.numblocks", `${ranges.length}`],
      ["GNU.sparse.name", "s"],
      ["GNU.sparse.map", ranges.join(",")],
    ]),
    rawEntry({ name: "GNUSparseFile.1/s" }, data),
    rawEntry({ name: "next" }, "N"),
  );
}

function sparse10(ranges: readonly Range[], realSize: number, data: string, map?: string) {
  const mapText = map ?? [ranges.length, ...ranges.flat()].join("\n") + "\n";
  return rawTar(
    paxHeader([
      ["GNU.sparse.major", "1"],
      ["GNU.sparse.minor", "0"],
      ["GNU.sparse.name", "s"],
      ["GNU.sparse.realsize", `${realSize}`],
    ]),
    rawEntry(
      { name: "GNUSparseFile.1/s" },
      joinBytes([padded(mapText), new TextEncoder().encode(data)]),
    ),
    rawEntry({ name: "next" }, "N"),
  );
}

const FORMATS = { old: oldSparse, "0.0": sparse00, "0.1": sparse01, "1.0": sparse10 };

function ranges(count: number): Range[] {
  return Array.from({ length: count }, (_, i) => [i * 10 + 3, 2]);
}

Deno.test("sparse files of all four formats give the same content, hash and runs", () => {
  for (const count of [1, 4, 5, 25, 26, 100]) {
    const data = "ab".repeat(count);
    const expected = new Uint8Array(count * 10 + 7);
    for (const [offset] of ranges(count)) expected.set([97, 98], offset);
    for (const [name, build] of Object.entries(FORMATS)) {
      const tar = build(ranges(count), expected.length, data);
      for (const chunkSize of [1, 512, 513, 100000]) {
        const { entries } = readTar(tar, { chunkSizes: [chunkSize] });
        assertEquals(entries.map(({ path }) => path), ["s", "next"], name);
        assertEquals(entries[0]!.payload?.segments.length, count);
        assertEquals(contentOf(entries[0]!, tar), expected, `${name} with ${count} ranges`);
        const plain = readOne(rawTar(rawEntry({}, expected)));
        assertEquals(entries[0]!.payload?.contentHash, plain.payload?.contentHash);
        assertEquals(entries[0]!.payload?.dataRuns, plain.payload?.dataRuns);
      }
    }
  }
});

Deno.test("sparse files may end in a hole, begin with one, be nothing but one, or hold no hole", () => {
  for (const build of Object.values(FORMATS)) {
    const cases: [Range[], number, string][] = [
      [[[0, 3], [5000, 0]], 5000, "abc"],
      [[[4997, 3]], 5000, "abc"],
      [[[5000, 0]], 5000, ""],
      [[[0, 5]], 5, "hello"],
      [[[0, 0], [0, 2], [2, 0], [2, 3]], 5, "hello"],
    ];
    for (const [map, size, data] of cases) {
      const tar = build(map, size, data);
      const [entry, next] = readTar(tar).entries;
      assertEquals(entry!.payload?.sizeBytes, size);
      assertEquals(text.decode(contentOf(entry!, tar)).replaceAll("\0", ""), data);
      assertEquals(next!.path, "next");
    }
  }
});

Deno.test("a sparse file with an empty map is one hole", () => {
  for (const build of [sparse00, sparse01, sparse10]) {
    const entry = readTar(build([], 100000, "")).entries[0]!;
    assertEquals(
      entry.payload,
      { sizeBytes: 100000, segments: [], dataRuns: [], contentHash: 0 },
    );
  }
});

Deno.test("a block put together from holes and stored zeros is no data", () => {
  const { payload } = readTar(
    sparse10([[100, 4], [4000, 200], [8200, 4]], 9000, "\0\0\0\0" + "\0".repeat(200) + "\0x\0\0"),
  ).entries[0]!;
  assertEquals(payload?.dataRuns, [{ startBlock: 2, blockCount: 1 }]);
  assertEquals(payload?.segments.length, 3);
});

Deno.test("sparse maps must ascend, stay within the file, and add up to what is stored", () => {
  for (const [name, build] of Object.entries(FORMATS)) {
    const cases: [Range[], number, string, string][] = [
      [[[10, 2], [5, 2]], 100, "abcd", "before the end of the one before"],
      [[[10, 5], [14, 2]], 100, "abcdefg", "before the end of the one before"],
      [[[10, 5], [12, 0]], 100, "abcde", "before the end of the one before"],
      [[[98, 3]], 100, "abc", "beyond its size of 100"],
      [[[101, 0]], 100, "", "beyond its size of 100"],
      [[[10, 5]], 100, "abc", "adds up to 5 bytes, and 3 are stored"],
      [[[10, 5]], 100, "abcdefg", "adds up to 5 bytes, and 7 are stored"],
      [[], 100, "abc", "adds up to 0 bytes, and 3 are stored"],
    ];
    for (const [map, size, data, why] of cases) {
      const error = assertThrows(() => readTar(build(map, size, data)), InputError);
      assertStringIncludes(error.message, why, name);
      assertStringIncludes(error.message, 'test.tar: "s" at offset 0', name);
    }
  }
});

Deno.test("sparse maps of GNU.sparse 1.0 are decimal lines that end within the data", () => {
  const cases: [string, string][] = [
    ["x\n", 'has "x" where'],
    ["-1\n", 'has "-1" where'],
    ["\n", 'has "" where'],
    ["1\n-5\n5\n", 'has "-5" where'],
    ["1\n0\n 5\n", 'has " 5" where'],
    ["1\n0\n", 'has "\\x00'],
    ["1".repeat(600), "where a number"],
    ["9007199254740993\n", "where a number"],
    ["", "does not end within its data"],
    ["2\n0\n5\n" + "0".repeat(19), "where a number"],
  ];
  for (const [map, why] of cases) {
    const error = assertThrows(() => readTar(sparse10([], 100, "", map)), InputError);
    assertStringIncludes(error.message, why, JSON.stringify(map));
  }
  // 300 ranges are announced, and their numbers fill the data to its end.
  const map = "300\n" + "0\n0\n".repeat(127);
  const error = assertThrows(() => readTar(sparse10([], 0, "", map)), InputError);
  assertStringIncludes(error.message, "does not end within its data");
});

Deno.test("sparse maps of GNU.sparse 0.1 must have the announced length", () => {
  const read = (numBlocks: string, map: string, size = "10") =>
    readTar(rawTar(
      paxHeader([
        ["GNU.sparse.size", size],
        ["GNU.sparse.numblocks", numBlocks],
        ["GNU.sparse.map", map],
      ]),
      rawEntry({}, "ab"),
    ));
  assertEquals(read("1", "0,2").entries.length, 1);
  for (
    const [numBlocks, map] of [["2", "0,2"], ["1", "0,2,"], ["x", "0,2"], ["-1", ""], ["", "0,2"]]
  ) {
    assertThrows(() => read(numBlocks!, map!), InputError, "its sparse map has");
  }
  for (const map of ["0,x", "0,-2", ",2", "0x0,2"]) {
    assertThrows(() => read("1", map), InputError, "where a number from 0 is wanted");
  }
  for (const size of ["", "-5", "x"]) {
    assertThrows(() => read("1", "0,2", size), InputError, "its GNU.sparse size is");
  }
});

Deno.test("sparse formats that are not known are errors, never plain files", () => {
  const versions = [["2", "0"], ["1", "1"], ["0", "2"], ["1", ""], ["", "0"]];
  for (const [major, minor] of versions) {
    const tar = rawTar(
      paxHeader([["GNU.sparse.major", major!], ["GNU.sparse.minor", minor!]]),
      rawEntry({}, "data"),
    );
    assertThrows(() => readTar(tar), InputError, "is sparse in the GNU format");
  }
  for (const key of ["SCHILY.realsize", "SCHILY.offset"]) {
    const tar = rawTar(paxHeader([[key, "5"]]), rawEntry({}, "data"));
    assertThrows(() => readTar(tar), InputError, "is not supported");
  }
  for (const format of ["v7", "ustar", "star"] as const) {
    const tar = rawTar(rawHeader({ flag: "S", format }));
    assertThrows(() => readTar(tar), InputError, `sparse in the ${format} format`);
  }
});

Deno.test("only regular files can be sparse", () => {
  const records = [
    ["GNU.sparse.major", "1"],
    ["GNU.sparse.minor", "0"],
    ["GNU.sparse.realsize", "5"],
  ] as const;
  for (const flag of ["1", "2", "3", "5", "6"]) {
    const tar = rawTar(paxHeader(records), rawHeader({ flag, link: "t" }));
    assertThrows(() => readTar(tar), InputError, "it is a sparse");
  }
});

Deno.test("numbers of the old sparse format may be base-256, and must not be negative", () => {
  const big = "\x80\0\0\0\0\0\0\x0e\0\0\0\0"; // 14 * 2^32
  const one = octal(1);
  const patches = (first: string, length: string, real: string) =>
    [[386, first + length], [483, real]] as const;
  const tar = (first: string, length: string, real: string) =>
    rawTar(
      rawHeader({ flag: "S", format: "gnu", size: 1, patches: patches(first, length, real) }),
      padded("x"),
    );
  const real = "\x80\0\0\0\0\0\0\x0e\0\0\0\x01";
  const { payload } = readOne(tar(big, one, real));
  assertEquals(payload?.sizeBytes, 14 * 2 ** 32 + 1);
  assertEquals(payload?.dataRuns, [{ startBlock: 14 * 2 ** 20, blockCount: 1 }]);
  const minus = "\xff".repeat(12);
  assertThrows(() => readTar(tar(minus, one, real)), InputError, "has the range -1+1");
  assertThrows(() => readTar(tar(big, minus, real)), InputError, "+-1");
  assertThrows(() => readTar(tar(big, one, minus)), InputError, "real size is -1");
  assertThrows(() => readTar(tar(big, "junk\0\0\0\0\0\0\0\0", real)), InputError, "NaN");
});

Deno.test("GNU.sparse.name counts only where the records make the entry sparse", () => {
  const named = paxHeader([["GNU.sparse.name", "other"]]);
  assertEquals(readOne(rawTar(named, rawHeader({}))).path, "f");
  const records = [["GNU.sparse.major", "1"], ["GNU.sparse.minor", "0"], [
    "GNU.sparse.name",
    "other",
  ]] as const;
  const old = rawHeader({ flag: "S", format: "gnu", patches: [[483, octal(9)]] });
  assertEquals(readOne(rawTar(paxHeader(records), old)).path, "f");
});

Deno.test("the PAX size of a sparse file is that of its stored bytes, its map included", () => {
  const tar = rawTar(
    paxHeader([
      ["size", "514"],
      ["GNU.sparse.major", "1"],
      ["GNU.sparse.minor", "0"],
      ["GNU.sparse.realsize", "5000"],
    ]),
    rawHeader({ name: "s", size: 0 }),
    padded("1\n4998\n2\n"),
    padded("yz"),
  );
  const entry = readOne(tar);
  assertEquals(entry.payload?.segments, [{ fileOffset: 4998, storeOffset: 2048, lengthBytes: 2 }]);
});
