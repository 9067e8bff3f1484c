import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { TarIndexer } from "../../lib/tar/indexer.ts";
import { buildTar, buildTarEntry, joinBytes } from "./build.ts";
import { longName, padded, paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
import { contentOf, readOne, readTar } from "./read.ts";

const text = new TextDecoder();

function fault(tar: Uint8Array): InputError {
  return assertThrows(() => readTar(tar), InputError);
}

Deno.test("TarIndexer reads the fields of a ustar header, prefix included", () => {
  const entry = readOne(rawTar(rawEntry({
    name: "name",
    prefix: "some/dir",
    mode: 0o100644 | 0o6000,
    uid: 12,
    gid: 34,
    mtime: 0o12345670,
  }, "hello")));
  assertEquals({ ...entry, payload: undefined }, {
    kind: "file",
    path: "some/dir/name",
    linkTarget: "",
    mode: 0o6644,
    uid: 12,
    gid: 34,
    mtimeSeconds: 0o12345670,
    mtimeNanoseconds: 0,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
    payload: undefined,
    headerOffset: 0,
  });
  assertEquals(entry.payload?.segments, [{ fileOffset: 0, storeOffset: 512, lengthBytes: 5 }]);
});

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

Deno.test("TarIndexer takes a name that fills its field, with no NUL", () => {
  const name = "n".repeat(100);
  assertEquals(readOne(rawTar(rawHeader({ name }))).path, name);
  const prefix = "p".repeat(155);
  assertEquals(readOne(rawTar(rawHeader({ name, prefix }))).path, `${prefix}/${name}`);
  assertEquals(
    readOne(rawTar(rawHeader({ name, prefix, format: "star" }))).path,
    `${prefix.slice(0, 131)}/${name}`,
  );
});

Deno.test("TarIndexer takes the prefix of v7 and GNU headers for what it is: not there", () => {
  assertEquals(readOne(rawTar(rawHeader({ prefix: "p", format: "v7" }))).path, "f");
  assertEquals(readOne(rawTar(rawHeader({ prefix: "00000000017\0", format: "gnu" }))).path, "f");
});

Deno.test("TarIndexer takes the prefix that old Go programs wrote into GNU headers", () => {
  assertEquals(readOne(rawTar(rawHeader({ prefix: "dir", format: "gnu" }))).path, "dir/f");
  assertEquals(readOne(rawTar(rawHeader({ prefix: "d\xefr", format: "gnu" }))).path, "f");
});

Deno.test("TarIndexer keeps names as bytes", () => {
  const tar = rawTar(
    rawHeader({ name: "\xff\xfe\x80", flag: "2", link: "\xc3\x28" }),
    longName("L", "\xf0\x9f\x98"),
    rawHeader({}),
    paxHeader([["hdrcharset", "BINARY"], ["path", "\xe9t\xe9"]]),
    rawHeader({}),
  );
  const { entries } = readTar(tar);
  assertEquals(entries.map((entry) => entry.path), ["\xff\xfe\x80", "\xf0\x9f\x98", "\xe9t\xe9"]);
  assertEquals(entries[0]!.linkTarget, "\xc3\x28");
});

Deno.test("TarIndexer knows every type flag that can become a file", () => {
  const kindOf = (flag: string, name = "f") =>
    readOne(rawTar(rawHeader({ flag, name, link: "t", format: "gnu" }))).kind;
  assertEquals(kindOf("0"), "file");
  assertEquals(kindOf("\0"), "file");
  assertEquals(kindOf("\0", "d/"), "directory");
  assertEquals(kindOf("0", "d/"), "file");
  assertEquals(kindOf("7"), "file");
  assertEquals(kindOf("1"), "hardlink");
  assertEquals(kindOf("2"), "symlink");
  assertEquals(kindOf("3"), "characterDevice");
  assertEquals(kindOf("4"), "blockDevice");
  assertEquals(kindOf("5"), "directory");
  assertEquals(kindOf("6"), "fifo");
  assertEquals(kindOf("D"), "directory");
});

Deno.test("TarIndexer refuses unknown types and later volumes", () => {
  assertStringIncludes(fault(rawTar(rawHeader({ flag: "Z" }))).message, 'type "Z" is not known');
  assertStringIncludes(fault(rawTar(rawHeader({ flag: "\x1b" }))).message, "\\x1b");
  assertStringIncludes(fault(rawTar(rawHeader({ flag: "M" }))).message, "another volume");
  const volume = paxHeader([["GNU.volume.filename", "f"]], { flag: "g" });
  assertStringIncludes(fault(rawTar(volume)).message, "GNU.volume.filename");
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

Deno.test("TarIndexer reads device numbers of devices alone, and none from v7", () => {
  const device = { flag: "3", major: 8, minor: 0o1234567 };
  const read = (header: Parameters<typeof rawHeader>[0]) => {
    const { deviceMajor, deviceMinor } = readOne(rawTar(rawHeader(header)));
    return [deviceMajor, deviceMinor];
  };
  assertEquals(read(device), [8, 0o1234567]);
  assertEquals(read({ ...device, flag: "4", format: "gnu" }), [8, 0o1234567]);
  assertEquals(read({ ...device, format: "v7" }), [0, 0]);
  assertEquals(read({ ...device, flag: "0", major: "junk" }), [0, 0]);
  assertStringIncludes(
    fault(rawTar(rawHeader({ ...device, major: "junk" }))).message,
    "deviceMajor",
  );
  const negative = "\xff\xff\xff\xff\xff\xff\xff\xff";
  assertStringIncludes(
    fault(rawTar(rawHeader({ ...device, minor: negative }))).message,
    "deviceMinor is -1",
  );
  const big = paxHeader([["SCHILY.devmajor", "4095"], ["SCHILY.devminor", "1048575"]]);
  const entry = readOne(rawTar(big, rawHeader(device)));
  assertEquals([entry.deviceMajor, entry.deviceMinor], [4095, 1048575]);
});

Deno.test("TarIndexer reads base-256 sizes, ids and times, negative times too", () => {
  const entry = readOne(rawTar(rawEntry({
    uid: "\x80\0\0\0\x7f\xff\xff\xff",
    gid: "\x80\0\0\0\xff\xff\xff\xfe",
    size: "\x80\0\0\0\0\0\0\0\0\0\0\x05",
    mtime: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb",
  }, "12345")));
  assertEquals([entry.uid, entry.gid, entry.payload?.sizeBytes], [0x7fffffff, 0xfffffffe, 5]);
  assertEquals([entry.mtimeSeconds, entry.mtimeNanoseconds], [-5, 0]);
});

Deno.test("TarIndexer refuses ids out of range and speaks of the id that means none", () => {
  assertStringIncludes(
    fault(rawTar(rawHeader({ uid: "\x80\0\0\x01\0\0\0\0" }))).message,
    "uid is 4294967296; wanted 0 to 4294967295",
  );
  assertStringIncludes(
    fault(rawTar(rawHeader({ gid: "\xff\xff\xff\xff\xff\xff\xff\xff" }))).message,
    "gid is -1",
  );
  const { entries, warningKinds } = readTar(
    rawTar(rawHeader({ uid: "\x80\0\0\0\xff\xff\xff\xff" })),
  );
  assertEquals(entries[0]!.uid, 0xffffffff);
  assertEquals(warningKinds, ["ownerNone"]);
});

Deno.test("TarIndexer refuses negative and absurd sizes, of entries and of extended headers", () => {
  const negative = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe";
  const huge = "\x80\0\0\0\0\x20\0\0\0\0\0\0";
  for (const flag of ["0", "x", "g", "L", "K", "A", "D", "\0"]) {
    for (const [size, why] of [[negative, "size is -2"], [huge, "size is too large"]] as const) {
      const format = "gnu" as const;
      assertStringIncludes(fault(rawTar(rawHeader({ flag, size, format }))).message, why, flag);
    }
  }
  assertStringIncludes(
    fault(rawTar(paxHeader([["size", "-1"]]), rawHeader({}))).message,
    "size is -1",
  );
});

Deno.test("TarIndexer accepts unsigned and signed checksums and refuses others", () => {
  const header = { name: "\xff\xfe\xfd" };
  assertEquals(readOne(rawTar(rawHeader(header))).path, header.name);
  assertEquals(readOne(rawTar(rawHeader({ ...header, signedChecksum: true }))).path, header.name);
  const error = fault(rawTar(
    rawEntry({ name: "ok" }, "data"),
    rawHeader({ checksum: "000001\0 " }),
  ));
  assertStringIncludes(error.message, "test.tar: header at offset 1024: this is no tar header");
  assertEquals(error.data["headerOffset"], 1024);
  assertThrows(() => readTar(rawTar(rawHeader({ checksum: "xxxxxxxx" }))), InputError);
});

Deno.test("TarIndexer names the tar, the path and the offset, and shows no control characters", () => {
  const error = fault(rawTar(rawEntry({}, "x"), rawHeader({ name: "a\x1b[2J", uid: "bad" })));
  assertEquals(
    error.message,
    'test.tar: "a\\x1b[2J" at offset 1024: its header field uid is not a number: ' +
      '"bad\\x00\\x00\\x00\\x00\\x00"',
  );
  const long = fault(rawTar(paxHeader([["path", "y".repeat(5000)]]), rawHeader({ uid: "bad" })));
  assert(long.message.length < 700, "long names are cut in messages");
});

Deno.test("TarIndexer refuses empty paths and links to nowhere", () => {
  assertStringIncludes(fault(rawTar(rawHeader({ name: "" }))).message, "its path is empty");
  for (const flag of ["1", "2"]) {
    assertStringIncludes(fault(rawTar(rawHeader({ flag }))).message, "to nowhere");
  }
  assertEquals(readOne(rawTar(rawHeader({ name: "/" }))).path, "/");
});

Deno.test("TarIndexer lets GNU long names win over PAX paths, and the last of a kind over the first", () => {
  const tar = rawTar(
    longName("L", "first"),
    longName("K", "first target"),
    longName("L", "second"),
    paxHeader([["path", "pax"], ["linkpath", "pax target"]]),
    longName("K", "second target"),
    rawHeader({ flag: "2", link: "short" }),
    rawHeader({ flag: "2", name: "next", link: "short" }),
  );
  const { entries } = readTar(tar);
  assertEquals(
    entries.map(({ path, linkTarget }) => [path, linkTarget]),
    [["second", "second target"], ["next", "short"]],
  );
});

Deno.test("TarIndexer cuts GNU long names at their first NUL", () => {
  const tar = rawTar(
    rawEntry({ flag: "L", format: "gnu" }, "0123456789\0abcdef\0"),
    rawHeader({}),
    rawEntry({ flag: "L", format: "gnu" }, "no NUL at all"),
    rawHeader({}),
    rawEntry({ flag: "L", format: "gnu" }, ""),
    rawHeader({ name: "plain" }),
  );
  assertEquals(readTar(tar).entries.map((entry) => entry.path), [
    "0123456789",
    "no NUL at all",
    "plain",
  ]);
});

Deno.test("TarIndexer ends at two zero blocks and counts what follows", () => {
  const tar = joinBytes([
    buildTar([{ path: "a" }]),
    rawHeader({ name: "hidden" }),
    new Uint8Array(7),
  ]);
  const read = readTar(tar, { chunkSizes: [700] });
  assertEquals(read.entries.map((entry) => entry.path), ["a"]);
  assertEquals(read.trailingSizeBytes, 519);
});

Deno.test("TarIndexer accepts one zero block at the end, and refuses one with something behind it", () => {
  const entry = buildTarEntry({ path: "a" });
  const lone = readTar(joinBytes([entry, new Uint8Array(512)]));
  assertEquals([lone.entries.length, lone.warningKinds], [1, []]);
  const error = fault(joinBytes([entry, new Uint8Array(512), entry, new Uint8Array(1024)]));
  assertStringIncludes(error.message, "offset 1024: a block with something in it follows");
});

Deno.test("TarIndexer accepts a tar without end marker, empty ones too, and speaks of it", () => {
  assertEquals(readTar(buildTarEntry({ path: "a" })).warningKinds, ["missingEndMarker"]);
  const empty = readTar(new Uint8Array(0));
  assertEquals([empty.entries.length, empty.warningKinds], [0, ["missingEndMarker"]]);
  assertEquals(readTar(new Uint8Array(1024)).warningKinds, []);
});

Deno.test("TarIndexer wants an entry behind extended headers", () => {
  const pax = paxHeader([["path", "p"]]);
  assertStringIncludes(fault(pax).message, "the entry of this header is missing");
  assertStringIncludes(fault(joinBytes([pax, new Uint8Array(512)])).message, "is missing");
  assertEquals(readTar(rawTar(pax)).warningKinds, ["danglingHeader"]);
});

Deno.test("TarIndexer passes over global headers, keeps what stood before them, and speaks of what they say", () => {
  const comment = paxHeader([["comment", "commit id"]], { flag: "g" });
  const quiet = readTar(rawTar(comment, rawHeader({ name: "a" })));
  assertEquals([quiet.entries[0]!.path, quiet.warningKinds], ["a", []]);
  const loud = readTar(rawTar(
    paxHeader([["path", "own"]]),
    paxHeader([["path", "global"], ["uid", "7"], ["mtime", ""]], { flag: "g" }),
    rawHeader({ name: "a" }),
    rawHeader({ name: "b" }),
  ));
  assertEquals(loud.entries.map(({ path, uid }) => [path, uid]), [["own", 0], ["b", 0]]);
  assertEquals(loud.warningKinds, ["globalHeader", "globalHeader"]);
  assertThrows(() => readTar(rawTar(rawEntry({ flag: "g" }, "3 x\n"))), InputError);
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

Deno.test("TarIndexer does not apply the PAX size to long names or further extended headers between", () => {
  const { entries } = readTar(rawTar(
    paxHeader([["size", "2"], ["uid", "5"]]),
    longName("L", "long/".repeat(200)),
    longName("K", "target"),
    rawEntry({ name: "a", size: 700 }, "hi"),
    rawHeader({ name: "b" }),
  ));
  assertEquals(entries.map(({ path }) => path), ["long/".repeat(200), "b"]);
  assertEquals(entries.map(({ payload }) => payload?.sizeBytes), [2, 0]);
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
