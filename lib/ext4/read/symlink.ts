/**
 * Targets of symbolic links: in i_block when they are short, inline, or in a block.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { byteStringFromBytes } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { INODE_FLAG } from "../format/constants.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import { readContent } from "./content.ts";
import { hasFlag } from "./inode.ts";
import type { Ext4Image, ImageInode } from "./types.ts";

/** The longest path that the kernel follows, without its NUL. */
const TARGET_BYTES_MAX = 4095;

/** Whether a symlink keeps its target in i_block, and so maps no blocks. */
export function isFastSymlink(inode: ImageInode): boolean {
  return !hasFlag(inode, INODE_FLAG.INLINE_DATA) &&
    inode.record.sizeBytes < INODE_BLOCK_FIELD_SIZE_BYTES;
}

/** A symlink's target: as long as its size says, without a NUL. Throws InputError for any other. */
export function readSymlink(image: Ext4Image, inode: ImageInode): ByteString {
  const { sizeBytes, blockField } = inode.record;
  const most = Math.min(TARGET_BYTES_MAX, image.geometry.blockSizeBytes - 1);
  if (sizeBytes === 0 || sizeBytes > most) {
    throw new InputError(
      inode.what,
      `the target of the symlink has ${sizeBytes} bytes, not 1 to ${most}`,
    );
  }
  let target: ByteString;
  if (isFastSymlink(inode)) {
    if (hasFlag(inode, INODE_FLAG.EXTENTS)) {
      throw new InputError(inode.what, "its flags say extents, but its target is in i_block");
    }
    target = byteStringFromBytes(blockField, 0, sizeBytes);
    if (blockField[sizeBytes] !== 0) {
      throw new InputError(inode.what, `no NUL follows the ${sizeBytes} bytes of its target`);
    }
  } else {
    target = byteStringFromBytes(readContent(image, inode, most));
  }
  if (target.includes("\0")) {
    throw new InputError(inode.what, `its target has a NUL at byte ${target.indexOf("\0")}`);
  }
  return target;
}
