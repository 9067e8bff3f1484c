/**
 * A layer's whiteouts and opaque markers, applied to what the lower layers made.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { DirectoryNode } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { LayerChanges } from "./changes.ts";
import type { ApplyContext } from "./layer.ts";
import { isWhiteoutDevice } from "./nodes.ts";
import { normalisePath } from "./path.ts";
import { PathWalker, type WalkRules } from "./resolve.ts";
import type { LayerMarkers, Marker } from "./whiteout.ts";

/**
 * Takes away what the markers hide. Their directories are looked up in the tree of the lower layers, through its
 * symlinks; but a symlink that the layer itself puts something else in place of leads nowhere, for the
 * marker then speaks of that something else. Nothing is made for a marker, and one that hides nothing is ignored.
 */
export function applyMarkers(
  entries: readonly TarEntry[],
  { markers, entryIndexes }: LayerMarkers,
  context: ApplyContext,
  describe: (entry: TarEntry) => string,
): void {
  const { changes, tree, budget } = context;
  const walker = new PathWalker(tree.root, budget);
  let replaced: Map<DirectoryNode, Set<ByteString>> | undefined;
  const rules: WalkRules = {
    onGap: () => undefined,
    onSymlink: (parent, name, symlink) => {
      replaced ??= replacedSymlinks(entries, entryIndexes, walker, describe);
      if (replaced.get(parent)?.has(name)) return false;
      changes?.noteUse(symlink);
      return true;
    },
  };
  for (const marker of markers) {
    const what = () => describe(marker.entry);
    const directory = walker.walk(marker.directory, marker.directory.length, rules, what);
    const isHiding = directory !== undefined && hide(directory, marker, tree.root, context);
    changes?.markers.push({ marker, isHiding });
  }
}

/** Returns false when there was nothing to hide. */
function hide(
  directory: DirectoryNode,
  { name }: Marker,
  root: DirectoryNode,
  { changes, firstLayers }: ApplyContext,
): boolean {
  if (name !== undefined) {
    const hidden = directory.children.get(name);
    if (!hidden) return false;
    const isVisible = !isWhiteoutDevice(hidden);
    firstLayers?.noteRemoval({ directory, name });
    if (isVisible) changes?.noteName(directory, name);
    directory.children.delete(name);
    return isVisible;
  }
  if (changes && directory === root) {
    for (const child of directory.children.keys()) changes.noteName(directory, child);
  }
  for (const child of directory.children.keys()) {
    firstLayers?.noteRemoval({ directory, name: child });
  }
  directory.children.clear();
  changes?.opaqueDirectories.add(directory);
  return true;
}

/**
 * For layered mode, when the layer is applied: marks the layer's own new directories that it also calls opaque, or
 * whose names it whites out. There may be nothing below to hide, but then the mark makes the layer the same whatever
 * is below.
 */
export function noteOpaqueDirectories(walker: PathWalker, changes: LayerChanges): void {
  const { newDirectories, opaqueDirectories } = changes;
  const rules: WalkRules = { ...LENIENT_RULES, onSymlink: () => false };
  const dropped: (DirectoryNode | undefined)[] = [];
  for (const { marker: { directory: names, name }, isHiding } of changes.markers) {
    const directory = walker.walk(names, names.length, rules, () => "");
    const marked = name === undefined ? directory : directory?.children.get(name);
    if (marked?.kind === "directory" && newDirectories.has(marked)) opaqueDirectories.add(marked);
    else if (!isHiding) dropped.push(directory);
  }
  for (const directory of dropped) {
    if (!directory || !opaqueDirectories.has(directory)) changes.usesLowerLayers = true;
  }
}

const LENIENT_RULES = { onGap: () => undefined, isLenient: true };

/** The symlinks of lower layers whose names this layer gives to something that is no symlink. */
function replacedSymlinks(
  entries: readonly TarEntry[],
  markerIndexes: ReadonlySet<number>,
  walker: PathWalker,
  describe: (entry: TarEntry) => string,
): Map<DirectoryNode, Set<ByteString>> {
  const rules = { ...LENIENT_RULES, onSymlink: () => true };
  const replaced = new Map<DirectoryNode, Set<ByteString>>();
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    if (entry.kind === "symlink" || markerIndexes.has(i)) continue;
    const what = () => describe(entry);
    const { names } = normalisePath(entry.path, what);
    if (names.length === 0) continue;
    const name = names.at(-1)!;
    const parent = walker.walk(names, names.length - 1, rules, what);
    if (parent?.children.get(name)?.kind !== "symlink") continue;
    const known = replaced.get(parent);
    if (known) known.add(name);
    else replaced.set(parent, new Set([name]));
  }
  return replaced;
}
