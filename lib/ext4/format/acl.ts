/**
 * POSIX ACLs in their two formats: the one of the system calls and of tar archives (version 2, eight bytes an entry;
 * include/uapi/linux/posix_acl_xattr.h), and the one ext4 stores (version 1, four bytes, or eight with an id;
 * fs/ext4/acl.h). Everything is little-endian.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { viewOf } from "./fields.ts";

/** e_tag. */
export const ACL_TAG = {
  USER_OBJ: 0x01,
  USER: 0x02,
  GROUP_OBJ: 0x04,
  GROUP: 0x08,
  MASK: 0x10,
  OTHER: 0x20,
} as const;

/** One line of an ACL. */
export interface AclEntry {
  /** An ACL_TAG. */
  readonly tag: number;
  /** Bits rwx, 0 to 7. */
  readonly permissions: number;
  /** The user's or group's id where the tag has one. */
  readonly id?: number | undefined;
}

const SYSTEM_CALL_VERSION = 2;
const DISK_VERSION = 1;
const HEADER_SIZE_BYTES = 4;
const SHORT_ENTRY_SIZE_BYTES = 4;
const LONG_ENTRY_SIZE_BYTES = 8;
/** What the system call format has in place of an id (ACL_UNDEFINED_ID). */
const NO_ID = 0xffffffff;

/**
 * The entries of an ACL in the system call format, checked as the kernel does (posix_acl_valid): in the order owner,
 * users, group, groups, mask, other; one owner, group and other; a mask where there are users or groups; no id twice.
 * Just a header means "no ACL" and gives no entries. Throws InputError otherwise.
 */
export function aclEntries(systemCallValue: Uint8Array): AclEntry[] {
  const view = checkedHeader(systemCallValue, SYSTEM_CALL_VERSION);
  const room = systemCallValue.length - HEADER_SIZE_BYTES;
  if (room % LONG_ENTRY_SIZE_BYTES !== 0) {
    throw new InputError("ACL", `${room} bytes of entries are not a multiple of 8`);
  }
  const entries: AclEntry[] = [];
  for (let at = HEADER_SIZE_BYTES; at < systemCallValue.length; at += LONG_ENTRY_SIZE_BYTES) {
    entries.push(readEntry(view, at));
  }
  checkEntries(entries);
  return entries;
}

/** Turns the system call format into the one ext4 stores. Throws InputError for an ACL that is not valid. */
export function aclToDisk(systemCallValue: Uint8Array): Uint8Array<ArrayBuffer> {
  const entries = aclEntries(systemCallValue);
  const sizes = entries.map(({ tag }) => diskEntrySizeBytes(tag));
  const disk = new Uint8Array(sizes.reduce((sum, size) => sum + size, HEADER_SIZE_BYTES));
  const view = viewOf(disk);
  view.setUint32(0, DISK_VERSION, true);
  let at = HEADER_SIZE_BYTES;
  for (const { tag, permissions, id } of entries) {
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, permissions, true);
    if (id !== undefined) view.setUint32(at + 4, id, true);
    at += diskEntrySizeBytes(tag);
  }
  return disk;
}

/** Turns what ext4 stores into the system call format. Throws InputError for an ACL that is not valid. */
export function aclFromDisk(disk: Uint8Array): Uint8Array<ArrayBuffer> {
  const view = checkedHeader(disk, DISK_VERSION);
  const entries: AclEntry[] = [];
  for (let at = HEADER_SIZE_BYTES; at < disk.length;) {
    const left = disk.length - at;
    const size = left < SHORT_ENTRY_SIZE_BYTES
      ? left + 1
      : diskEntrySizeBytes(view.getUint16(at, true));
    if (size > left) throw new InputError("ACL", `its last entry has only ${left} bytes`);
    entries.push(readEntry(view, at));
    at += size;
  }
  checkEntries(entries);
  const value = new Uint8Array(HEADER_SIZE_BYTES + entries.length * LONG_ENTRY_SIZE_BYTES);
  const target = viewOf(value);
  target.setUint32(0, SYSTEM_CALL_VERSION, true);
  entries.forEach(({ tag, permissions, id }, index) => {
    const at = HEADER_SIZE_BYTES + index * LONG_ENTRY_SIZE_BYTES;
    target.setUint16(at, tag, true);
    target.setUint16(at + 2, permissions, true);
    target.setUint32(at + 4, id ?? NO_ID, true);
  });
  return value;
}

function checkedHeader(value: Uint8Array, version: number): DataView<ArrayBufferLike> {
  if (value.length < HEADER_SIZE_BYTES) {
    throw new InputError("ACL", `it has ${value.length} bytes, too few for its version`);
  }
  const view = viewOf(value);
  const found = view.getUint32(0, true);
  if (found !== version) throw new InputError("ACL", `its version is ${found}, not ${version}`);
  return view;
}

function readEntry(view: DataView<ArrayBufferLike>, at: number): AclEntry {
  const tag = view.getUint16(at, true);
  const permissions = view.getUint16(at + 2, true);
  if (!hasId(tag)) return { tag, permissions };
  return { tag, permissions, id: view.getUint32(at + 4, true) };
}

function hasId(tag: number): boolean {
  return tag === ACL_TAG.USER || tag === ACL_TAG.GROUP;
}

function diskEntrySizeBytes(tag: number): number {
  return hasId(tag) ? LONG_ENTRY_SIZE_BYTES : SHORT_ENTRY_SIZE_BYTES;
}

/** Owner, group and other are needed once each; users and groups may repeat, with different ids. */
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

/** The permissions, 0 to 0o777, that an access ACL stands for (acl(5), "Correspondence"). */
export function permissionsOfAcl(entries: readonly AclEntry[]): number {
  const bits = (tag: number) => entries.find((entry) => entry.tag === tag)?.permissions;
  const group = bits(ACL_TAG.MASK) ?? bits(ACL_TAG.GROUP_OBJ) ?? 0;
  return ((bits(ACL_TAG.USER_OBJ) ?? 0) << 6) | (group << 3) | (bits(ACL_TAG.OTHER) ?? 0);
}
