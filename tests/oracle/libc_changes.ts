/**
 * The system calls that make trees which no runtime can make: any bytes as names, any attribute, owner, time and device.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import {
  checked,
  cString,
  libc,
  OPEN,
  OPEN_NOFOLLOW,
  procPath,
  SYMLINK_NOFOLLOW,
} from "./libc_calls.ts";

const REMOVE_DIRECTORY = 0x200;

/** Opens a name of an open directory for reading and writing; with `create`, makes it where it is missing. */
export function openWritableAt(directory: number, name: ByteString, create = false): number {
  const flags = 2 | OPEN_NOFOLLOW | OPEN.CLOEXEC | (create ? OPEN.CREATE : 0);
  return checked(
    () => libc().openat(directory, cString(name), flags, 0o644),
    "open for writing",
    name,
  );
}

/** Sets one extended attribute of a name. */
export function setXattrAt(
  directory: number,
  name: ByteString,
  xattr: ByteString,
  value: Uint8Array<ArrayBuffer>,
): void {
  const path = cString(procPath(directory, name));
  checked(
    () => libc().lsetxattr(path, cString(xattr), value, BigInt(value.length), 0),
    "lsetxattr",
    name,
  );
}

/** Writes all of `bytes` at `position`. */
export function writeAt(
  descriptor: number,
  bytes: Uint8Array<ArrayBuffer>,
  position: number,
): void {
  for (let done = 0; done < bytes.length;) {
    const part = bytes.subarray(done);
    const wanted = BigInt(part.length);
    done += checked(
      () => libc().pwrite(descriptor, part, wanted, BigInt(position + done)),
      "pwrite",
      "",
    );
  }
}

export function truncateDescriptor(descriptor: number, sizeBytes: number): void {
  checked(() => libc().ftruncate(descriptor, BigInt(sizeBytes)), "ftruncate", "");
}

/** Makes a file of any type: `mode` with its type bits. */
export function makeNodeAt(
  directory: number,
  name: ByteString,
  mode: number,
  device: readonly [major: number, minor: number] = [0, 0],
): void {
  const [major, minor] = device.map(BigInt) as [bigint, bigint];
  // The C library's packing of device numbers (gnu_dev_makedev).
  const number = (minor & 0xffn) | ((major & 0xfffn) << 8n) | ((minor & ~0xffn) << 12n);
  checked(() => libc().mknodat(directory, cString(name), mode, number), "mknod", name);
}

export function changeOwnerAt(directory: number, name: ByteString, uid: number, gid: number): void {
  checked(
    () => libc().fchownat(directory, cString(name), uid, gid, SYMLINK_NOFOLLOW),
    "chown",
    name,
  );
}

/** Sets the permission bits of anything but a symlink. */
export function changeModeAt(directory: number, name: ByteString, mode: number): void {
  checked(() => libc().fchmodat(directory, cString(name), mode, 0), "chmod", name);
}

/** Sets both times of a name; symlinks are not followed. */
export function changeTimeAt(
  directory: number,
  name: ByteString,
  seconds: number,
  nanoseconds: number,
): void {
  const one = [BigInt(seconds), BigInt(nanoseconds)];
  const times = new BigInt64Array([...one, ...one]);
  const call = () =>
    libc().utimensat(
      directory,
      cString(name),
      new Uint8Array(times.buffer),
      SYMLINK_NOFOLLOW,
    );
  checked(call, "utimensat", name);
}

export function removeAt(directory: number, name: ByteString, isDirectory: boolean): void {
  const flags = isDirectory ? REMOVE_DIRECTORY : 0;
  checked(() => libc().unlinkat(directory, cString(name), flags), "unlink", name);
}

export function makeDirectoryAt(directory: number, name: ByteString): void {
  checked(() => libc().mkdirat(directory, cString(name), 0o755), "mkdir", name);
}

export function renameAt(directory: number, from: ByteString, to: ByteString): void {
  checked(() => libc().renameat(directory, cString(from), directory, cString(to)), "rename", from);
}

/** Gives a file that has a name in one directory a further name in another. */
export function linkBetween(
  fromDirectory: number,
  from: ByteString,
  toDirectory: number,
  to: ByteString,
): void {
  const call = () => libc().linkat(fromDirectory, cString(from), toDirectory, cString(to), 0);
  checked(call, "link", from);
}

export function symlinkAt(directory: number, name: ByteString, target: ByteString): void {
  checked(() => libc().symlinkat(cString(target), directory, cString(name)), "symlink", name);
}
