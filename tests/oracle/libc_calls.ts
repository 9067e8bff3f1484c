/**
 * The C library through Deno's foreign function interface, so that nothing needs to be installed. What is said with it is
 * in libc.ts, libc_changes.ts and libc_user.ts.
 *
 * @module
 */
import type { ByteString } from "../../lib/bytes/byte_string.ts";

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

export function libc(): Deno.DynamicLibrary<typeof SYMBOLS>["symbols"] {
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

export const OPEN = { CREATE: 0o100, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 };
// Differs between processors.
export const OPEN_NOFOLLOW = Deno.build.arch === "aarch64" ? 0o100000 : 0o400000;
export const SYMLINK_NOFOLLOW = 0x100;

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
export function checked(call: () => number | bigint, what: string, name: ByteString): number {
  let before: number | undefined;
  for (;;) {
    const result = call();
    if (result >= 0) return Number(result);
    const errno = lastErrno();
    if (errno === before) throw new SystemCallError(what, name, errno);
    before = errno;
  }
}

export function cString(text: ByteString): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length + 1);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** A short path to a name of an open directory, for calls that take no directory. */
export function procPath(directory: number, name: ByteString): ByteString {
  return `/proc/self/fd/${directory}${name === "" ? "" : `/${name}`}`;
}
