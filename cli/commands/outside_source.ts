/**
 * Keeping what is made out of the tree that it is made of.
 *
 * @module
 */
import { existsSync, realpathSync, statSync } from "node:fs";
import { sep } from "node:path";
import { UsageError } from "../../lib/errors.ts";
import { realPathOf } from "../../lib/io/paths.ts";
import { isTreeDirectory } from "../../lib/source/recognise.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
import { safeLine } from "../errors_output.ts";

/**
 * Refuses an output inside the directory tree that is its source: it would be a part of itself, now or the next time.
 *
 * @param output a file or a directory, there or not
 * @throws {UsageError} when it lies there
 */
export function refuseInsideSource(output: string, source: string): void {
  const tree = treeOf(source);
  if (tree === undefined) return;
  const root = realpathSync.native(tree);
  const path = realPathOf(output);
  if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) return;
  throw new UsageError(safeLine(output), `lies inside its source ${safeLine(tree)}`, {
    hint: "name a place outside of the tree",
  });
}

/** The directory that a source is the tree of; undefined for every other source. */
function treeOf(source: string): string | undefined {
  const name = parseSourceName(source, existsSync);
  if (name.kind !== "rootfs" && name.kind !== "path") return undefined;
  const { path } = name;
  if (!existsSync(path) || !statSync(path).isDirectory()) return undefined;
  return name.kind === "rootfs" || isTreeDirectory(path) ? path : undefined;
}
