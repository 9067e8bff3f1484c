import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Buffer } from "node:buffer";
import { InputError } from "../../lib/errors.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { TarIndexer } from "../../lib/tar/indexer.ts";
import { buildTar, buildTarEntry, joinBytes } from "./build.ts";
import { longName, padded, paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
import { contentOf, faultOf, readOne, readTar } from "./read.ts";

const text = new TextDecoder();

Deno.test("TarIndexer gives store offsets in the whole tar, and the offset of an entry's first header", () => {
  const tar = rawTar(
    rawEntry({ name: "a" }, "A"),
    paxHeader([["mtime", "1.5"]]),
    longName("L", "long"),
    rawEntry({ name: "b" }, "B"),
  );
  const { entries } = readTar(tar);
  assertEquals(entries.map((entry) => entry.headerOffset), [0, 1024]);
  assertEquals(entries.map((entry) => text.decode(contentOf(entry, tar))), ["A", "B"]);
});

Deno.test("TarIndexer refuses unknown types and later volumes", () => {
  assertStringIncludes(faultOf(rawTar(rawHeader({ flag: "Z" }))).message, 'type "Z" is not known');
  assertStringIncludes(faultOf(rawTar(rawHeader({ flag: "\x1b" }))).message, "\\x1b");
  assertStringIncludes(faultOf(rawTar(rawHeader({ flag: "M" }))).message, "another volume");
  const volume = paxHeader([["GNU.volume.filename", "f"]], { flag: "g" });
  assertStringIncludes(faultOf(rawTar(volume)).message, "GNU.volume.filename");
});

Deno.test("TarIndexer passes over volume labels, Solaris ACLs and old GNU names with their data", () => {
  const { entries, warningKinds } = readTar(rawTar(
    paxHeader([["path", "label's"]]),
    rawEntry({ flag: "V", name: "label" }),
    rawEntry({ name: "first" }, "F"),
    paxHeader([["path", "kept"]]),
    rawEntry({ flag: "A" }, "acl".repeat(400)),
    rawEntry({ name: "a" }, "A"),
    rawEntry({ flag: "N" }, "Rename x to y\n"),
    rawEntry({ name: "b" }, "B"),
  ));
  assertEquals(entries.map((entry) => entry.path), ["first", "kept", "b"]);
  assertEquals(warningKinds, ["skippedEntry", "skippedEntry"]);
});

Deno.test("TarIndexer reads no data behind links, directories, devices and fifos, whatever their size says", () => {
  for (const flag of ["1", "2", "3", "4", "5", "6"]) {
    const { entries } = readTar(rawTar(
      paxHeader([["size", "4096"]]),
      rawHeader({ flag, name: "x", link: "t", size: 700 }),
      rawEntry({ name: "next" }, "N"),
    ));
    assertEquals(entries.map((entry) => entry.path), ["x", "next"], flag);
    assertEquals(entries[0]!.payload, undefined);
  }
});

Deno.test("TarIndexer skips the data of GNU dump directories", () => {
  const { entries } = readTar(rawTar(
    rawEntry({ flag: "D", name: "d/", format: "gnu" }, "Yfoo\0".repeat(200)),
    rawEntry({ name: "next" }, "N"),
  ));
  assertEquals(entries.map(({ kind, path }) => [kind, path]), [["directory", "d/"], [
    "file",
    "next",
  ]]);
});

Deno.test("TarIndexer ends at two zero blocks and counts what follows", () => {
  const tar = joinBytes([
    buildTar([{ path: "a" }]),
    rawHeader({ name: "hidden" }),
    new Uint8Array(7),
  ]);
  const read = readTar(tar, { chunkSizes: [700] });
  assertEquals(read.entries.map((entry) => entry.path), ["a"]);
  assertEquals(read.warningKinds, ["trailingBytes"]);
  assertStringIncludes(
    read.warnings[0]!,
    "519 bytes behind its end marker are left out, from offset 1536",
  );
});

Deno.test("TarIndexer accepts one zero block at the end, and refuses one with something behind it", () => {
  const entry = buildTarEntry({ path: "a" });
  const lone = readTar(joinBytes([entry, new Uint8Array(512)]));
  assertEquals([lone.entries.length, lone.warningKinds], [1, []]);
  const error = faultOf(joinBytes([entry, new Uint8Array(512), entry, new Uint8Array(1024)]));
  assertStringIncludes(error.message, "offset 1024: a block with something in it follows");
});

Deno.test("TarIndexer accepts a tar without end marker, empty ones too, and speaks of it", () => {
  assertEquals(readTar(buildTarEntry({ path: "a" })).warningKinds, ["missingEndMarker"]);
  const empty = readTar(new Uint8Array(0));
  assertEquals([empty.entries.length, empty.warningKinds], [0, ["missingEndMarker"]]);
  assertEquals(readTar(new Uint8Array(1024)).warningKinds, []);
});

Deno.test("TarIndexer lets the PAX size win over the header's, for the entry alone", () => {
  // A reader that takes the header's size would see the smuggled header as an entry.
  const smuggled = rawHeader({ name: "smuggled" });
  const tar = rawTar(
    paxHeader([["size", "512"]]),
    rawHeader({ name: "outer", size: 0 }),
    smuggled,
    rawEntry({ name: "next" }, "N"),
  );
  const { entries } = readTar(tar);
  assertEquals(entries.map((entry) => entry.path), ["outer", "next"]);
  assertEquals(contentOf(entries[0]!, tar), smuggled);
  const reversed = rawTar(
    paxHeader([["size", "0"]]),
    rawHeader({ name: "outer", size: 512 }),
    rawHeader({ name: "seen" }),
  );
  assertEquals(readTar(reversed).entries.map((entry) => entry.path), ["outer", "seen"]);
});

Deno.test("TarIndexer finds the data blocks of a file and leaves zeros out of the hash", () => {
  const data = new Uint8Array(5 * 4096 + 100);
  data[4096] = 1;
  data[4 * 4096 + 1] = 2;
  data[5 * 4096] = 3;
  const { payload } = readOne(buildTar([{ path: "f", data }]));
  assertEquals(payload?.dataRuns, [{ startBlock: 1, blockCount: 1 }, {
    startBlock: 4,
    blockCount: 2,
  }]);
  const withHoles = buildTar([{
    path: "f",
    data: {
      sizeBytes: data.length,
      parts: [[4096, data.subarray(4096, 4097)], [16385, data.subarray(16385)]],
    },
  }]);
  const sparse = readOne(withHoles);
  assertEquals(sparse.payload?.dataRuns, payload?.dataRuns);
  assertEquals(sparse.payload?.contentHash, payload?.contentHash);
  assertEquals(contentOf(sparse, withHoles), data);
});

Deno.test("TarIndexer says where the tar ends when it ends too soon", () => {
  const indexer = new TarIndexer({ name: "t", emit: () => {}, warn: () => {} });
  indexer.push(joinBytes([rawHeader({ name: "big", size: 5000 }), padded("x".repeat(100))]));
  const error = assertThrows(() => indexer.end(), InputError);
  assertEquals(
    error.message,
    't: "big" at offset 0: the tar ends in the middle of a payload, at offset 1024',
  );
  assertEquals(error.data["offset"], 1024);
});

Deno.test("TarIndexer counts entries", () => {
  const indexer = new TarIndexer({ name: "t", emit: () => {}, warn: () => {} });
  indexer.push(buildTar([{ path: "a" }, { path: "b", link: "a" }]));
  indexer.end();
  assertEquals(indexer.entryCount, 2);
});

/** A tar with everything in it that takes more than one step to read. */
function variedTar(): Uint8Array {
  const data = new Uint8Array(30000);
  for (let i = 0; i < data.length; i++) data[i] = i >> 12 === 3 ? 0 : i * 7;
  const part = new Uint8Array(2000).fill(3);
  const octal = (value: number) => value.toString(8).padStart(11, "0") + "\0";
  const oldMap = [[0, 5], [10, 5], [20, 5], [5000, 5], [9000, 5]];
  const texts = oldMap.map(([offset, length]) => octal(offset!) + octal(length!));
  return joinBytes([
    buildTarEntry({ path: "dir/" }),
    buildTarEntry({ path: "plain", data }),
    buildTarEntry({
      path: "pax\xff",
      data: data.subarray(0, 4096),
      mtime: [-1, 5],
      xattrs: { "user.long": "v".repeat(5000) },
    }),
    buildTarEntry({
      path: "sparse",
      data: { sizeBytes: 50000, parts: [[5000, part], [9000, part], [48001, part.subarray(1)]] },
    }),
    longName("L", "long/".repeat(150) + "name"),
    longName("K", "target/".repeat(100)),
    rawHeader({ flag: "2" }),
    rawHeader({
      flag: "S",
      format: "gnu",
      name: "old",
      size: 25,
      patches: [[386, texts.slice(0, 4).join("")], [482, "\x01"], [483, octal(9005)]],
    }),
    joinBytes([new TextEncoder().encode(texts[4]!), new Uint8Array(512 - 24)]),
    joinBytes([new TextEncoder().encode("0123456789abcdefghijklmno"), new Uint8Array(512 - 25)]),
    paxHeader([["comment", "c"]], { flag: "g" }),
    rawEntry({ flag: "D", name: "dump/", format: "gnu" }, "Yfile\0".repeat(200)),
    rawEntry({ flag: "V", name: "label" }, "xyz"),
    buildTarEntry({ path: "last", data: "end" }),
    new Uint8Array(1024),
    new Uint8Array(9000).fill(1),
  ]);
}

Deno.test("TarIndexer gives the same entries however the tar is cut into chunks", () => {
  const tar = variedTar();
  const whole = readTar(tar);
  assertEquals(whole.entries.length, 8);
  assertStringIncludes(whole.warnings.at(-1)!, "9000 bytes behind its end marker");
  for (
    const chunkSizes of [[1], [511], [512], [513], [4095], [4096], [4097], [1, 512, 7], [100000]]
  ) {
    assertEquals(readTar(tar, { chunkSizes }), whole, `chunks of ${chunkSizes}`);
  }
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 6000 }), { minLength: 1, maxLength: 20 }),
      (chunkSizes) => assertEquals(readTar(tar, { chunkSizes }), whole),
    ),
    { numRuns: 100 },
  );
});

Deno.test("TarIndexer keeps nothing of a chunk, be it a Buffer or a Uint8Array", () => {
  const tar = variedTar();
  const entries: TarEntry[] = [];
  const indexer = new TarIndexer({
    name: "test.tar",
    emit: (entry) => entries.push(entry),
    warn: () => {},
  });
  const chunk = Buffer.from(tar);
  indexer.push(chunk);
  chunk.fill(0);
  indexer.end();
  assertEquals(entries, readTar(tar).entries);
});

Deno.test("TarIndexer takes empty chunks, and chunks that lie anywhere in a larger buffer", () => {
  const tar = variedTar();
  const whole = readTar(tar);
  for (const shift of [1, 2, 3, 4, 6]) {
    const larger = new Uint8Array(tar.length + 8);
    larger.set(tar, shift);
    const view = larger.subarray(shift, shift + tar.length);
    assertEquals(readTar(view), whole);
  }
  assert(readTar(joinBytes([new Uint8Array(0), tar])).entries.length === whole.entries.length);
});
