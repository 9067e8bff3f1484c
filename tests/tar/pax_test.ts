import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { bytesFromByteString, type ByteString } from "../../lib/bytes/byte_string.ts";
import { InputError } from "../../lib/errors.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { TarIndexer } from "../../lib/tar/indexer.ts";
import {
  COMMENT_BYTES_MAX,
  firstLayerComment,
  firstLayerOfComment,
  forEachPaxRecord,
  readPaxRecords,
  uuidComment,
  uuidOfComment,
} from "../../lib/tar/pax.ts";
import { encodeTarEntry, PaxRecordWriter } from "../../lib/tar/writer.ts";
import { paxHeader, rawHeader, rawTar } from "./raw.ts";
import { type ReadTar, readTar } from "./read.ts";

const place = { tarName: "t", headerOffset: 0, path: "p" };

function recordsOf(text: string): [string, string][] {
  const bytes = bytesFromByteString(text);
  const records: [string, string][] = [];
  forEachPaxRecord(bytes, place, (key, start, end) => {
    records.push([key, String.fromCharCode(...bytes.subarray(start, end))]);
  });
  return records;
}

function read(...records: [string, string][]): ReturnType<typeof readPaxRecords> {
  const writer = new PaxRecordWriter();
  for (const [key, value] of records) writer.add(key, value);
  return readPaxRecords(writer.bytes(), place);
}

Deno.test("forEachPaxRecord takes values with NULs, equals signs and newlines", () => {
  assertEquals(recordsOf("6 k=v\n14 b=\0\n=\xff\n\n\n\n\n9 empty=\n"), [
    ["k", "v"],
    ["b", "\0\n=\xff\n\n\n\n"],
    ["empty", ""],
  ]);
});

Deno.test("forEachPaxRecord takes leading zeros in the length", () => {
  assertEquals(recordsOf("0000012 k=v\n"), [["k", "v"]]);
});

Deno.test("forEachPaxRecord refuses records that are not well formed", () => {
  const cases: [string, string][] = [
    ["k=v\n", "does not start with its length"],
    ["6k=v\n\n", "does not start with its length"],
    [" 6 k=v\n", "does not start with its length"],
    ["-6 k=v\n", "does not start with its length"],
    ["6", "does not start with its length"],
    [`${"0".repeat(30)}34 k=v\n`, "does not start with its length"],
    ["7 k=v\n", "says it is 7 bytes long, of 6"],
    ["99999999999999999999 k=v\n", "bytes long"],
    ["0 k=v\n", "says it is 0 bytes long"],
    ["2 k=v\n", "says it is 2 bytes long"],
    ["5 k=v\n", "does not end in a newline"],
    ["6 k=vx", "does not end in a newline"],
    ["6 =vv\n", "no key"],
    ["6 kvv\n", "no key"],
    ["3 \n", "no key"],
    ["8 k\0x=v\n", "a NUL in its key"],
    ["6 k=v\n\0\0", "at byte 6"],
  ];
  for (const [text, why] of cases) {
    const error = assertThrows(() => recordsOf(text), InputError);
    assertStringIncludes(error.message, why, JSON.stringify(text));
    assertStringIncludes(error.message, 't: "p" at offset 0');
  }
});

Deno.test("readPaxRecords reads the POSIX keys", () => {
  const records = read(
    ["path", "a/b"],
    ["linkpath", "c"],
    ["size", "000123"],
    ["uid", "3000000"],
    ["gid", "4294967294"],
    ["mtime", "-1.5"],
    ["SCHILY.devmajor", "300"],
    ["SCHILY.devminor", "70000"],
  );
  assertEquals(
    [records.path, records.linkPath, records.sizeBytes, records.uid, records.gid],
    ["a/b", "c", 123, 3000000, 4294967294],
  );
  assertEquals(records.mtime, { seconds: -2, nanoseconds: 500000000 });
  assertEquals([records.deviceMajor, records.deviceMinor], [300, 70000]);
});

Deno.test("readPaxRecords lets the last of equal keys win, and an empty value take back the ones before", () => {
  const records = read(["path", "a"], ["uid", "1"], ["path", "b"], ["uid", ""], ["mtime", ""]);
  assertEquals([records.path, records.uid, records.mtime], ["b", undefined, undefined]);
});

Deno.test("readPaxRecords refuses NULs in names and numbers that are none", () => {
  for (const key of ["path", "linkpath", "uname", "gname", "GNU.sparse.name"]) {
    assertStringIncludes(
      assertThrows(() => read([key, "a\0b"]), InputError).message,
      "text without a NUL",
      key,
    );
  }
  for (const key of ["size", "uid", "gid", "SCHILY.devmajor", "SCHILY.devminor"]) {
    for (const value of ["x", "1.5", "9007199254740993", " 1", "0x1"]) {
      assertThrows(() => read([key, value]), InputError, "a decimal number");
    }
  }
  assertThrows(() => read(["mtime", "now"]), InputError, "decimal seconds");
});

Deno.test("readPaxRecords keeps xattrs as bytes, undoing GNU tar's two escapes and no others", () => {
  const records = read(
    ["SCHILY.xattr.user.a", "\0\xff\n=A"],
    ["SCHILY.xattr.user.empty", ""],
    ["SCHILY.xattr.user.e%3Dq%25%41%253D", "x"],
  );
  assertEquals(
    [...records.schilyXattrs ?? []].map(([name, value]) => [name, [...value]]),
    [
      ["user.a", [0, 255, 10, 61, 65]],
      ["user.empty", []],
      ["user.e=q%%41%3D", [120]],
    ],
  );
});

Deno.test("readPaxRecords passes over keys it does not know, and notes those that say something of the file", () => {
  const records = read(
    ["atime", "not looked at"],
    ["LIBARCHIVE.creationtime", "1"],
    ["SCHILY.ino", "1"],
    ["VENDOR.key", "x"],
    ["SCHILY.fflags", "nodump"],
    ["SCHILY.acl.ace", ""],
  );
  assertEquals(records.dropped, ["SCHILY.fflags"]);
  assertEquals(records.unsupported, undefined);
  assertEquals(read(["SCHILY.realsize", "5"]).unsupported, "SCHILY.realsize");
});

Deno.test("readPaxRecords wants the offsets and lengths of GNU.sparse 0.0 by turns", () => {
  const records = read(
    ["GNU.sparse.offset", "0"],
    ["GNU.sparse.numbytes", "5"],
    ["GNU.sparse.offset", "9"],
    ["GNU.sparse.numbytes", "1"],
  );
  assertEquals(records.sparse?.pairs, ["0", "5", "9", "1"]);
  assertThrows(() => read(["GNU.sparse.numbytes", "5"]), InputError, "GNU.sparse.offset is wanted");
  assertThrows(
    () => read(["GNU.sparse.offset", "5"], ["GNU.sparse.offset", "6"]),
    InputError,
    "GNU.sparse.numbytes is wanted",
  );
});

type Records = readonly (readonly [ByteString, ByteString])[];

function readAttributes(records: Records, header: Parameters<typeof rawHeader>[0] = {}): ReadTar {
  return readTar(rawTar(paxHeader(records), rawHeader(header)));
}

/** The xattrs of the one entry, values as byte strings. */
function xattrsOf(records: Records): [ByteString, ByteString][] {
  return readAttributes(records).entries[0]!.xattrs.map((
    { name, value },
  ) => [name, String.fromCharCode(...value)]);
}

const ACL_TEXT = "user::rwx\nuser:1000:r-x\ngroup::r-x\nmask::rwx\nother::r--\n\n";
const ACL_BYTES = "\x02\0\0\0" + "\x01\0\x07\0\xff\xff\xff\xff" + "\x02\0\x05\0\xe8\x03\0\0" +
  "\x04\0\x05\0\xff\xff\xff\xff" + "\x10\0\x07\0\xff\xff\xff\xff" + "\x20\0\x04\0\xff\xff\xff\xff";

Deno.test("paxAttributes gives each xattr once, in byte order, as bytes", () => {
  assertEquals(
    xattrsOf([
      ["SCHILY.xattr.user.b", "1"],
      ["SCHILY.xattr.user.\xff", "2"],
      ["SCHILY.xattr.user.a", "old"],
      ["SCHILY.xattr.security.capability", "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"],
      ["SCHILY.xattr.user.a", "\0new\n="],
      ["SCHILY.xattr.user.empty", ""],
    ]),
    [
      ["security.capability", "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"],
      ["user.a", "\0new\n="],
      ["user.b", "1"],
      ["user.empty", ""],
      ["user.\xff", "2"],
    ],
  );
});

Deno.test("paxAttributes reads bsdtar's records and lets SCHILY's win", () => {
  assertEquals(
    xattrsOf([
      ["LIBARCHIVE.xattr.user.%3D%25%FFx", "AP8KPUE"],
      ["LIBARCHIVE.xattr.user.both", "AAAA"],
      ["SCHILY.xattr.user.both", "schily"],
      ["LIBARCHIVE.xattr.user.padded", "QQ=="],
      ["LIBARCHIVE.xattr.user.100%", "QUI="],
      ["LIBARCHIVE.xattr.user.broken", "QU\nJD\r\n"],
      ["LIBARCHIVE.xattr.user.none", ""],
    ]),
    [
      ["user.100%", "AB"],
      ["user.=%\xffx", "\0\xff\n=A"],
      ["user.both", "schily"],
      ["user.broken", "ABC"],
      ["user.none", ""],
      ["user.padded", "A"],
    ],
  );
});

Deno.test("paxAttributes refuses what is not base64, and names that cannot be", () => {
  for (const value of ["A", "AB*D", "A B=", "QQ=A"]) {
    const error = assertThrows(
      () => readAttributes([["LIBARCHIVE.xattr.user.a", value]]),
      InputError,
    );
    assertStringIncludes(error.message, "is not base64", value);
  }
  assertThrows(() => readAttributes([["SCHILY.xattr.", "x"]]), InputError, "no name");
  assertThrows(
    () => readAttributes([["LIBARCHIVE.xattr.user.%00", "QQ"]]),
    InputError,
    "NUL in its name",
  );
});

Deno.test("paxAttributes turns ACL text into the system call's format", () => {
  assertEquals(
    xattrsOf([["SCHILY.acl.access", ACL_TEXT], [
      "SCHILY.acl.default",
      "user::rwx,group::r-x,other::---",
    ]]),
    [
      ["system.posix_acl_access", ACL_BYTES],
      [
        "system.posix_acl_default",
        "\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
      ],
    ],
  );
});

Deno.test("paxAttributes lets the binary ACL win over the text, and never looks at that text", () => {
  const { entries, warningKinds } = readAttributes([
    ["SCHILY.acl.access", "user:anna:rwx"],
    ["SCHILY.xattr.system.posix_acl_access", ACL_BYTES],
  ]);
  assertEquals(entries[0]!.xattrs.map(({ value }) => String.fromCharCode(...value)), [ACL_BYTES]);
  assertEquals(warningKinds, []);
});

Deno.test("paxAttributes drops an access ACL that only says the mode once more, and empty ones", () => {
  assertEquals(xattrsOf([["SCHILY.acl.access", "user::rwx,group::r-x,other::r-x"]]), []);
  assertEquals(xattrsOf([["SCHILY.acl.access", "\n"], ["SCHILY.acl.default", ""]]), []);
});

Deno.test("paxAttributes lets an access ACL's text set the permissions, its mask for the group's", () => {
  const modeOf = (records: Records) => readAttributes(records, { mode: 0o4640 }).entries[0]!.mode;
  assertEquals(modeOf([["SCHILY.acl.access", ACL_TEXT]]), 0o4774);
  assertEquals(modeOf([["SCHILY.acl.access", "user::rwx,group::r-x,other::r-x"]]), 0o4755);
  assertEquals(modeOf([["SCHILY.acl.access", "rubbish"]]), 0o4640);
  assertEquals(modeOf([["SCHILY.acl.default", ACL_TEXT]]), 0o4640);
  const both = [["SCHILY.acl.access", ACL_TEXT], [
    "SCHILY.xattr.system.posix_acl_access",
    ACL_BYTES,
  ]] as const;
  assertEquals(modeOf(both), 0o4640);
});

Deno.test("paxAttributes drops an ACL that gives names or makes no sense, and speaks of it", () => {
  const named = readAttributes([["SCHILY.acl.access", ACL_TEXT.replace("1000", "an\x1bna")]]);
  assertEquals(named.entries[0]!.xattrs, []);
  assertEquals(named.warningKinds, ["aclName"]);
  assertStringIncludes(named.warnings[0]!, '"an\\x1bna" by name');
  const bad = readAttributes([["SCHILY.acl.access", "rubbish"], ["SCHILY.acl.default", ACL_TEXT]]);
  assertEquals(bad.entries[0]!.xattrs.map(({ name }) => name), ["system.posix_acl_default"]);
  assertEquals(bad.warningKinds, ["aclInvalid"]);
});

Deno.test("paxAttributes reads the SELinux label of tar --selinux, with the NUL that the kernel's value has", () => {
  assertEquals(xattrsOf([["RHT.security.selinux", "u:r:t:s0"]]), [
    ["security.selinux", "u:r:t:s0\0"],
  ]);
  assertEquals(
    xattrsOf([["RHT.security.selinux", "x"], ["SCHILY.xattr.security.selinux", "y\0"]]),
    [["security.selinux", "y\0"]],
  );
});

Deno.test("TarIndexer speaks of file flags and NFSv4 ACLs that it drops", () => {
  const { warningKinds, warnings } = readAttributes([["SCHILY.fflags", "nodump"], [
    "SCHILY.acl.ace",
    "x",
  ]]);
  assertEquals(warningKinds, ["paxRecord", "paxRecord"]);
  assertStringIncludes(warnings[0]!, 'its PAX record "SCHILY.fflags" is dropped');
});

Deno.test("xattrs belong to one entry alone", () => {
  const { entries } = readTar(rawTar(
    paxHeader([["SCHILY.xattr.user.a", "1"]]),
    rawHeader({ name: "a" }),
    rawHeader({ name: "b" }),
  ));
  assertEquals(entries.map(({ xattrs }) => xattrs.length), [1, 0]);
});

const UUID = "12345678-9abc-8def-8123-456789abcdef";

const ENTRY: Omit<TarEntry, "headerOffset"> = {
  kind: "symlink",
  path: "name",
  linkTarget: "target",
  mode: 0o777,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  mtimeNanoseconds: 0,
  deviceMajor: 0,
  deviceMinor: 0,
  xattrs: [],
  payload: undefined,
};

function indexed(...parts: Uint8Array[]): { entries: TarEntry[]; comment: string | undefined } {
  const entries: TarEntry[] = [];
  const indexer = new TarIndexer({
    name: "tar",
    emit: (entry) => entries.push(entry),
    warn: (kind) => {
      throw new Error(kind);
    },
  });
  for (const part of parts) indexer.push(part);
  indexer.push(new Uint8Array(1024));
  indexer.end();
  return { entries, comment: indexer.firstComment };
}

Deno.test("uuidOfComment and firstLayerOfComment read what was written, and nothing else", () => {
  assertEquals(uuidOfComment(uuidComment(UUID)), UUID);
  assertEquals(firstLayerOfComment(firstLayerComment(999_999)), 999_999);
  const others = [
    undefined,
    "",
    UUID,
    `blessfs uuid ${UUID.toUpperCase()}`,
    `${uuidComment(UUID)}\n`,
    "blessfs uuid 12345678-9abc-8def-8123-456789abcde",
    "blessfs first-layer 0",
    "blessfs first-layer 01",
    "blessfs first-layer 1000000",
    "blessfs first-layer -1",
  ];
  for (const comment of others) {
    assertEquals([uuidOfComment(comment), firstLayerOfComment(comment)], [undefined, undefined]);
  }
});

Deno.test("TarIndexer gives comments of the tar and of entries", () => {
  const first = encodeTarEntry({ ...ENTRY, path: "./" }, uuidComment(UUID)).head;
  const second = encodeTarEntry({ ...ENTRY, firstLayer: 3 }, undefined).head;
  const third = encodeTarEntry({ ...ENTRY, path: "other" }).head;
  const { entries, comment } = indexed(first, second, third);
  assertEquals(comment, uuidComment(UUID));
  assertEquals(entries.map(({ path, firstLayer }) => [path, firstLayer]), [
    ["./", undefined],
    ["name", 3],
    ["other", undefined],
  ]);
  assertEquals("firstLayer" in entries[2]!, false);
});

Deno.test("TarIndexer passes over comments that are long, and on later entries", () => {
  const commented = (comment: string | undefined) => encodeTarEntry(ENTRY, comment).head;
  assertEquals(indexed(commented("x".repeat(COMMENT_BYTES_MAX))).comment?.length, 256);
  assertEquals(indexed(commented("x".repeat(COMMENT_BYTES_MAX + 1))).comment, undefined);
  assertEquals(indexed(commented(undefined), commented("two")).comment, undefined);
  assertEquals(indexed(encodeTarEntry({ ...ENTRY, firstLayer: 0 }).head).comment, undefined);
});
