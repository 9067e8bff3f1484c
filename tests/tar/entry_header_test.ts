import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { joinBytes } from "./build.ts";
import { longName, paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
import { faultOf, readOne, readTar } from "./read.ts";

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
  // As in BSD's tars, and by GNU tar's reading of them.
  assertEquals(kindOf("0", "d/"), "directory");
  assertEquals(kindOf("7", "d/"), "directory");
  assertEquals(kindOf("7"), "file");
  assertEquals(kindOf("1"), "hardlink");
  assertEquals(kindOf("2"), "symlink");
  assertEquals(kindOf("3"), "characterDevice");
  assertEquals(kindOf("4"), "blockDevice");
  assertEquals(kindOf("5"), "directory");
  assertEquals(kindOf("6"), "fifo");
  assertEquals(kindOf("D"), "directory");
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
    faultOf(rawTar(rawHeader({ ...device, major: "junk" }))).message,
    "deviceMajor",
  );
  const negative = "\xff\xff\xff\xff\xff\xff\xff\xff";
  assertStringIncludes(
    faultOf(rawTar(rawHeader({ ...device, minor: negative }))).message,
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

Deno.test("TarIndexer refuses ids out of range and the id that means none", () => {
  assertStringIncludes(
    faultOf(rawTar(rawHeader({ uid: "\x80\0\0\x01\0\0\0\0" }))).message,
    "uid is 4294967296; wanted 0 to 4294967294",
  );
  assertStringIncludes(
    faultOf(rawTar(rawHeader({ gid: "\xff\xff\xff\xff\xff\xff\xff\xff" }))).message,
    "gid is -1",
  );
  assertStringIncludes(
    faultOf(rawTar(rawHeader({ uid: "\x80\0\0\0\xff\xff\xff\xff" }))).message,
    "uid is 4294967295; wanted 0 to 4294967294",
  );
});

Deno.test("TarIndexer refuses negative and absurd sizes, of entries and of extended headers", () => {
  const negative = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe";
  const huge = "\x80\0\0\0\0\x20\0\0\0\0\0\0";
  for (const flag of ["0", "x", "g", "L", "K", "A", "D", "\0"]) {
    for (const [size, why] of [[negative, "size is -2"], [huge, "size is too large"]] as const) {
      const format = "gnu" as const;
      assertStringIncludes(faultOf(rawTar(rawHeader({ flag, size, format }))).message, why, flag);
    }
  }
  assertStringIncludes(
    faultOf(rawTar(paxHeader([["size", "-1"]]), rawHeader({}))).message,
    "size is -1",
  );
});

Deno.test("TarIndexer refuses empty paths and links to nowhere", () => {
  assertStringIncludes(faultOf(rawTar(rawHeader({ name: "" }))).message, "its path is empty");
  for (const flag of ["1", "2"]) {
    assertStringIncludes(faultOf(rawTar(rawHeader({ flag }))).message, "to nowhere");
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

Deno.test("TarIndexer wants an entry behind extended headers", () => {
  const pax = paxHeader([["path", "p"]]);
  assertStringIncludes(faultOf(pax).message, "the entry of this header is missing");
  assertStringIncludes(faultOf(joinBytes([pax, new Uint8Array(512)])).message, "is missing");
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

Deno.test("TarIndexer does not apply the PAX size to long names or further extended headers between", () => {
  const { entries } = readTar(rawTar(
    paxHeader([["size", "2"], ["uid", "5"]]),
    longName("L", `${"long/".repeat(200)}f`),
    longName("K", "target"),
    rawEntry({ name: "a", size: 700 }, "hi"),
    rawHeader({ name: "b" }),
  ));
  assertEquals(entries.map(({ path }) => path), [`${"long/".repeat(200)}f`, "b"]);
  assertEquals(entries.map(({ payload }) => payload?.sizeBytes), [2, 0]);
});

Deno.test("TarIndexer passes over the data of what only a slash makes a directory, as GNU tar does", () => {
  const { entries } = readTar(rawTar(
    rawEntry({ name: "d/", mode: 0o700, uid: 7 }, "data"),
    rawHeader({ name: "d/f" }),
  ));
  assertEquals(entries.map(({ path, kind, mode, uid }) => [path, kind, mode, uid]), [
    ["d/", "directory", 0o700, 7],
    ["d/f", "file", 0o644, 0],
  ]);
});

Deno.test("TarIndexer takes times beyond what a number holds exactly for the nearest that it does", () => {
  const beyond = Number.MAX_SAFE_INTEGER;
  for (const text of ["-9223372036854775808", "-9223372036854775808.5"]) {
    const time = readOne(rawTar(paxHeader([["mtime", text]]), rawHeader({ name: "f" })));
    assert(time.mtimeSeconds <= -beyond + 1, text);
  }
  const late = readOne(
    rawTar(paxHeader([["mtime", "9223372036854775807"]]), rawHeader({ name: "f" })),
  );
  assertEquals(late.mtimeSeconds, beyond);
  const block = rawHeader({ name: "f" });
  block.set([0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 136);
  sealRaw(block);
  assertEquals(readOne(rawTar(block)).mtimeSeconds, -beyond + 1);
});

/** Puts the checksum of a changed header right. */
function sealRaw(block: Uint8Array): void {
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
}
