/**
 * Opens every file of a directory tree as a user without rights of their own, and checks that it works exactly where
 * the mode, the ACL and the directories above allow it. A damaged ACL is invisible to root: only this finds it.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import type { Difference } from "./compare.ts";
import type { FileStatus } from "./libc.ts";
import {
  closeDescriptor,
  openDirectory,
  openNameAt,
  readAt,
  readNames,
  statusAt,
  xattrsAt,
} from "./libc.ts";
import { ERRNO, SystemCallError } from "./libc_calls.ts";
import { asUser } from "./libc_user.ts";

/** The user nobody, and the group nogroup. */
const NOBODY = 65534;
const READ = 4;
const SEARCH = 1;

interface AclEntry {
  readonly tag: number;
  readonly permissions: number;
  readonly id: number;
}

const ACL_TAG = { USER: 2, GROUP_OBJ: 4, GROUP: 8, MASK: 0x10, OTHER: 0x20 };

interface Child {
  readonly name: ByteString;
  readonly status: FileStatus;
  readonly isDirectory: boolean;
}

/** How many files and directories were tried. */
export interface UnprivilegedCounts {
  openedCount: number;
  refusedCount: number;
}

/** The first file or directory that opens though it must not, or does not though it must. */
export function firstWrongAccess(
  path: string,
  counts: UnprivilegedCounts = { openedCount: 0, refusedCount: 0 },
): Difference | undefined {
  const root = openDirectory(byteStringFromText(path));
  const pending: { path: ByteString; descriptor: number; status: FileStatus }[] = [
    { path: "", descriptor: root, status: statusAt(root, "") },
  ];
  try {
    for (let level = pending.pop(); level; level = pending.pop()) {
      const { descriptor } = level;
      try {
        const children = openableChildren(descriptor);
        const wrong = unreadableAcl(level, children) ?? tryDirectory(level, children, counts);
        if (wrong) return wrong;
        for (const child of children) {
          if (!child.isDirectory) continue;
          const opened = openNameAt(descriptor, child.name, true);
          const childPath = `${level.path}/${child.name}`;
          pending.push({ path: childPath, descriptor: opened, status: child.status });
        }
      } finally {
        closeDescriptor(descriptor);
      }
    }
    return undefined;
  } finally {
    for (const { descriptor } of pending) closeDescriptor(descriptor);
  }
}

/** Files and directories; opening a device or a fifo could do something. */
function openableChildren(descriptor: number): Child[] {
  const children: Child[] = [];
  for (const name of readNames(descriptor)) {
    const status = statusAt(descriptor, name);
    const type = status.mode & 0o170000;
    if (type !== 0o040000 && type !== 0o100000) continue;
    children.push({ name, status, isDirectory: type === 0o040000 });
  }
  return children;
}

/** A directory or file whose ACL the kernel itself cannot read, so that nobody but root can open it. */
function unreadableAcl(
  level: { path: ByteString; descriptor: number },
  children: readonly Child[],
): Difference | undefined {
  for (const name of ["", ...children.map((child) => child.name)]) {
    try {
      accessAcl(level.descriptor, name);
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      const path = name === "" ? level.path : `${level.path}/${name}`;
      return { path, field: "ACL", found: error.message, wanted: "readable" };
    }
  }
  return undefined;
}

/**
 * Tries the children of one directory. Whoever may not search a directory cannot reach what is below its children
 * either, so testing each directory by itself covers the whole path.
 */
function tryDirectory(
  level: { path: ByteString; descriptor: number; status: FileStatus },
  children: readonly Child[],
  counts: UnprivilegedCounts,
): Difference | undefined {
  const maySearch = isAllowed(level.descriptor, "", level.status, SEARCH);
  const wanted = children.map((child) =>
    maySearch && isAllowed(level.descriptor, child.name, child.status, READ) ? "opens" : "EACCES"
  );
  const found = asUser(
    NOBODY,
    NOBODY,
    () => children.map((child) => tryOpen(level.descriptor, child)),
  );
  for (const [i, child] of children.entries()) {
    const path = `${level.path}/${child.name}`;
    const field = `open as user ${NOBODY}`;
    if (found[i] !== wanted[i]) return { path, field, found: found[i]!, wanted: wanted[i]! };
    if (found[i] === "opens") counts.openedCount++;
    else counts.refusedCount++;
  }
  return undefined;
}

function tryOpen(directory: number, { name, isDirectory }: Child): string {
  let descriptor: number;
  try {
    descriptor = openNameAt(directory, name, isDirectory);
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return error.errno === ERRNO.EACCES ? "EACCES" : error.message;
  }
  try {
    if (!isDirectory) readAt(descriptor, new Uint8Array(1), 0);
    return "opens";
  } catch (error) {
    return (error as Error).message;
  } finally {
    closeDescriptor(descriptor);
  }
}

/** What the kernel's acl_permission_check and posix_acl_permission say of a user in no group but NOBODY. */
function isAllowed(
  directory: number,
  name: ByteString,
  status: FileStatus,
  permission: number,
): boolean {
  const { mode } = status;
  const has = (bits: number) => (bits & permission) === permission;
  if (status.uid === NOBODY) return has(mode >> 6);
  // The kernel does not look at the ACL when its mask, which the group bits are, is empty.
  const acl = (mode & 0o070) === 0 ? undefined : accessAcl(directory, name);
  const inGroup = status.gid === NOBODY;
  if (acl === undefined) return has(inGroup ? mode >> 3 : mode);
  const mask = acl.find(({ tag }) => tag === ACL_TAG.MASK)?.permissions ?? 7;
  const user = acl.find(({ tag, id }) => tag === ACL_TAG.USER && id === NOBODY);
  if (user) return has(user.permissions & mask);
  const groups = acl.filter(({ tag, id }) =>
    tag === ACL_TAG.GROUP_OBJ ? inGroup : tag === ACL_TAG.GROUP && id === NOBODY
  );
  if (groups.length > 0) return groups.some(({ permissions }) => has(permissions & mask));
  return has(acl.find(({ tag }) => tag === ACL_TAG.OTHER)?.permissions ?? 0);
}

/** The access ACL in the system call's format: a version, then entries of tag, permissions and id. */
function accessAcl(directory: number, name: ByteString): AclEntry[] | undefined {
  const xattr = xattrsAt(directory, name).find((x) => x.name === "system.posix_acl_access");
  if (xattr === undefined) return undefined;
  const view = new DataView(xattr.value.buffer, xattr.value.byteOffset, xattr.value.length);
  const entries: AclEntry[] = [];
  for (let at = 4; at + 8 <= view.byteLength; at += 8) {
    entries.push({
      tag: view.getUint16(at, true),
      permissions: view.getUint16(at + 2, true),
      id: view.getUint32(at + 4, true),
    });
  }
  return entries;
}
