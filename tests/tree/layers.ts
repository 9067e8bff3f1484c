/**
 * Layers for tests of the tree, from the same short entries that tests build tars of.
 *
 * @module
 */
import { bytesFromByteString } from "../../lib/bytes/byte_string.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { BLOCK_SIZE_BYTES, type DataSegment, type PayloadIndex } from "../../lib/model/node.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import type { BuildTreeOptions, TreeLayer } from "../../lib/tree/build.ts";
import { Warnings } from "../../lib/warnings.ts";
import { type SimpleEntry, tarEntryOf } from "../tar/build.ts";

/** What implied directories and the root get in these tests; no entry has it by default. */
export const DEFAULT_TIME = { seconds: 1_000_000_000, nanoseconds: 5 };

/** Options with fresh warnings. */
export function treeOptions(
  more: Partial<BuildTreeOptions> = {},
): BuildTreeOptions {
  return { warnings: new Warnings(), defaultTime: DEFAULT_TIME, ...more };
}

/** One layer a list of entries; their data lie in one store a layer. */
export function layersOf(
  layers: readonly (readonly SimpleEntry[])[],
  whiteouts = true,
): TreeLayer[] {
  return layers.map((entries, i) => layerOf(entries, `layer ${i}`, whiteouts));
}

/** One layer; headers are taken to lie 512 bytes apart. */
export function layerOf(
  entries: readonly SimpleEntry[],
  name = "layer",
  whiteouts = true,
): TreeLayer {
  const parts: Uint8Array[] = [];
  let storedSizeBytes = 0;
  const decoded = entries.map((entry, i): TarEntry => {
    const bare = { ...tarEntryOf(entry), headerOffset: i * 512 };
    if (bare.kind !== "file") return { ...bare, payload: undefined };
    const segments = segmentsOf(entry.data).map(({ fileOffset, bytes }) => {
      parts.push(bytes);
      const storeOffset = storedSizeBytes;
      storedSizeBytes += bytes.length;
      return { fileOffset, storeOffset, lengthBytes: bytes.length };
    });
    return { ...bare, payload: indexOf(bare.payload!.sizeBytes, segments) };
  });
  const store = new Uint8Array(storedSizeBytes);
  let at = 0;
  for (const part of parts) {
    store.set(part, at);
    at += part.length;
  }
  return { entries: decoded, store: memoryReader(store, name), whiteouts, name };
}

function segmentsOf(data: SimpleEntry["data"]): { fileOffset: number; bytes: Uint8Array }[] {
  if (data === undefined) return [];
  if (typeof data === "string") return [{ fileOffset: 0, bytes: bytesFromByteString(data) }];
  if (data instanceof Uint8Array) return [{ fileOffset: 0, bytes: data }];
  return data.parts.map(([fileOffset, bytes]) => ({ fileOffset, bytes }));
}

/** The tree never looks into a payload, so the data runs may be coarse and the hash of no meaning. */
function indexOf(sizeBytes: number, segments: readonly DataSegment[]): PayloadIndex {
  const blockCount = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES);
  return {
    sizeBytes,
    segments,
    dataRuns: blockCount === 0 ? [] : [{ startBlock: 0, blockCount }],
    contentHash: sizeBytes,
  };
}
