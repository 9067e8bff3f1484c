/**
 * A layer as the tree takes it, and what it is applied to.
 *
 * @module
 */
import { type ByteString, displayName } from "../bytes/byte_string.ts";
import type { RandomReader } from "../io/random_reader.ts";
import type { FileTree, NodeAttributes } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { Warnings } from "../warnings.ts";
import type { LayerChanges } from "./changes.ts";
import type { FirstLayers } from "./first_layers.ts";
import type { TreeBudget } from "./limits.ts";

/** One layer, decoded. */
export interface TreeLayer {
  /** In the tar's order. */
  readonly entries: readonly TarEntry[];
  /** What the store offsets of the entries' payloads point into. */
  readonly store: RandomReader;
  /** False for plain root file system tars: there, `.wh.` names are ordinary files. */
  readonly whiteouts: boolean;
  /** What to call it in messages: a digest or a file's name. */
  readonly name: string;
}

/** What a layer is applied to, and with what. */
export interface ApplyContext {
  readonly tree: FileTree;
  readonly layerIndex: number;
  readonly budget: TreeBudget;
  readonly warnings: Warnings;
  /** For directories that entries need and no entry describes. */
  readonly impliedAttributes: NodeAttributes;
  /** Where nodes get their first layer from; not needed for images of single layers. */
  readonly firstLayers?: FirstLayers | undefined;
  /** Set in layered mode: where to write down what the layer did. */
  readonly changes?: LayerChanges | undefined;
}

/** How messages name an entry: its path, its layer, and where in the layer it is. */
export function describeEntry(entry: TarEntry, layerName: string): string {
  return `${displayName(shortenPath(entry.path))} in ${layerName} at offset ${entry.headerOffset}`;
}

/** Cuts the middle out of a path that would fill the screen. */
export function shortenPath(path: ByteString): ByteString {
  return path.length <= 240 ? path : `${path.slice(0, 120)}...${path.slice(-117)}`;
}
