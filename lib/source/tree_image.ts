/**
 * Images that are a single tree; and `tar:FILE`, one root file system in a tar, compressed or not.
 *
 * @module
 */
import { type SourceFile, storedPart } from "./source_file.ts";
import type { LayerSource, LoadedLayer, OpenedImage, StoredBytes } from "./types.ts";

/** The tar as an image of one layer in which `.wh.` names are ordinary names. The image releases the file. */
export function openTarFile(source: string, file: SourceFile): OpenedImage {
  return treeImage({
    source,
    kind: "tar",
    name: file.name,
    stored: storedPart(file, 0, file.sizeBytes),
    sizeBytes: file.sizeBytes,
    close: () => file.file.release(),
  });
}

/** An image that is a single tree, of which nothing is known but its bytes. */
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

/** A tree whose layer was loaded already. Unless somebody takes the layer, the image closes it. */
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

/** A layer of which nothing is known but its bytes. */
export function treeLayer(tree: {
  readonly name: string;
  readonly stored: StoredBytes;
  readonly sizeBytes: number | undefined;
  /** What its bytes are; default: a tar. */
  readonly content?: "tar" | "bytes";
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

/** Does it the first time only. */
export function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (!done) action();
    done = true;
  };
}
