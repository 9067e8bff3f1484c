/**
 * From a layer that was read to what the tree is built from.
 *
 * @module
 */
import type { Warnings } from "../warnings.ts";
import type { ReadLayer } from "./load_layer.ts";
import type { LayerSource, LoadedLayer } from "./types.ts";

/** A loaded layer with a share of its own in the file. */
export function loadedLayer(source: LayerSource, read: ReadLayer): LoadedLayer {
  const { facts, entries, file, offsetBytes } = read;
  return {
    name: source.name,
    digest: facts.digest,
    diffId: facts.diffId,
    mediaType: source.mediaType,
    sizeBytes: facts.storedBytes,
    uncompressedBytes: facts.uncompressedBytes,
    whiteouts: source.whiteouts,
    statedUuid: facts.statedUuid,
    entries,
    store: file.share().reader(source.name, offsetBytes, facts.uncompressedBytes),
  };
}

/** Counts the warnings that came up while a layer was read. Under `strict` the first is thrown. */
export function reportWarnings(read: ReadLayer, warnings: Warnings): void {
  for (const { kind, what, why, count } of read.facts.warnings) {
    warnings.add(kind, what, why, count);
  }
}
