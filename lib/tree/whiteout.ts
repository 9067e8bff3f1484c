/**
 * The names by which a layer says that something of the layers below is gone (OCI image-spec, layer.md,
 * "Whiteouts"), and the leftovers of AUFS that look like them.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { TarEntry } from "../tar/entry.ts";
import { MAX_NAME_SIZE_BYTES } from "./limits.ts";
import { checkName, normalisePath } from "./path.ts";

/** What every whiteout's name begins with. */
export const WHITEOUT_PREFIX = ".wh.";

/** The name of the marker that makes a directory opaque. */
export const OPAQUE_MARKER = ".wh..wh..opq";
/** A whiteout is no file: its name may be longer than that of the longest file. */
const MAX_MARKER_SIZE_BYTES = MAX_NAME_SIZE_BYTES + WHITEOUT_PREFIX.length;

const AUFS_PREFIX = ".wh..wh.";
const AUFS_LINK_DIRECTORY = ".wh..wh.plnk";

/** One whiteout or opaque marker. */
export interface Marker {
  /** Names from the root to the directory that the marker speaks of. */
  readonly directory: readonly ByteString[];
  /** The name that is gone; undefined when the directory is opaque: all names of lower layers are. */
  readonly name: ByteString | undefined;
  readonly entry: TarEntry;
}

/** The entries of a layer that do not describe files. */
export interface LayerMarkers {
  /** Shallow ones first, then in byte order: the order in the tar has no meaning. */
  readonly markers: readonly Marker[];
  /** Indexes of the markers' entries and of the AUFS metadata: none of them becomes a file. */
  readonly entryIndexes: ReadonlySet<number>;
  /** How many of them are AUFS metadata, with the first one. */
  readonly aufs: { readonly count: number; readonly first: TarEntry } | undefined;
  /** Entry indexes of the files that AUFS kept for hard links, by their last name. */
  readonly aufsLinkFiles: ReadonlyMap<ByteString, number>;
}

/**
 * Finds the markers among a layer's entries. The tar type of a marker is of no account.
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

/** True for a path inside the directory in which AUFS kept the files of hard links. */
export function isAufsLinkFile(names: readonly ByteString[]): boolean {
  return names.length > 1 && names[0] === AUFS_LINK_DIRECTORY;
}

/** Throws an InputError for a name that would be a whiteout if the tree were made into a layer again. */
export function refuseWhiteoutName(name: ByteString, what: () => string): void {
  if (!name.startsWith(WHITEOUT_PREFIX)) return;
  throw new InputError(
    what(),
    `the path leads through ${displayName(name)}, which is a whiteout's name and no directory`,
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
      `a whiteout must name a file, and this one names "${name}"`,
    );
  }
  return { directory, name, entry };
}

/** Opaque markers before whiteouts of the same directory; equal markers in any order do the same. */
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
