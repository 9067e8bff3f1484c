import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { bytesFromByteString } from "../../lib/bytes/byte_string.ts";
import { InputError } from "../../lib/errors.ts";
import { forEachPaxRecord, readPaxRecords } from "../../lib/tar/pax.ts";
import { PaxRecordWriter } from "../../lib/tar/writer_pax.ts";

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
