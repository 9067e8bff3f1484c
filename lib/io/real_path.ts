/**
 * Names of files without links in them.
 *
 * @module
 */
import { existsSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

/**
 * The real path of what is there, or would be. Two names of one file are the same then. Of a link's `..` the kernel takes
 * the parent of what it leads to, which only the native form knows under every runtime.
 */
export function realPathOf(path: string): string {
  if (existsSync(path)) return realpathSync.native(path);
  const parent = dirname(path);
  return parent === path ? resolve(path) : join(realPathOf(parent), basename(path));
}
