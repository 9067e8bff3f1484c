/**
 * What the tests of the reader share: opening images, strictly, and comparing what was read with what the kernel shows.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Ext4Image } from "../../../lib/ext4/read/image.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import type { RandomReader } from "../../../lib/io/random_reader.ts";
import { memoryReader, openFileReader } from "../../../lib/io/random_reader.ts";
import type { FileTree } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import type { CompareOptions } from "../../oracle/compare.ts";
import { describeDifference, firstDifference } from "../../oracle/compare.ts";
import { mountReadOnly } from "../../oracle/kernel.ts";
import { viewImage } from "../../oracle/kernel_tree.ts";
import { viewTree } from "../../oracle/tree_view.ts";

/** The bytes of a fixture image. */
export function fixtureBytes(name: string): Uint8Array<ArrayBuffer> {
  const url = new URL(`../../../fixtures/ext4/${name}.img.gz`, import.meta.url);
  // A copy: slices of a Buffer would not be copies.
  return new Uint8Array(gunzipSync(readFileSync(url)));
}

/** Opens an image for which there must be nothing to warn of. */
export function openStrictly(reader: RandomReader): Ext4Image {
  return openExt4Image(reader, { warnings: new Warnings(true) });
}

/** Opens a fixture. */
export function openFixture(name: string): Ext4Image {
  return openStrictly(memoryReader(fixtureBytes(name), `${name}.img`));
}

/** Reads the tree of an image file and works on it while the image is open. */
export async function withTree<T>(
  path: string,
  work: (tree: FileTree, warnings: Warnings) => T | Promise<T>,
  warnings = new Warnings(true),
): Promise<T> {
  const image = openExt4Image(openFileReader(path), { warnings });
  try {
    return await work(await readTree(image, { warnings }), warnings);
  } finally {
    image.close();
  }
}

/** Throws unless a tree that was read is what the kernel shows of the image. Returns how many names there were. */
export function assertKernelShows(
  path: string,
  tree: FileTree,
  options: CompareOptions = {},
): number {
  const counts = { nameCount: 0, contentBytes: 0 };
  mountReadOnly(path, (mountPoint) => {
    const shown = viewImage(mountPoint, tree.root.children.has("lost+found"));
    const difference = firstDifference(shown, viewTree(tree), options, counts);
    if (difference) throw new Error(`${path}: ${describeDifference(difference)}`);
  });
  return counts.nameCount;
}

/** Throws unless two trees are equal in everything, holes included, but for what is to be ignored. */
export function assertSameTrees(
  found: FileTree,
  wanted: FileTree,
  ignore: CompareOptions["ignore"] = () => false,
): void {
  const options = { sameHoles: true, ignore };
  const difference = firstDifference(viewTree(found), viewTree(wanted), options);
  if (difference) throw new Error(describeDifference(difference));
}
