/**
 * The layer rules once more, as plainly as they can be said: a tree is a set of paths, and hiding is deleting all paths
 * with a prefix. Slow, and without symlinks on paths or links to what comes later; made to be compared with.
 *
 * @module
 */
import type { SimpleEntry } from "../tar/build.ts";

/** What a path is. Hard links are one object under several paths. */
export interface ModelFile {
  readonly isDirectory: boolean;
  /** The entry that says what it looks like; undefined for a directory that no entry describes. */
  readonly entry: SimpleEntry | undefined;
}

/** Paths without a slash at either end; the root is "". */
export type PathModel = Map<string, ModelFile>;

/** A tree before its first layer. */
export function emptyModel(): PathModel {
  return new Map([["", IMPLIED]]);
}

/** Applies one layer; returns the entries that could be applied, for others to apply the same. */
export function applyToModel(model: PathModel, entries: readonly SimpleEntry[]): SimpleEntry[] {
  const isMarker = (entry: SimpleEntry) => plain(entry.path).split("/").at(-1)!.startsWith(".wh.");
  for (const entry of entries.filter(isMarker)) {
    const [directory, name] = cutLast(plain(entry.path));
    if (name === ".wh..wh..opq") deleteBelow(model, directory);
    else {
      const gone = join(directory, name.slice(".wh.".length));
      deleteBelow(model, gone);
      model.delete(gone);
    }
  }
  return entries.filter((entry) => isMarker(entry) || applyEntry(model, entry));
}

const IMPLIED: ModelFile = { isDirectory: true, entry: undefined };

function applyEntry(model: PathModel, entry: SimpleEntry): boolean {
  const path = plain(entry.path);
  const isLink = entry.kind === "hardlink";
  const target = isLink ? model.get(plain(entry.link!)) : undefined;
  if (isLink && (!target || target.isDirectory || leadsThroughPath(path, plain(entry.link!)))) {
    return false;
  }
  for (let at = cutLast(path)[0]; at !== ""; at = cutLast(at)[0]) {
    if (!model.get(at)?.isDirectory) model.set(at, { ...IMPLIED });
  }
  const isDirectory = entry.path.endsWith("/");
  if (!isDirectory) deleteBelow(model, path);
  model.set(path, target ?? { isDirectory, entry });
  return true;
}

/** Whether a link's own path takes away the file or directory that its target's path leads through. */
function leadsThroughPath(path: string, target: string): boolean {
  return path.startsWith(`${target}/`) || target.startsWith(`${path}/`);
}

function deleteBelow(model: PathModel, path: string): void {
  for (const other of [...model.keys()]) {
    if (other !== "" && (path === "" || other.startsWith(`${path}/`))) model.delete(other);
  }
}

function plain(path: string): string {
  return path.split("/").filter((name) => name !== "" && name !== ".").join("/");
}

function cutLast(path: string): [directory: string, name: string] {
  const slash = path.lastIndexOf("/");
  return [path.slice(0, Math.max(slash, 0)), path.slice(slash + 1)];
}

function join(directory: string, name: string): string {
  return directory === "" ? name : `${directory}/${name}`;
}
