/**
 * The bytes of small things: directories' and symlinks' inline data, long symlinks, attribute values in inodes.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { INODE_FLAG } from "../format/constants.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import { XATTR_INDEX } from "../format/xattr.ts";
import { decodeInodeXattrs } from "../format/xattr_decode.ts";
import { blockRuns } from "./block_map.ts";
import { hasFlag } from "./inode.ts";
import type { Ext4Image, ImageInode } from "./types.ts";

/** Bytes that an inode keeps in itself, in two places. */
export interface InlineContent {
  /** The 60 bytes of i_block. */
  readonly first: Uint8Array;
  /** The attribute system.data. */
  readonly rest: Uint8Array;
}

/** What an inode keeps in itself. Throws InputError when the attribute with the rest is not there. */
export function inlineContent(inode: ImageInode): InlineContent {
  const what = `attributes in ${inode.what}`;
  const data = decodeInodeXattrs(inode.record.xattrArea, what).find(isInlineData);
  if (data === undefined || data.valueInode !== undefined) {
    throw new InputError(inode.what, "its flags say inline data, but it has no system.data");
  }
  return { first: inode.record.blockField, rest: data.value };
}

/** Whether an attribute is the one that holds inline data, which nobody sees as an attribute. */
export function isInlineData(
  xattr: { readonly nameIndex: number; readonly suffix: string },
): boolean {
  return xattr.nameIndex === XATTR_INDEX.SYSTEM && xattr.suffix === "data";
}

/** The inline bytes up to the inode's size. Throws InputError when it keeps fewer. */
export function inlineBytes(inode: ImageInode): Uint8Array<ArrayBuffer> {
  const { first, rest } = inlineContent(inode);
  const { sizeBytes } = inode.record;
  const keptBytes = INODE_BLOCK_FIELD_SIZE_BYTES + rest.length;
  if (sizeBytes > keptBytes) {
    throw new InputError(
      inode.what,
      `its size is ${sizeBytes} bytes, but it keeps only ${keptBytes} in itself`,
    );
  }
  const whole = new Uint8Array(keptBytes);
  whole.set(first);
  whole.set(rest, first.length);
  return whole.slice(0, sizeBytes);
}

/**
 * Whether a file with inline data is one hole, larger than what its inode could keep. mke2fs -d makes such inodes of files
 * without any data; the kernel reads zeros from them, and e2fsck says nothing.
 */
export function isInlineHole(inode: ImageInode): boolean {
  if (inode.kind !== "file") return false;
  const { first, rest } = inlineContent(inode);
  return isBareHole(inode.record.sizeBytes, [first, rest]);
}

/** Whether a file of a size is one hole that says nothing in the parts that its inode keeps. */
export function isBareHole(sizeBytes: number, parts: readonly Uint8Array[]): boolean {
  const keptBytes = parts.reduce((sum, { length }) => sum + length, 0);
  return sizeBytes > keptBytes && parts.every((part) => part.every((byte) => byte === 0));
}

/**
 * All bytes of a small inode; holes are zeros.
 *
 * @param maxBytes the most that it can be
 * @throws {InputError} when it is larger
 */
export function readContent(
  image: Ext4Image,
  inode: ImageInode,
  maxBytes: number,
): Uint8Array<ArrayBuffer> {
  const { sizeBytes } = inode.record;
  if (sizeBytes > maxBytes) {
    throw new InputError(inode.what, `its size is ${sizeBytes} bytes, over ${maxBytes}`);
  }
  if (hasFlag(inode, INODE_FLAG.INLINE_DATA)) return inlineBytes(inode);
  const content = new Uint8Array(sizeBytes);
  const { blockSizeBytes } = image.geometry;
  for (const { logicalBlock, blockCount, startBlock, unwritten } of blockRuns(image, inode)) {
    if (unwritten) continue;
    for (let i = 0; i < blockCount; i++) {
      const at = (logicalBlock + i) * blockSizeBytes;
      if (at >= sizeBytes) break;
      const block = image.readBlock(startBlock + i, inode.what);
      content.set(block.subarray(0, Math.min(blockSizeBytes, sizeBytes - at)), at);
    }
  }
  return content;
}
