import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { TarIndexer } from "../../lib/tar/indexer.ts";
import { DEFAULT_TAR_LIMITS, type TarLimits } from "../../lib/tar/header.ts";
import { buildTar, buildTarEntry, joinBytes } from "./build.ts";
import { longName, padded, paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
import { readTar } from "./read.ts";

/** The tar is read at the limit and refused one below, with a message that names the path and the limit. */
function assertLimit(tar: Uint8Array, name: keyof TarLimits, limit: number): void {
  readTar(tar, { limits: { [name]: limit } });
  const error = assertThrows(() => readTar(tar, { limits: { [name]: limit - 1 } }), InputError);
  assertStringIncludes(error.message, `more than the limit of ${limit - 1}`);
  assertEquals(error.data["limit"], name);
  assertEquals(error.data["expected"], limit - 1);
}

Deno.test("entries are limited", () => {
  assertLimit(
    buildTar([{ path: "a" }, { path: "b/" }, { path: "c", link: "a" }]),
    "layerEntries",
    3,
  );
});

Deno.test("headers of all kinds are limited together", () => {
  assertLimit(
    rawTar(paxHeader([]), rawEntry({ flag: "V" }), longName("L", "a"), rawHeader({})),
    "layerHeaders",
    4,
  );
});

Deno.test("the data of one extended header is limited, of each kind", () => {
  for (const flag of ["x", "g", "X"]) {
    const header = paxHeader([["comment", "c".repeat(990)]], { flag });
    assertLimit(rawTar(header, rawHeader({})), "extendedHeaderBytes", 1004);
  }
  assertLimit(rawTar(longName("L", "n/".repeat(300)), rawHeader({})), "extendedHeaderBytes", 601);
  assertLimit(
    rawTar(longName("K", "n/".repeat(300)), rawHeader({ flag: "2" })),
    "extendedHeaderBytes",
    601,
  );
});

Deno.test("an extended header beyond the default limit is refused before its data", () => {
  const limit = DEFAULT_TAR_LIMITS.extendedHeaderBytes;
  const indexer = new TarIndexer({ name: "t", emit: () => {}, warn: () => {} });
  assertThrows(
    () => indexer.push(rawHeader({ flag: "x", size: limit + 1 })),
    InputError,
    `more than the limit of ${limit}`,
  );
  const inside = "c".repeat(limit - 17);
  const record = `${limit} comment=${inside}\n`;
  assertEquals(record.length, limit);
  readTar(rawTar(rawEntry({ flag: "x" }, record), rawHeader({})), { chunkSizes: [65536] });
});

Deno.test("the data of all extended headers together is limited", () => {
  assertLimit(
    rawTar(
      longName("L", "12345"),
      rawHeader({}),
      paxHeader([["comment", ""]], { flag: "g" }),
      longName("L", "1234"),
      rawHeader({}),
    ),
    "extendedHeaderTotalBytes",
    6 + 12 + 5,
  );
});

Deno.test("paths are limited in length, depth and length of names", () => {
  assertLimit(buildTar([{ path: "abcd/efgh" }]), "pathBytes", 9);
  assertLimit(buildTar([{ path: "/a//b/c/" }]), "pathDepth", 3);
  assertLimit(buildTar([{ path: "a/bbbb/cc" }]), "nameBytes", 4);
  assertLimit(buildTar([{ path: "aa/b/cccc" }]), "nameBytes", 4);
});

Deno.test("targets of links are limited in length", () => {
  assertLimit(buildTar([{ path: "l", link: "12345" }]), "symlinkTargetBytes", 5);
  assertLimit(buildTar([{ path: "l", kind: "hardlink", link: "12345" }]), "pathBytes", 5);
});

Deno.test("the default limits let in what ext4 can hold, and no more", () => {
  const read = (path: string, link?: string) =>
    readTar(buildTar([link === undefined ? { path } : { path, link }]));
  read(".wh." + "n".repeat(255));
  assertThrows(() => read("n".repeat(260)), InputError, "limit of 259");
  read("l", "t".repeat(4095));
  assertThrows(() => read("l", "t".repeat(4096)), InputError, "limit of 4095");
  read("d/".repeat(1024));
  assertThrows(() => read("d/".repeat(1025)), InputError, "limit of 1024");
});

Deno.test("file sizes are limited, those of sparse files by what they claim", () => {
  assertLimit(buildTar([{ path: "f", data: "12345" }]), "fileSizeBytes", 5);
  assertLimit(
    buildTar([{ path: "f", data: { sizeBytes: 5000, parts: [] } }]),
    "fileSizeBytes",
    5000,
  );
  const claim = (sizeBytes: number) => buildTar([{ path: "f", data: { sizeBytes, parts: [] } }]);
  readTar(claim(DEFAULT_TAR_LIMITS.fileSizeBytes));
  assertThrows(
    () => readTar(claim(DEFAULT_TAR_LIMITS.fileSizeBytes + 1)),
    InputError,
    "its size is",
  );
  assertThrows(
    () => readTar(rawHeader({ size: "\x80\0\0\0\0\0\x20\0\0\0\0\0" })),
    InputError,
    "its size is",
  );
});

Deno.test("ranges of sparse maps are limited in every format, before they are there", () => {
  const octal = (value: number) => value.toString(8).padStart(11, "0") + "\0";
  const old = rawTar(rawHeader({
    flag: "S",
    format: "gnu",
    patches: [[386, octal(0).repeat(8)], [483, octal(9)]],
  }));
  assertLimit(old, "sparseSegments", 4);
  const pax = (key: string, value: string) => [key, value] as const;
  const mapped = rawTar(
    paxHeader([
      pax("GNU.sparse.size", "9"),
      pax("GNU.sparse.numblocks", "3"),
      pax("GNU.sparse.map", "0,0,0,0,0,0"),
    ]),
    rawHeader({}),
  );
  assertLimit(mapped, "sparseSegments", 3);
  const records = [
    pax("GNU.sparse.major", "1"),
    pax("GNU.sparse.minor", "0"),
    pax("GNU.sparse.realsize", "9"),
  ];
  assertLimit(
    rawTar(paxHeader(records), rawEntry({}, padded("3\n0\n0\n0\n0\n0\n0\n"))),
    "sparseSegments",
    3,
  );
  const announced = rawTar(paxHeader(records), rawEntry({}, padded("262145\n")));
  assertThrows(() => readTar(announced), InputError, "is 262145, more than the limit of 262144");
});

Deno.test("an endless map of the old sparse format is refused at the limit of ranges", () => {
  const octal = (value: number) => value.toString(8).padStart(11, "0") + "\0";
  const block = new TextEncoder().encode((octal(0) + octal(0)).repeat(21) + "\x01".padEnd(8, "\0"));
  const indexer = new TarIndexer({ name: "t", emit: () => {}, warn: () => {} });
  indexer.push(rawHeader({ flag: "S", format: "gnu", patches: [[482, "\x01"], [483, octal(0)]] }));
  assertThrows(
    () => {
      for (let i = 0; i < 100_000; i++) indexer.push(block);
    },
    InputError,
    "more than the limit of 262144",
  );
});

Deno.test("pieces of payloads are limited over all files together", () => {
  const stripes = new Uint8Array(9 * 4096);
  for (let i = 0; i < 9; i += 2) stripes[i * 4096] = 1; // 5 runs
  const parts = [[0, new Uint8Array(5)], [4096, new Uint8Array(5)], [
    8192,
    new Uint8Array(5),
  ]] as const;
  const tar = joinBytes([
    buildTarEntry({ path: "stripes", data: stripes }),
    buildTarEntry({ path: "plain", data: "x" }),
    buildTarEntry({ path: "sparse", data: { sizeBytes: 10000, parts } }),
  ]);
  assertLimit(tar, "extraPayloadPieces", 4 + 2);
});
