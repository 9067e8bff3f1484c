/**
 * The few system calls that comparing trees needs and that no runtime offers: byte-exact names, extended attributes,
 * nanosecond times and device numbers.
 *
 * Only structures whose layout is the same on every Linux are read (statx, linux_dirent64).
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";
import { byteStringFromBytes } from "../../lib/bytes/byte_string.ts";
import {
  checked,
  cString,
  ERRNO,
  libc,
  OPEN,
  OPEN_NOFOLLOW,
  procPath,
  SYMLINK_NOFOLLOW,
  SystemCallError,
} from "./libc_calls.ts";

// Differs between processors.
const OPEN_DIRECTORY = Deno.build.arch === "aarch64" ? 0o40000 : 0o200000;
const CURRENT_DIRECTORY = -100;
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
