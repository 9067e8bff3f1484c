/**
 * POSIX ACLs in their two formats: that of system calls and tar archives (version 2, eight bytes per entry;
 * include/uapi/linux/posix_acl_xattr.h), and ext4's own (version 1, four bytes per entry, or eight with an id;
 * fs/ext4/acl.h). Everything is little-endian.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { viewOf } from "./fields.ts";

export const ACL_TAG = {
  USER_OBJ: 0x01,
  USER: 0x02,
  GROUP_OBJ: 0x04,
  GROUP: 0x08,
  MASK: 0x10,
  OTHER: 0x20,
} as const;

/** One entry of an ACL. */
export interface AclEntry {
  /** An ACL_TAG. */
  readonly tag: number;
  /** The rwx bits, 0 to 7. */
  readonly permissions: number;
  /** The user or group id, if the tag has one. */
  readonly id?: number | undefined;
}

/** The first word of an ACL identifies its format. */
const VERSION = { DISK: 1, SYSTEM_CALL: 2 } as const;
type Version = (typeof VERSION)[keyof typeof VERSION];

const HEADER_SIZE_BYTES = 4;
/** The system call format's placeholder for an id (ACL_UNDEFINED_ID). */
const NO_ID = 0xffffffff;

/**
 * Reads the entries of an ACL in the system call format, checked as the kernel does (posix_acl_valid): in the order
 * owner, users, group, groups, mask, other; exactly one owner, group and other; a mask if there are users or groups; no
 * duplicate ids. A bare header means "no ACL" and yields no entries. Throws InputError otherwise.
 */
export function aclEntries(systemCallValue: Uint8Array): AclEntry[] {
  return readEntries(systemCallValue, VERSION.SYSTEM_CALL);
}

/** Converts the system call format to ext4's. Throws InputError for an invalid ACL. */
export function aclToDisk(systemCallValue: Uint8Array): Uint8Array<ArrayBuffer> {
  return writeEntries(aclEntries(systemCallValue), VERSION.DISK);
}

/** Converts ext4's format to that of system calls. Throws InputError for an invalid ACL. */
export function aclFromDisk(disk: Uint8Array): Uint8Array<ArrayBuffer> {
  return writeEntries(readEntries(disk, VERSION.DISK), VERSION.SYSTEM_CALL);
}

function hasId(tag: number): boolean {
  return tag === ACL_TAG.USER || tag === ACL_TAG.GROUP;
}

/** Only ext4's format omits unneeded ids. */
function entrySizeBytes(tag: number, version: Version): number {
  return version === VERSION.SYSTEM_CALL || hasId(tag) ? 8 : 4;
}

function readEntries(value: Uint8Array, version: Version): AclEntry[] {
  if (value.length < HEADER_SIZE_BYTES) {
    throw new InputError("ACL", `it has ${value.length} bytes, too few for its version`);
  }
  const view = viewOf(value);
  const found = view.getUint32(0, true);
  if (found !== version) throw new InputError("ACL", `its version is ${found}, not ${version}`);
  const entries: AclEntry[] = [];
  for (let at = HEADER_SIZE_BYTES; at < value.length;) {
    const left = value.length - at;
    const tag = left < 4 ? 0 : view.getUint16(at, true);
    const sizeBytes = entrySizeBytes(tag, version);
    if (sizeBytes > left) throw new InputError("ACL", `its last entry has only ${left} bytes`);
    const permissions = view.getUint16(at + 2, true);
    entries.push(
      hasId(tag) ? { tag, permissions, id: view.getUint32(at + 4, true) } : { tag, permissions },
    );
    at += sizeBytes;
  }
  checkEntries(entries);
  return entries;
}

function writeEntries(entries: readonly AclEntry[], version: Version): Uint8Array<ArrayBuffer> {
  const sizes = entries.map(({ tag }) => entrySizeBytes(tag, version));
  const value = new Uint8Array(sizes.reduce((sum, size) => sum + size, HEADER_SIZE_BYTES));
  const view = viewOf(value);
  view.setUint32(0, version, true);
  let at = HEADER_SIZE_BYTES;
  entries.forEach(({ tag, permissions, id = NO_ID }, i) => {
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    if (sizes[i] === 8) view.setUint32(at + 4, id, true);
    at += sizes[i]!;
  });
  return value;
}

/** Owner, group and other must each occur once; users and groups may repeat with different ids. */
function checkEntries(entries: readonly AclEntry[]): void {
  if (entries.length === 0) return;
  const seen = new Set<string>();
  const count = new Map<number, number>(Object.values(ACL_TAG).map((tag) => [tag, 0]));
  let previousTag = 0;
  for (const { tag, permissions, id } of entries) {
    const before = count.get(tag);
    if (before === undefined) {
      throw new InputError("ACL", `its tag 0x${tag.toString(16)} is unknown`);
    }
    if (tag < previousTag) {
      const [after, first] = [tag, previousTag].map((each) => `0x${each.toString(16)}`);
      throw new InputError("ACL", `tag ${after} follows ${first}`);
    }
    if (permissions > 7) throw new InputError("ACL", `its permissions ${permissions} are over 7`);
    if (id === NO_ID) throw new InputError("ACL", "a user or group has the id -1");
    const key = `${tag}:${id ?? ""}`;
    if (seen.has(key)) {
      const name = id === undefined ? "" : ` with id ${id}`;
      throw new InputError("ACL", `tag 0x${tag.toString(16)}${name} is there twice`);
    }
    seen.add(key);
    count.set(tag, before + 1);
    previousTag = tag;
  }
  for (const tag of [ACL_TAG.USER_OBJ, ACL_TAG.GROUP_OBJ, ACL_TAG.OTHER]) {
    if (count.get(tag) === 0) {
      throw new InputError("ACL", `it has no entry of tag 0x${tag.toString(16)}`);
    }
  }
  const namedCount = count.get(ACL_TAG.USER)! + count.get(ACL_TAG.GROUP)!;
  if (namedCount > 0 && count.get(ACL_TAG.MASK) === 0) {
    throw new InputError("ACL", "it names users or groups but has no mask");
  }
}

/** The permissions, 0 to 0o777, that an access ACL corresponds to (acl(5), "Correspondence"). */
export function permissionsOfAcl(entries: readonly AclEntry[]): number {
  const bits = (tag: number) => entries.find((entry) => entry.tag === tag)?.permissions;
  const group = bits(ACL_TAG.MASK) ?? bits(ACL_TAG.GROUP_OBJ) ?? 0;
  return ((bits(ACL_TAG.USER_OBJ) ?? 0) << 6) | (group << 3) | (bits(ACL_TAG.OTHER) ?? 0);
}
