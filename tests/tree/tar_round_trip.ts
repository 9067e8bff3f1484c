/**
 * Trees through the bytes of a tar and back, for tests.
 *
 * @module
 */
import { memoryReader } from "../../lib/io/random_reader.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { type TarItem, writeTar } from "../../lib/tree/tar.ts";
import type { TreeLayer } from "../../lib/tree/build.ts";
import { readTar } from "../tar/read.ts";

/** The bytes of a tar of these entries. */
export async function tarOf(items: Iterable<TarItem>, comment?: string): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let end = 0;
  const sink = {
    write: (bytes: Uint8Array, offset: number) => {
      if (offset !== end) throw new Error("a tar has no holes");
      end += bytes.length;
      pieces.push(bytes.slice());
    },
    finish: () => {},
    abort: () => {},
  };
  await writeTar(items, sink, { comment, denseHoleBytesMax: 0, progress: NO_PROGRESS });
  const tar = new Uint8Array(end);
  let at = 0;
  for (const piece of pieces) {
    tar.set(piece, at);
    at += piece.length;
  }
  return tar;
}

/** The same as a layer that was read. */
export async function layerOfItems(
  items: Iterable<TarItem>,
  whiteouts: boolean,
): Promise<TreeLayer> {
  const tar = await tarOf(items);
  const { entries } = readTar(tar);
  return { entries, store: memoryReader(tar), whiteouts, name: "layer" };
}
