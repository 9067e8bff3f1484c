/**
 * What the tests of the reader share: opening images, strictly, and comparing what was read with what the kernel shows.
 *
 * @module
 */
import { InputError } from "../../../lib/errors.ts";
import { type Ext4Image, openExt4Image } from "../../../lib/ext4/read/image.ts";
import { findInode } from "../../../lib/ext4/read/directory.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { memoryReader, openFileReader, type RandomReader } from "../../../lib/io/random_reader.ts";
import type { FileTree } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { type CompareOptions, describeDifference, firstDifference } from "../../oracle/compare.ts";
import { mountReadOnly } from "../../oracle/kernel.ts";
import { viewImage } from "../../oracle/kernel_tree.ts";
import { viewTree } from "../../oracle/tree_view.ts";
import { unpackFixture } from "../format/fixture_image.ts";

/** Opens an image for which there must be nothing to warn of. */
export function openStrictly(reader: RandomReader): Ext4Image {
  return openExt4Image(reader, { warnings: new Warnings(true) });
}

/** Opens a fixture. */
export function openFixture(name: string): Ext4Image {
  return openStrictly(memoryReader(unpackFixture(name), `${name}.img`));
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

/** An image in memory that can be damaged. */
export class Victim {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.bytes = bytes.slice();
    this.view = new DataView(this.bytes.buffer);
  }

  open(): Ext4Image {
    return openStrictly(memoryReader(this.bytes, "victim.img"));
  }

  /** Where an inode's slot begins. */
  inodeOffset(inodeNumber: number): number {
    const image = this.open();
    return image.inodeOffset(inodeNumber);
  }

  /** The number of a name in the root. */
  inodeOf(path: string): number {
    return findInode(this.open(), path, { followsLast: false }).inode.number;
  }

  /** What the reader says of it; throws when it says nothing. */
  refusal(read: (image: Ext4Image) => unknown): string {
    try {
      read(this.open());
    } catch (error) {
      if (error instanceof InputError) return error.message;
      throw error;
    }
    throw new Error("the damaged image was read as if nothing were wrong");
  }
}

/** A fixture to be damaged. */
export function victimOf(name: string): Victim {
  return new Victim(unpackFixture(name));
}

/** An image that mke2fs fills with files (contents by name), to be damaged. */
export function victimOfMke2fs(
  options: readonly string[],
  files: Readonly<Record<string, Uint8Array>>,
): Victim {
  return withTemporaryDirectory((scratch) => {
    Deno.mkdirSync(`${scratch}/source`);
    for (const [name, content] of Object.entries(files)) {
      Deno.writeFileSync(`${scratch}/source/${name}`, content);
    }
    const image = `${scratch}/image`;
    mustRun("mke2fs", ["-q", "-F", ...options, "-d", `${scratch}/source`, image, "4M"]);
    return new Victim(Deno.readFileSync(image));
  });
}
