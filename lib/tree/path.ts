/**
 * Paths of layer entries: bytes, cut at slashes, kept inside the root.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import { MAX_NAME_SIZE_BYTES } from "./limits.ts";

/** A path as the names that lead from the root to it. */
export interface NormalPath {
  /** No name is empty, `.` or `..`; the root has none. */
  readonly names: readonly ByteString[];
  /** True when the path had a `..`, or was absolute and not just the root. */
  readonly clamped: boolean;
}

/**
 * Normalises the path of an entry, or of a hard link's target: empty and `.` components go, `..` takes
 * the component before it away and stops at the root, and an absolute path starts at the root.
 *
 * @param what names the entry in messages; called only for those
 * @param maxNameBytes that a component may have; 255 unless it is one that never becomes a file
 * @throws InputError when a component is longer than that or holds a NUL
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { normalisePath } from "./path.ts";
 * assertEquals(normalisePath("./usr//lib/", () => ""), { names: ["usr", "lib"], clamped: false });
 * assertEquals(normalisePath("a/../../b", () => ""), { names: ["b"], clamped: true });
 * ```
 */
export function normalisePath(
  path: ByteString,
  what: () => string,
  maxNameBytes: number = MAX_NAME_SIZE_BYTES,
): NormalPath {
  const names: ByteString[] = [];
  let clamped = false;
  for (const name of path.split("/")) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      names.pop();
      clamped = true;
    } else {
      checkName(name, what, maxNameBytes);
      names.push(name);
    }
  }
  if (names.length > 0 && path.startsWith("/")) clamped = true;
  return { names, clamped };
}

/** Throws an InputError unless a directory entry can hold the name. */
export function checkName(
  name: ByteString,
  what: () => string,
  maxNameBytes: number = MAX_NAME_SIZE_BYTES,
): void {
  if (name.length > maxNameBytes) {
    throw new InputError(
      what(),
      `the name ${displayName(name.slice(0, 32))}... has ${name.length} bytes; ` +
        `ext4 allows ${maxNameBytes}`,
    );
  }
  if (name.includes("\0")) {
    throw new InputError(what(), `the name ${displayName(name)} holds a NUL byte`);
  }
}
