/**
 * The few system calls that comparing trees needs and that no runtime offers: byte-exact names, extended attributes,
 * nanosecond times, device numbers, and the file system identity of one thread. They are called through Deno's foreign
 * function interface on the C library, so nothing needs to be installed.
 *
 * Only structures whose layout is the same on every Linux are read (statx, linux_dirent64).
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromBytes } from "../../lib/bytes/byte_string.ts";

const SYMBOLS = {
  __errno_location: { parameters: [], result: "pointer" },
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  readlinkat: { parameters: ["i32", "buffer", "buffer", "usize"], result: "isize" },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  lsetxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  mkdirat: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  renameat: { parameters: ["i32", "buffer", "i32", "buffer"], result: "i32" },
  linkat: { parameters: ["i32", "buffer", "i32", "buffer", "i32"], result: "i32" },
  mknodat: { parameters: ["i32", "buffer", "u32", "u64"], result: "i32" },
  fchownat: { parameters: ["i32", "buffer", "u32", "u32", "i32"], result: "i32" },
  fchmodat: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  utimensat: { parameters: ["i32", "buffer", "buffer", "i32"], result: "i32" },
  symlinkat: { parameters: ["buffer", "i32", "buffer"], result: "i32" },
  geteuid: { parameters: [], result: "u32" },
  setfsuid: { parameters: ["u32"], result: "i32" },
  setfsgid: { parameters: ["u32"], result: "i32" },
  getgroups: { parameters: ["i32", "buffer"], result: "i32" },
  syscall: { parameters: ["i64", "usize", "buffer"], result: "i64" },
} as const;

let library: Deno.DynamicLibrary<typeof SYMBOLS> | undefined;

function libc(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
  library ??= Deno.dlopen("libc.so.6", SYMBOLS);
  return library.symbols;
}

export const ERRNO = {
  ENOENT: 2,
  ENXIO: 6,
  EACCES: 13,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  ERANGE: 34,
  ENODATA: 61,
};

const OPEN = { CREATE: 0o100, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 };
// These two differ between processors.
const OPEN_DIRECTORY = Deno.build.arch === "aarch64" ? 0o40000 : 0o200000;
const OPEN_NOFOLLOW = Deno.build.arch === "aarch64" ? 0o100000 : 0o400000;
const SETGROUPS_CALL = Deno.build.arch === "aarch64" ? 159n : 116n;
const CURRENT_DIRECTORY = -100;
const SYMLINK_NOFOLLOW = 0x100;
const REMOVE_DIRECTORY = 0x200;
const STATX_BASIC_STATS = 0x7ff;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FIEMAP_REQUEST = 0xc020660bn;
const FIEMAP_HEADER_BYTES = 32;
const FIEMAP_EXTENT_BYTES = 56;
const FIEMAP_EXTENT_COUNT = 512;
const FIEMAP_LAST = 0x1;
const FIEMAP_INLINE = 0x200;
/** Longest value and longest list of names that the kernel hands out. */
const XATTR_BYTES_MAX = 65536;
/** Longest symlink target: one page, less its NUL. */
const TARGET_BYTES_MAX = 4096;

/** A system call that failed. */
export class SystemCallError extends Error {
  readonly errno: number;

  constructor(call: string, name: ByteString, errno: number) {
    const known = Object.entries(ERRNO).find(([, number]) => number === errno)?.[0];
    super(`${call} ${JSON.stringify(name)}: ${known ?? `errno ${errno}`}`);
    this.errno = errno;
  }
}

function lastErrno(): number {
  const pointer = libc().__errno_location();
  if (pointer === null) throw new Error("__errno_location returned null");
  return new Deno.UnsafePointerView(pointer).getInt32();
}

/**
 * The result of a call that did not fail; else its errno as an error. Between a call and the look at errno the runtime
 * may make calls of its own (its garbage collector waits on futexes), so a failure counts when it is the same twice.
 */
function checked(call: () => number | bigint, what: string, name: ByteString): number {
  let before: number | undefined;
  for (;;) {
    const result = call();
    if (result >= 0) return Number(result);
    const errno = lastErrno();
    if (errno === before) throw new SystemCallError(what, name, errno);
    before = errno;
  }
}

function cString(text: ByteString): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length + 1);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** What statx says of one file. */
export interface FileStatus {
  /** With the type bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  readonly sizeBytes: number;
  /** 512-byte units. */
  readonly blocks512: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** The same for two names exactly when they name one inode. */
  readonly identity: string;
}

/** Opens an absolute path as a directory. */
export function openDirectory(path: ByteString): number {
  const flags = OPEN_DIRECTORY | OPEN.CLOEXEC;
  return checked(() => libc().openat(CURRENT_DIRECTORY, cString(path), flags, 0), "open", path);
}

/** Opens a name of an open directory for reading, without following it. */
export function openNameAt(directory: number, name: ByteString, asDirectory = false): number {
  const flags = OPEN_NOFOLLOW | OPEN.NONBLOCK | OPEN.CLOEXEC | (asDirectory ? OPEN_DIRECTORY : 0);
  return checked(() => libc().openat(directory, cString(name), flags, 0), "open", name);
}

/** Opens a name of an open directory for reading and writing; with `create`, makes it where it is missing. */
export function openWritableAt(directory: number, name: ByteString, create = false): number {
  const flags = 2 | OPEN_NOFOLLOW | OPEN.CLOEXEC | (create ? OPEN.CREATE : 0);
  return checked(
    () => libc().openat(directory, cString(name), flags, 0o644),
    "open for writing",
    name,
  );
}

export function closeDescriptor(descriptor: number): void {
  checked(() => libc().close(descriptor), "close", "");
}

/** The status of a name in an open directory; symlinks are not followed. */
export function statusAt(directory: number, name: ByteString): FileStatus {
  const raw = new Uint8Array(256);
  const flags = SYMLINK_NOFOLLOW | (name === "" ? 0x1000 : 0);
  checked(
    () => libc().statx(directory, cString(name), flags, STATX_BASIC_STATS, raw),
    "statx",
    name,
  );
  const view = new DataView(raw.buffer);
  return {
    linkCount: view.getUint32(16, true),
    uid: view.getUint32(20, true),
    gid: view.getUint32(24, true),
    mode: view.getUint16(28, true),
    sizeBytes: Number(view.getBigUint64(40, true)),
    blocks512: Number(view.getBigUint64(48, true)),
    mtimeSeconds: Number(view.getBigInt64(112, true)),
    mtimeNanoseconds: view.getUint32(120, true),
    deviceMajor: view.getUint32(128, true),
    deviceMinor: view.getUint32(132, true),
    identity: `${view.getUint32(136, true)}:${view.getUint32(140, true)}:${
      view.getBigUint64(32, true)
    }`,
  };
}

/** All names of an open directory but `.` and `..`, in byte order. */
export function readNames(directory: number): ByteString[] {
  const buffer = new Uint8Array(256 * 1024);
  const view = new DataView(buffer.buffer);
  const names: ByteString[] = [];
  for (;;) {
    const length = checked(
      () => libc().getdents64(directory, buffer, BigInt(buffer.length)),
      "getdents64",
      "",
    );
    if (length === 0) break;
    for (let at = 0; at < length; at += view.getUint16(at + 16, true)) {
      const name = byteStringFromBytes(buffer, at + 19, buffer.indexOf(0, at + 19));
      if (name !== "." && name !== "..") names.push(name);
    }
  }
  return names.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}

export function readLinkAt(directory: number, name: ByteString): ByteString {
  const buffer = new Uint8Array(TARGET_BYTES_MAX);
  const call = () => libc().readlinkat(directory, cString(name), buffer, BigInt(buffer.length));
  return byteStringFromBytes(buffer, 0, checked(call, "readlink", name));
}

/** A short path to a name of an open directory, for calls that take no directory. */
function procPath(directory: number, name: ByteString): ByteString {
  return `/proc/self/fd/${directory}${name === "" ? "" : `/${name}`}`;
}

/** Every extended attribute of a name, in byte order of their names; symlinks are not followed. */
export function xattrsAt(
  directory: number,
  name: ByteString,
): { name: ByteString; value: Uint8Array }[] {
  // The path of the directory itself is a magic link, which has no attributes: `/.` leads through it.
  const path = cString(procPath(directory, name === "" ? "." : name));
  const buffer = new Uint8Array(XATTR_BYTES_MAX);
  const size = BigInt(buffer.length);
  const listLength = checked(() => libc().llistxattr(path, buffer, size), "llistxattr", name);
  const names = byteStringFromBytes(buffer, 0, listLength).split("\0").slice(0, -1).sort();
  return names.map((xattr) => {
    const call = () => libc().lgetxattr(path, cString(xattr), buffer, size);
    return { name: xattr, value: buffer.slice(0, checked(call, `lgetxattr ${xattr} of`, name)) };
  });
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

/** Fills `target` from `position`; returns the bytes read, fewer only at the end. */
export function readAt(
  descriptor: number,
  target: Uint8Array<ArrayBuffer>,
  position: number,
): number {
  let done = 0;
  while (done < target.length) {
    const part = target.subarray(done);
    const wanted = BigInt(part.length);
    const count = checked(
      () => libc().pread(descriptor, part, wanted, BigInt(position + done)),
      "pread",
      "",
    );
    if (count === 0) break;
    done += count;
  }
  return done;
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

/** The ranges `[start, end)` of an open file that its file system says are not holes. */
export function dataRanges(descriptor: number, sizeBytes: number): [number, number][] {
  const ranges: [number, number][] = [];
  for (let at = 0; at < sizeBytes;) {
    const start = nextData(descriptor, at);
    if (start === undefined) break;
    const end = checked(() => libc().lseek(descriptor, BigInt(start), SEEK_HOLE), "lseek", "");
    ranges.push([start, end]);
    at = end;
  }
  return ranges;
}

/** Where the next data of an open file starts; undefined when there is nothing but a hole up to the end. */
function nextData(descriptor: number, position: number): number | undefined {
  try {
    return checked(() => libc().lseek(descriptor, BigInt(position), SEEK_DATA), "lseek", "");
  } catch (error) {
    if (error instanceof SystemCallError && error.errno === ERRNO.ENXIO) return undefined;
    throw error;
  }
}

/** A run of blocks of a file as the file system maps it. */
export interface MappedExtent {
  readonly fileOffset: number;
  readonly diskOffset: number;
  readonly lengthBytes: number;
}

/** Where the content of an open file lies on its disk (FIEMAP); content that lies in the inode is left out. */
export function mappedExtents(descriptor: number): MappedExtent[] {
  const extents: MappedExtent[] = [];
  const buffer = new Uint8Array(FIEMAP_HEADER_BYTES + FIEMAP_EXTENT_BYTES * FIEMAP_EXTENT_COUNT);
  const view = new DataView(buffer.buffer);
  let start = 0n;
  let isLast = false;
  while (!isLast) {
    buffer.fill(0);
    view.setBigUint64(0, start, true);
    view.setBigUint64(8, 2n ** 63n, true);
    view.setUint32(24, FIEMAP_EXTENT_COUNT, true);
    checked(() => libc().ioctl(descriptor, FIEMAP_REQUEST, buffer), "FIEMAP", "");
    const count = view.getUint32(20, true);
    isLast = count === 0;
    for (let i = 0; i < count; i++) {
      const at = FIEMAP_HEADER_BYTES + i * FIEMAP_EXTENT_BYTES;
      const logical = view.getBigUint64(at, true);
      const length = view.getBigUint64(at + 16, true);
      const flags = view.getUint32(at + 40, true);
      start = logical + length;
      isLast = (flags & FIEMAP_LAST) !== 0;
      if ((flags & FIEMAP_INLINE) !== 0) continue;
      const diskOffset = Number(view.getBigUint64(at + 8, true));
      extents.push({ fileOffset: Number(logical), diskOffset, lengthBytes: Number(length) });
    }
  }
  return extents;
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

/** Whether this process is root. */
export function isRoot(): boolean {
  return Deno.build.os === "linux" && libc().geteuid() === 0;
}

/**
 * Runs `work` with the file access rights of a user who is in no group but their own. Only this thread changes, and
 * only what the kernel checks for files (setfsuid(2) also drops the capabilities to override permissions), so `work`
 * must not wait for anything.
 */
export function asUser<T>(uid: number, gid: number, work: () => T): T {
  const { getgroups, syscall, setfsuid, setfsgid } = libc();
  const groups = new Uint32Array(checked(() => getgroups(0, null), "getgroups", ""));
  checked(() => getgroups(groups.length, groups), "getgroups", "");
  const setGroups = (list: Uint32Array<ArrayBuffer>) =>
    checked(() => syscall(SETGROUPS_CALL, BigInt(list.length), list), "setgroups", "");
  try {
    setGroups(new Uint32Array(0));
    setfsgid(gid);
    setfsuid(uid);
    // Each call returns the value before it; asking for an impossible one changes nothing.
    if (setfsuid(0xffffffff) !== uid) throw new Error(`setfsuid: cannot become user ${uid}`);
    return work();
  } finally {
    setfsuid(0);
    setfsgid(0);
    setGroups(groups);
  }
}
