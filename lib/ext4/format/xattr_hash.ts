/**
 * The hashes in extended attribute entries and blocks (fs/ext4/xattr.c). They let the kernel find a block with equal
 * attributes to share; fsck demands that they are right.
 *
 * @module
 */
import { rotateLeft } from "../../bytes/arithmetic.ts";
import type { ByteString } from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { invariant } from "../../errors.ts";

/** What an entry's hash covers. */
export interface HashedXattr {
  readonly suffix: ByteString;
  readonly value: Uint8Array;
  readonly valueInode?: number;
  readonly valueHash?: number;
}

const NAME_SHIFT = 5;
const VALUE_SHIFT = 16;

/**
 * e_hash: the suffix byte by byte, then the value word by word (little-endian, padded with zeros). For a value in an
 * inode the one word is that inode's hash. Old kernels on x86 took the suffix as signed characters; `signedName` gives
 * what they wrote.
 */
export function xattrEntryHash(xattr: HashedXattr, signedName = false): number {
  let hash = 0;
  for (let i = 0; i < xattr.suffix.length; i++) {
    const byte = xattr.suffix.charCodeAt(i);
    hash = rotateLeft(hash, NAME_SHIFT) ^ (signedName ? (byte << 24) >> 24 : byte);
  }
  if (xattr.valueInode !== undefined) {
    invariant(xattr.valueHash !== undefined, "an attribute in an inode needs its value's hash");
    return (rotateLeft(hash, VALUE_SHIFT) ^ xattr.valueHash) >>> 0;
  }
  const { value } = xattr;
  for (let at = 0; at < value.length; at += 4) {
    const word = (value[at] ?? 0) | ((value[at + 1] ?? 0) << 8) | ((value[at + 2] ?? 0) << 16) |
      ((value[at + 3] ?? 0) << 24);
    hash = rotateLeft(hash, VALUE_SHIFT) ^ word;
  }
  return hash >>> 0;
}

/** h_hash: the entry hashes folded; 0, which means "never share", when one of them is 0. */
export function xattrBlockHash(entryHashes: readonly number[]): number {
  let hash = 0;
  for (const entryHash of entryHashes) {
    if (entryHash === 0) return 0;
    hash = rotateLeft(hash, VALUE_SHIFT) ^ entryHash;
  }
  return hash >>> 0;
}

/**
 * The hash of a value that an inode holds, which that inode keeps in i_atime. `seed` is superblockSeed(), also where
 * the file system has no metadata checksums.
 */
export function xattrValueHash(seed: number, value: Uint8Array): number {
  return crc32c(seed, value);
}
