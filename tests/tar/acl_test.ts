import { assertEquals, assertStringIncludes } from "@std/assert";
import { ACL_TAG, aclFromText } from "../../lib/tar/acl.ts";

/** The entries of an ACL in the system call's format, as `tag:permissions:id`. */
function entriesOf(value: Uint8Array): string[] {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  assertEquals(view.getUint32(0, true), 2);
  const entries = [];
  for (let at = 4; at < value.length; at += 8) {
    const id = view.getUint32(at + 4, true);
    const tag = view.getUint16(at, true);
    entries.push(`${tag}:${view.getUint16(at + 2, true)}:${id === 0xffffffff ? "-" : id}`);
  }
  return entries;
}

function aclOf(text: string): string[] {
  const result = aclFromText(text);
  if (result.kind !== "acl") throw new Error(JSON.stringify(result));
  return entriesOf(result.value);
}

const SAMPLE = ["1:7:-", "2:5:1000", "2:6:2000", "4:5:-", "8:7:50", "16:7:-", "32:4:-"];

Deno.test("aclFromText reads GNU tar's lines, sorted by tag and id", () => {
  const text =
    "user::rwx\nuser:2000:rw-\nuser:1000:r-x\ngroup::r-x\ngroup:50:rwx\nmask::rwx\nother::r--\n\n";
  assertEquals(aclOf(text), SAMPLE);
});

Deno.test("aclFromText reads bsdtar's commas and takes the number in the fourth field over the name", () => {
  const text =
    "user::rwx,user:anna:r-x:1000,user:77:rw-:2000,group::r-x,group:staff:rwx:50,mask::rwx,other::r--";
  assertEquals(aclOf(text), SAMPLE);
});

Deno.test("aclFromText reads short tags, comments, blanks, any order of rwx, and Solaris's two fields", () => {
  const text =
    "o::r--,m:rwx, u::xwr ,g::r-x #effective:r--\ng:50:rwx,default:u:1000:r-x\nd:user:2000:rw";
  assertEquals(aclOf(text), SAMPLE);
});

Deno.test("aclFromText knows root and no other name", () => {
  assertEquals(
    aclOf("user::rwx,user:root:r--,group::r-x,group:root:rwx,mask::rwx,other::---"),
    ["1:7:-", "2:4:0", "4:5:-", "8:7:0", "16:7:-", "32:0:-"],
  );
  assertEquals(
    aclFromText("user::rwx,user:anna:r--,group::r-x,mask::rwx,other::---"),
    { kind: "unknownName", name: "anna" },
  );
});

Deno.test("aclFromText says when an ACL is empty, and when it holds the base entries alone", () => {
  assertEquals(aclFromText(""), { kind: "empty" });
  assertEquals(aclFromText("\n#x\n,"), { kind: "empty" });
  const minimal = aclFromText("user::rwx,group::r-x,other::r-x");
  assertEquals(minimal.kind === "acl" && minimal.isMinimal, true);
  const masked = aclFromText("user::rwx,group::r-x,mask::r-x,other::r-x");
  assertEquals(masked.kind === "acl" && masked.isMinimal, false);
});

Deno.test("aclFromText says which permissions the ACL gives: a mask stands for the group's", () => {
  const permissionsOf = (text: string) => {
    const acl = aclFromText(text);
    return acl.kind === "acl" ? acl.permissions : undefined;
  };
  assertEquals(permissionsOf("user::rw-,group::r-x,other::--x"), 0o651);
  assertEquals(permissionsOf("user::rw-,group::r-x,mask::-w-,other::--x"), 0o621);
});

Deno.test("aclFromText refuses what the kernel would refuse", () => {
  const base = "user::rwx,group::r-x,other::r-x";
  const cases: [string, string][] = [
    ["user::rwx,group::r-x", "no entry for other"],
    ["group::r-x,other::r--", "no entry for userObject"],
    [`${base},user::r--`, "2 entries for userObject"],
    [`${base},user:5:r--`, "no mask"],
    [`${base},mask::r--,user:5:r--,user:5:rw-`, "id 5 twice"],
    [`${base},mask:5:r--`, "has a name"],
    [`${base},user:4294967295:r--,mask::r--`, "out of range"],
    [`${base},user:-1:r--,mask::r--`, "out of range"],
    [`${base},user:1`, "TAG:NAME:rwx"],
    [`${base},user:1:rq-`, "TAG:NAME:rwx"],
    [`${base},user:1::1`, "TAG:NAME:rwx"],
    [`${base},constructor::rwx`, "TAG:NAME:rwx"],
    [`${base},user:1:rwx:1:1`, "TAG:NAME:rwx"],
    ["\x1b[2J", "\\x1b[2J"],
  ];
  for (const [text, why] of cases) {
    const result = aclFromText(text);
    assertEquals(result.kind, "invalid", text);
    if (result.kind === "invalid") assertStringIncludes(result.why, why);
  }
});

Deno.test("ACL_TAG orders the tags as the kernel wants them", () => {
  const tags = Object.values(ACL_TAG);
  assertEquals([...tags].sort((a, b) => a - b), tags);
});
