import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { InputError } from "../../lib/errors.ts";
import { paxHeader, rawHeader, rawTar } from "./raw.ts";
import type { ReadTar } from "./read.ts";
import { readTar } from "./read.ts";

type Records = readonly (readonly [ByteString, ByteString])[];

function read(records: Records, header: Parameters<typeof rawHeader>[0] = {}): ReadTar {
  return readTar(rawTar(paxHeader(records), rawHeader(header)));
}

/** The xattrs of the one entry, values as byte strings. */
function xattrsOf(records: Records): [ByteString, ByteString][] {
  return read(records).entries[0]!.xattrs.map((
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
      ["LIBARCHIVE.xattr.user.none", ""],
    ]),
    [
      ["user.100%", "AB"],
      ["user.=%\xffx", "\0\xff\n=A"],
      ["user.both", "schily"],
      ["user.none", ""],
      ["user.padded", "A"],
    ],
  );
});

Deno.test("paxAttributes refuses what is not base64, and names that cannot be", () => {
  for (const value of ["A", "AB*D", "A B=", "QQ=A"]) {
    const error = assertThrows(() => read([["LIBARCHIVE.xattr.user.a", value]]), InputError);
    assertStringIncludes(error.message, "is not base64", value);
  }
  assertThrows(() => read([["SCHILY.xattr.", "x"]]), InputError, "no name");
  assertThrows(() => read([["LIBARCHIVE.xattr.user.%00", "QQ"]]), InputError, "NUL in its name");
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
  const { entries, warningKinds } = read([
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
  const modeOf = (records: Records) => read(records, { mode: 0o4640 }).entries[0]!.mode;
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
  const named = read([["SCHILY.acl.access", ACL_TEXT.replace("1000", "an\x1bna")]]);
  assertEquals(named.entries[0]!.xattrs, []);
  assertEquals(named.warningKinds, ["aclName"]);
  assertStringIncludes(named.warnings[0]!, '"an\\x1bna" by name');
  const bad = read([["SCHILY.acl.access", "rubbish"], ["SCHILY.acl.default", ACL_TEXT]]);
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
  const { warningKinds, warnings } = read([["SCHILY.fflags", "nodump"], ["SCHILY.acl.ace", "x"]]);
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
