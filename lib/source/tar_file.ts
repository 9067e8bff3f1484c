/**
 * `tar:FILE`: one root file system in a tar, compressed or not.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { displayText } from "./json.ts";
import { statIfThere, storedFile } from "./oci_layout.ts";
import type { LayerSource, OpenedImage, StoredBytes } from "./types.ts";

/** Opens a tar as an image of one layer in which `.wh.` names are ordinary names. */
export function openTarFile(source: string, path: string): OpenedImage {
  const name = displayText(path);
  const stats = statIfThere(path);
  if (!stats) throw new InputError(name, "does not exist: wanted a tar");
  if (!stats.isFile()) {
    throw new InputError(name, "is no regular file: wanted a tar", {
      hint: "a directory tree is written rootfs:DIR, a tar on stdin -",
    });
  }
  return treeImage({
    source,
    kind: "tar",
    name,
    stored: storedFile(path, stats.size),
    sizeBytes: stats.size,
    close: () => {},
  });
}

/** An image that is a single tree, of which nothing is known but its bytes. */
export function treeImage(tree: {
  readonly source: string;
  readonly kind: "tar" | "rootfs";
  readonly name: string;
  readonly stored: StoredBytes;
  readonly sizeBytes: number | undefined;
  readonly close: () => void;
}): OpenedImage {
  const layer: LayerSource = {
    name: tree.name,
    digest: undefined,
    diffId: undefined,
    mediaType: undefined,
    sizeBytes: tree.sizeBytes,
    whiteouts: false,
    stored: tree.stored,
  };
  return {
    source: tree.source,
    kind: tree.kind,
    manifestDigest: undefined,
    configDigest: undefined,
    config: undefined,
    platform: undefined,
    layers: [layer],
    close: tree.close,
  };
}
