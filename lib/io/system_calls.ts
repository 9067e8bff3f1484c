/**
 * C library calls that node:fs lacks, or for which it does not accept every name. They use the runtime's foreign function
 * interface where it exists and is permitted. Linux with glibc only; elsewhere callers do without.
 *
 * @module
 */
import process from "node:process";

/** A path or name with a terminating NUL, or a buffer to fill. */
type Bytes = Uint8Array<ArrayBuffer>;

/** Every call returns -1 on failure, without an error code. */
export interface SystemCalls {
  openat(directory: number, path: Bytes, flags: number): number;
  close(descriptor: number): number;
  pread(descriptor: number, target: Bytes, sizeBytes: number, position: number): number;
  lseek(descriptor: number, position: number, whence: number): bigint;
  statx(directory: number, path: Bytes, flags: number, mask: number, target: Bytes): number;
  getdents64(descriptor: number, target: Bytes, sizeBytes: number): number;
  readlinkat(directory: number, path: Bytes, target: Bytes, sizeBytes: number): number;
  flistxattr(descriptor: number, target: Bytes, sizeBytes: number): number;
  llistxattr(path: Bytes, target: Bytes, sizeBytes: number): number;
  fgetxattr(descriptor: number, name: Bytes, target: Bytes, sizeBytes: number): number;
  lgetxattr(path: Bytes, name: Bytes, target: Bytes, sizeBytes: number): number;
}

type ForeignType = "i32" | "u32" | "i64" | "usize" | "buffer";

/** A function's signature in the forms that Bun and Deno use. */
interface Signature {
  readonly args: readonly ForeignType[];
  readonly returns: ForeignType;
  readonly parameters: readonly ForeignType[];
  readonly result: ForeignType;
}

type Open = (library: string, signatures: Record<string, Signature>) => { symbols: unknown };

const CALLS: Readonly<Record<keyof SystemCalls, readonly ForeignType[]>> = {
  openat: ["i32", "buffer", "i32"],
  close: ["i32"],
  pread: ["i32", "buffer", "usize", "i64"],
  lseek: ["i32", "i64", "i32"],
  statx: ["i32", "buffer", "i32", "u32", "buffer"],
  getdents64: ["i32", "buffer", "usize"],
  readlinkat: ["i32", "buffer", "buffer", "usize"],
  flistxattr: ["i32", "buffer", "usize"],
  llistxattr: ["buffer", "buffer", "usize"],
  fgetxattr: ["i32", "buffer", "buffer", "usize"],
  lgetxattr: ["buffer", "buffer", "buffer", "usize"],
};

let known: { readonly calls: SystemCalls | undefined } | undefined;

/** The calls; undefined if they are not available. */
export function systemCalls(): SystemCalls | undefined {
  known ??= { calls: openLibrary() };
  return known.calls;
}

function openLibrary(): SystemCalls | undefined {
  if (process.platform !== "linux") return undefined;
  const signatures: Record<string, Signature> = {};
  for (const [name, args] of Object.entries(CALLS)) {
    const returns = name === "lseek" ? "i64" : "i32";
    signatures[name] = { args, returns, parameters: args, result: returns };
  }
  try {
    return foreignInterface()?.("libc.so.6", signatures).symbols as SystemCalls | undefined;
  } catch {
    // A different or older C library.
    return undefined;
  }
}

function foreignInterface(): Open | undefined {
  const runtime = globalThis as {
    Deno?: {
      dlopen: Open;
      permissions: { querySync(permission: { name: "ffi" }): { state: string } };
    };
  };
  if (runtime.Deno !== undefined) {
    // Opening the library without permission would prompt the user.
    const { state } = runtime.Deno.permissions.querySync({ name: "ffi" });
    return state === "granted" ? runtime.Deno.dlopen : undefined;
  }
  if (process.versions["bun"] === undefined) return undefined;
  return (process.getBuiltinModule("bun:ffi") as unknown as { dlopen: Open }).dlopen;
}
