/**
 * Converts a POSIX ACL from text, as tars contain it, to the value of the xattrs `system.posix_acl_access` and
 * `system.posix_acl_default` (Linux include/uapi/linux/posix_acl_xattr.h: version 2, then 8-byte entries).
 *
 * Known forms: GNU tar's, with one entry per line; bsdtar's and star's, with entries separated by commas and the numeric id
 * as a fourth field; short tags (`u::rwx`); comments after `#`.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { parseDecimal, quoted } from "./header.ts";

/** The tags of ACL entries, in the kernel's order. */
export const ACL_TAG = {
  userObject: 0x01,
  user: 0x02,
  groupObject: 0x04,
  group: 0x08,
  mask: 0x10,
  other: 0x20,
} as const;

const XATTR_VERSION = 2;
const HEADER_SIZE_BYTES = 4;
const ENTRY_SIZE_BYTES = 8;
const NO_ID = 0xffffffff;

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

/** The result of parsing an ACL's text. */
export type AclTextResult =
  | {
    readonly kind: "acl";
    /** The xattr's value. */
    readonly value: Uint8Array;
    /** The permissions, 0 to 0o777, that the kernel gives a file with this access ACL. */
    readonly permissions: number;
    /** Whether there are only the three base entries, which the file's mode expresses as well. */
    readonly isMinimal: boolean;
  }
  /** No entries at all. */
  | { readonly kind: "empty" }
  /** A user or group is given only by name; images have no table to look it up in. */
  | { readonly kind: "unknownName"; readonly name: ByteString }
  /** The text is not a valid ACL. `why` is safe to print. */
  | { readonly kind: "invalid"; readonly why: string };

/**
 * The xattr value for an ACL's text. The only name known without a number is `root`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { aclFromText } from "./acl.ts";
 * const acl = aclFromText("user::rwx,group::r-x,group:staff:rwx:50,mask::rwx,other::r-x");
 * assertEquals(acl.kind === "acl" && acl.value.length, 4 + 5 * 8);
 * ```
 */
export function aclFromText(text: ByteString): AclTextResult {
  const entries: AclEntry[] = [];
  for (const line of text.split(/[,\n]/)) {
    const entryText = trimBlanks(line.split("#", 1)[0]!);
    if (entryText === "") continue;
    const entry = parseEntry(entryText);
    if ("kind" in entry) return entry;
    entries.push(entry);
  }
  if (entries.length === 0) return { kind: "empty" };
  entries.sort((a, b) => a.tag - b.tag || a.id - b.id);
  const why = whyInvalid(entries);
  if (why !== undefined) return { kind: "invalid", why };
  return {
    kind: "acl",
    value: encodeAcl(entries),
    permissions: permissionsOf(entries),
    isMinimal: entries.length === 3,
  };
}

const WORD_OF_TAG = new Map<number, string>([
  [ACL_TAG.userObject, "user"],
  [ACL_TAG.user, "user"],
  [ACL_TAG.groupObject, "group"],
  [ACL_TAG.group, "group"],
  [ACL_TAG.mask, "mask"],
  [ACL_TAG.other, "other"],
]);

/**
 * The text of an ACL in the system call format, with numbers instead of names; undefined for an invalid value.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { aclFromText, aclToText } from "./acl.ts";
 * const text = "user::rw-,user:1000:r-x,group::r--,mask::r-x,other::---";
 * const acl = aclFromText(text);
 * assertEquals(acl.kind === "acl" && aclToText(acl.value), text);
 * ```
 */
export function aclToText(value: Uint8Array): ByteString | undefined {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const entryCount = (value.length - HEADER_SIZE_BYTES) / ENTRY_SIZE_BYTES;
  if (!Number.isInteger(entryCount) || entryCount < 1) return undefined;
  if (view.getUint32(0, true) !== XATTR_VERSION) return undefined;
  const parts: string[] = [];
  for (let at = HEADER_SIZE_BYTES; at < value.length; at += ENTRY_SIZE_BYTES) {
    const tag = view.getUint16(at, true);
    const permissions = view.getUint16(at + 2, true);
    const word = WORD_OF_TAG.get(tag);
    if (word === undefined || permissions > 7) return undefined;
    const isNamed = tag === ACL_TAG.user || tag === ACL_TAG.group;
    const bits = ["r", "w", "x"].map((letter, i) => ((permissions >> (2 - i)) & 1) ? letter : "-");
    parts.push(`${word}:${isNamed ? view.getUint32(at + 4, true) : ""}:${bits.join("")}`);
  }
  return parts.join(",");
}

/** As posix_acl_equiv_mode in fs/posix_acl.c: a mask replaces the group's bits. */
function permissionsOf(entries: readonly AclEntry[]): number {
  const bitsOf = (tag: number) => entries.find((entry) => entry.tag === tag)?.permissions;
  const group = bitsOf(ACL_TAG.mask) ?? bitsOf(ACL_TAG.groupObject) ?? 0;
  return ((bitsOf(ACL_TAG.userObject) ?? 0) << 6) | (group << 3) | (bitsOf(ACL_TAG.other) ?? 0);
}

const TAG_OF_WORD: Readonly<Record<string, "user" | "group" | "mask" | "other">> = {
  user: "user",
  u: "user",
  group: "group",
  g: "group",
  mask: "mask",
  m: "mask",
  other: "other",
  o: "other",
};

function parseEntry(text: ByteString): AclEntry | AclTextResult {
  const fields = text.split(":").map(trimBlanks);
  if (fields[0] === "default" || fields[0] === "d") fields.shift();
  const tag = Object.hasOwn(TAG_OF_WORD, fields[0] ?? "") ? TAG_OF_WORD[fields[0]!] : undefined;
  // Solaris writes mask and other without a name field.
  if ((tag === "mask" || tag === "other") && fields.length === 2) fields.splice(1, 0, "");
  const permissions = parsePermissions(fields[2] ?? "");
  if (tag === undefined || fields.length > 4 || permissions === undefined) {
    return invalidEntry(text, "is not TAG:NAME:rwx");
  }
  const [, name = "", , number = ""] = fields;
  if (name === "" && number === "") {
    const tagOfBase = { user: ACL_TAG.userObject, group: ACL_TAG.groupObject, mask: 0, other: 0 };
    return { tag: tagOfBase[tag] || ACL_TAG[tag], permissions, id: NO_ID };
  }
  if (tag === "mask" || tag === "other") {
    return invalidEntry(text, "has a name");
  }
  const id = name === "root" && number === "" ? 0 : parseDecimal(number === "" ? name : number);
  if (Number.isNaN(id)) return { kind: "unknownName", name };
  if (id < 0 || id >= NO_ID) return invalidEntry(text, "has an id out of range");
  return { tag: ACL_TAG[tag], permissions, id };
}

function invalidEntry(text: ByteString, why: string): AclTextResult {
  return { kind: "invalid", why: `the entry ${quoted(text)} ${why}` };
}

/** Removes spaces and tabs at both ends. A regular expression would take quadratic time for blanks in the middle. */
function trimBlanks(text: ByteString): ByteString {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text[start])) start++;
  while (end > start && isBlank(text[end - 1])) end--;
  return text.slice(start, end);
}

function isBlank(character: string | undefined): boolean {
  return character === " " || character === "\t";
}

/** Parses `rwx` with dashes, in any order; undefined for anything else. */
function parsePermissions(text: ByteString): number | undefined {
  if (!/^[rwx-]{1,3}$/.test(text)) return undefined;
  return (text.includes("r") ? 4 : 0) | (text.includes("w") ? 2 : 0) | (text.includes("x") ? 1 : 0);
}

/** The kernel's rules (posix_acl_valid in fs/posix_acl.c); undefined if all hold. */
function whyInvalid(sorted: readonly AclEntry[]): string | undefined {
  for (const [name, tag] of Object.entries(ACL_TAG)) {
    const count = sorted.filter((entry) => entry.tag === tag).length;
    const isNamed = tag === ACL_TAG.user || tag === ACL_TAG.group;
    if (isNamed) continue;
    if (count > 1) return `it has ${count} entries for ${name}`;
    if (count === 0 && tag !== ACL_TAG.mask) return `it has no entry for ${name}`;
  }
  const hasNamed = sorted.some(({ tag }) => tag === ACL_TAG.user || tag === ACL_TAG.group);
  if (hasNamed && !sorted.some(({ tag }) => tag === ACL_TAG.mask)) {
    return "it names users or groups and has no mask";
  }
  for (let i = 1; i < sorted.length; i++) {
    const [before, entry] = [sorted[i - 1]!, sorted[i]!];
    if (before.tag === entry.tag && before.id === entry.id) return `it has id ${entry.id} twice`;
  }
  return undefined;
}

function encodeAcl(entries: readonly AclEntry[]): Uint8Array {
  const value = new Uint8Array(HEADER_SIZE_BYTES + entries.length * ENTRY_SIZE_BYTES);
  const view = new DataView(value.buffer);
  view.setUint32(0, XATTR_VERSION, true);
  entries.forEach(({ tag, permissions, id }, i) => {
    const at = HEADER_SIZE_BYTES + i * ENTRY_SIZE_BYTES;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    view.setUint32(at + 4, id, true);
  });
  return value;
}
