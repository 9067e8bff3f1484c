/**
 * Images that are a single tree; and `tar:FILE`, one root file system in a tar, compressed or not.
 *
 * @module
 */
import { displayName } from "../bytes/byte_string.ts";
import { normalizeMemberPath, type TarEntry } from "../tar/entry.ts";
import type { Warnings } from "../warnings.ts";
import { type SourceFile, storedPart } from "./source_file.ts";
import type { LayerSource, LoadedLayer, OpenedImage, StoredBytes } from "./types.ts";

/** The tar as an image of one layer in which `.wh.` names are ordinary names. The image releases the file. */
export function openTarFile(source: string, file: SourceFile): OpenedImage {
  return treeImage({
    source,
    kind: "tar",
    name: file.name,
    stored: storedPart(file),
    sizeBytes: file.sizeBytes,
    close: () => file.file.release(),
  });
}

/** An image that is a single tree about which only its bytes are known. */
export function treeImage(tree: {
  readonly source: string;
  readonly kind: "tar" | "rootfs" | "ext4";
  readonly name: string;
  readonly stored: StoredBytes;
  readonly sizeBytes: number | undefined;
  readonly close: () => void;
}): OpenedImage {
  return {
    source: tree.source,
    kind: tree.kind,
    manifestDigest: undefined,
    configDigest: undefined,
    config: undefined,
    platform: undefined,
    layers: [treeLayer(tree)],
    close: once(tree.close),
  };
}

/** A tree whose layer has already been loaded. The image closes the layer unless it has been taken. */
export function loadedTree(tree: {
  readonly source: string;
  readonly kind: "tar" | "ext4";
  readonly name: string;
  readonly layer: LoadedLayer;
}): OpenedImage {
  const { layer, ...rest } = tree;
  let isTaken = false;
  const take = () => {
    isTaken = true;
    return layer;
  };
  return treeImage({
    ...rest,
    stored: { kind: "loaded", take },
    sizeBytes: layer.sizeBytes,
    close: () => {
      if (!isTaken) layer.store.close();
    },
  });
}

/** A layer about which only its bytes are known. */
export function treeLayer(tree: {
  readonly name: string;
  readonly stored: StoredBytes;
  readonly sizeBytes: number | undefined;
  /** What its bytes are; default: a tar. */
  readonly content?: "tar" | "bytes" | undefined;
}): LayerSource {
  return {
    name: tree.name,
    digest: undefined,
    diffId: undefined,
    mediaType: undefined,
    sizeBytes: tree.sizeBytes,
    whiteouts: false,
    stored: tree.stored,
    ...tree.content === undefined ? {} : { content: tree.content },
  };
}

/** Runs the action only the first time. */
export function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (!done) action();
    done = true;
  };
}

/** Warns if a tree is empty, or is really an image whose kind is wrong. */
export function warnOfTree({ name, entries }: LoadedLayer, warnings: Warnings): void {
  if (entries.every(({ path }) => normalizeMemberPath(path) === "")) {
    warnings.add("emptySource", name, "holds no file and no directory");
    return;
  }
  const look = archiveLook(entries);
  if (look === undefined) return;
  const why = `looks like ${look.what}, and is read as the root file system itself: ${look.remedy}`;
  warnings.add("imageArchive", name, why);
}

/** Names that occur together only in archives of images. */
const ARCHIVE_NAMES: ReadonlySet<string> = new Set([
  "oci-layout",
  "index.json",
  "manifest.json",
  "repositories",
  "version",
]);
const DOCKER_LAYER = /^(?:[^/]+\/layer\.tar|[0-9a-f]{64}\.tar|blobs\/sha256\/[0-9a-f]{64})$/;
const MARKER = /(?:^|\/)(?:oci-layout|manifest\.json|repositories)$/;
const DIRECTORY_BLOB = /^[0-9a-f]{64}$/;

interface ArchiveLook {
  readonly what: string;
  readonly remedy: string;
}

/** Which kind of image archive the entries resemble, even if everything is in one folder; undefined for none. */
function archiveLook(entries: readonly TarEntry[]): ArchiveLook | undefined {
  // Most trees have no such names near their root and need no closer look.
  const isNear = ({ path }: TarEntry) =>
    MARKER.test(path) && normalizeMemberPath(path).split("/").length <= 2;
  if (!entries.some(isNear)) return undefined;
  const folder = onlyFolder(entries);
  for (const prefix of folder === undefined ? [""] : [`${folder}/`, ""]) {
    const look = lookBelow(entries, prefix);
    if (look === undefined || prefix === "") return look;
    const inside = `inside the folder ${displayName(folder!)}`;
    return { what: `${look.what} ${inside}`, remedy: "pack what is in the folder by itself" };
  }
  return undefined;
}

function lookBelow(entries: readonly TarEntry[], prefix: string): ArchiveLook | undefined {
  const found = new Set<string>();
  for (const entry of entries) {
    if (entry.kind === "directory") continue;
    const path = normalizeMemberPath(entry.path);
    if (!path.startsWith(prefix)) continue;
    const name = path.slice(prefix.length);
    if (ARCHIVE_NAMES.has(name)) found.add(name);
    else if (DOCKER_LAYER.test(name)) found.add("layer");
    else if (DIRECTORY_BLOB.test(name)) found.add("blob");
  }
  const has = (...names: string[]) => names.every((name) => found.has(name));
  if (has("manifest.json", "layer")) {
    return { what: "an archive of `docker save`", remedy: "name it docker-archive:FILE" };
  }
  if (has("oci-layout", "index.json")) {
    return { what: "an OCI image layout", remedy: "name it oci-archive:FILE, or oci:DIR" };
  }
  if (has("repositories", "layer")) {
    const remedy = "load and save it again with Docker 1.10 to 27, and name it docker-archive:FILE";
    return { what: "an archive of Docker before 1.10", remedy };
  }
  if (has("manifest.json", "version", "blob")) {
    return { what: "a directory that skopeo wrote", remedy: "unpack it, and name it dir:DIR" };
  }
  return undefined;
}

/** The folder that contains everything. */
function onlyFolder(entries: readonly TarEntry[]): string | undefined {
  let folder: string | undefined;
  for (const { path } of entries) {
    const [first = "", ...rest] = normalizeMemberPath(path).split("/");
    if (first === "") continue;
    if (folder !== undefined && folder !== first) return undefined;
    if (rest.length === 0 && entries.length < 2) return undefined;
    folder = first;
  }
  return folder;
}
