/**
 * Deno's foreign function interface in terms of Bun's, for the system calls that tests make.
 *
 * @module
 */
// @ts-types="./bun_modules.d.ts"
import { dlopen, read } from "bun:ffi";

/** What Deno calls a type, and what Bun calls it. */
const TYPES: Readonly<Record<string, string>> = {
  i32: "i32",
  u32: "u32",
  // 64-bit results are BigInt in Deno, always.
  i64: "i64",
  u64: "u64",
  isize: "i64",
  usize: "u64",
  buffer: "ptr",
  pointer: "ptr",
};

interface Signature {
  readonly parameters: readonly string[];
  readonly result: string;
}

function typeOf(name: string): string {
  const type = TYPES[name];
  if (type === undefined) throw new TypeError(`no type of Bun for ${name}`);
  return type;
}

/** Deno.dlopen. */
export function loadLibrary(
  name: string,
  signatures: Readonly<Record<string, Signature>>,
): { symbols: Record<string, (...args: unknown[]) => unknown>; close(): void } {
  const wanted = Object.entries(signatures).map(([symbol, { parameters, result }]) =>
    [symbol, { args: parameters.map(typeOf), returns: typeOf(result) }] as const
  );
  const library = dlopen(name, Object.fromEntries(wanted));
  return { symbols: library.symbols, close: () => library.close() };
}

/** Deno.UnsafePointerView, as far as errno needs it. */
export class UnsafePointerView {
  readonly #pointer: number;

  constructor(pointer: number) {
    this.#pointer = pointer;
  }

  getInt32(offset = 0): number {
    return read.i32(this.#pointer, offset);
  }
}
