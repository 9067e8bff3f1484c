/**
 * Whiteouts, the names with which a layer removes something in the layers below (OCI image-spec, layer.md, "Whiteouts");
 * what they hide; and leftovers of AUFS that look like them.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { DirectoryNode } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import { type ApplyContext, isWhiteoutDevice, type LayerChanges, type Marker } from "./layer.ts";
import {
  checkName,
  MAX_NAME_SIZE_BYTES,
  normalisePath,
  PathWalker,
  type WalkRules,
} from "./paths.ts";

/** The prefix of whiteouts. */
export const WHITEOUT_PREFIX = ".wh.";

/** The name of opaque markers. */
export const OPAQUE_MARKER = ".wh..wh..opq";
/** A whiteout does not become a file, so its name may be longer. */
const MAX_MARKER_SIZE_BYTES = MAX_NAME_SIZE_BYTES + WHITEOUT_PREFIX.length;

const AUFS_PREFIX = ".wh..wh.";
const AUFS_LINK_DIRECTORY = ".wh..wh.plnk";

/** A layer's entries that do not describe files. */
export interface LayerMarkers {
  /** Sorted by depth, then in byte order: their order in the tar is ignored. */
  readonly markers: readonly Marker[];
  /** Indexes of entries for markers and AUFS metadata, which do not become files. */
  readonly entryIndexes: ReadonlySet<number>;
  /** The number of AUFS metadata entries, and the first one. */
  readonly aufs: { readonly count: number; readonly first: TarEntry } | undefined;
  /** Entry indexes of the files that AUFS kept for hard links, by last path component. */
  readonly aufsLinkFiles: ReadonlyMap<ByteString, number>;
}

/**
 * Finds the markers among a layer's entries, whatever their kind.
 *
 * @param describe names an entry in messages
 * @throws InputError for `.wh.`, `.wh..` and `.wh...`, and for an entry below a whiteout's name
 */
export function findMarkers(
  entries: readonly TarEntry[],
  describe: (entry: TarEntry) => string,
): LayerMarkers {
  const markers: Marker[] = [];
  const entryIndexes = new Set<number>();
  const aufsLinkFiles = new Map<ByteString, number>();
  let aufs: { count: number; first: TarEntry } | undefined;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    if (!entry.path.includes(WHITEOUT_PREFIX)) continue;
    const { names } = normalisePath(entry.path, () => describe(entry), MAX_MARKER_SIZE_BYTES);
    if (isAufsMetadata(names)) {
      entryIndexes.add(i);
      if (aufs) aufs.count++;
      else aufs = { count: 1, first: entry };
      if (isAufsLinkFile(names) && entry.kind === "file") aufsLinkFiles.set(names.at(-1)!, i);
      continue;
    }
    const marker = markerOf(names, entry, describe);
    if (!marker) continue;
    entryIndexes.add(i);
    markers.push(marker);
  }
  return { markers: sortMarkers(markers), entryIndexes, aufs, aufsLinkFiles };
}

/** Whether a path is inside the directory where AUFS kept hard-linked files. */
export function isAufsLinkFile(names: readonly ByteString[]): boolean {
  return names.length > 1 && names[0] === AUFS_LINK_DIRECTORY;
}

/** Whether an entry's path is that of a whiteout or an opaque marker. */
export function isMarkerPath(path: ByteString): boolean {
  return path.slice(path.replace(/\/+$/, "").lastIndexOf("/") + 1).startsWith(WHITEOUT_PREFIX);
}

/** Throws an InputError for a name that would become a whiteout if the tree were turned back into a layer. */
export function refuseWhiteoutName(name: ByteString, what: () => string): void {
  if (!name.startsWith(WHITEOUT_PREFIX)) return;
  throw new InputError(
    what(),
    `the path leads through ${displayName(name)}, which is the name of a whiteout`,
    { code: "notStorable" },
  );
}

function isAufsMetadata(names: readonly ByteString[]): boolean {
  const first = names[0];
  if (!first?.startsWith(AUFS_PREFIX)) return false;
  return first !== OPAQUE_MARKER || names.length > 1;
}

function markerOf(
  names: readonly ByteString[],
  entry: TarEntry,
  describe: (entry: TarEntry) => string,
): Marker | undefined {
  const directory = names.slice(0, -1);
  for (const name of directory) refuseWhiteoutName(name, () => describe(entry));
  const last = names.at(-1);
  if (!last?.startsWith(WHITEOUT_PREFIX)) return undefined;
  if (last === OPAQUE_MARKER) return { directory, name: undefined, entry };
  const name = last.slice(WHITEOUT_PREFIX.length);
  checkName(name, () => describe(entry));
  if (name === "" || name === "." || name === "..") {
    throw new InputError(
      describe(entry),
      `the whiteout is not of a file name, but of "${name}"`,
    );
  }
  return { directory, name, entry };
}

/** Sorts opaque markers before whiteouts in the same directory. */
function sortMarkers(markers: readonly Marker[]): Marker[] {
  return markers
    .map((marker) => ({
      marker,
      depth: marker.directory.length,
      key: `${marker.directory.join("/")}/${marker.name ?? ""}`,
    }))
    .sort((a, b) => a.depth - b.depth || (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ marker }) => marker);
}

/**
 * Removes what the markers hide. Their directories are looked up in the tree of the lower layers, following its symlinks,
 * except those that the layer itself replaces: the marker then applies to the replacement. Markers that hide nothing are
 * ignored.
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

/** Returns false if there was nothing to hide. */
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
 * For layered mode, after the layer is applied: marks new directories that the layer makes opaque or whites out. Even if
 * nothing below is hidden, the layer's tree then does not depend on what is below.
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

const LENIENT_RULES = { onGap: () => undefined, lenient: true };

/** The lower layers' symlinks that this layer replaces with something else. */
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
