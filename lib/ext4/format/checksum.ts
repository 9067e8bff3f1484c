/**
 * The seeds of ext4's metadata checksums (kernel documentation, "Checksums"). All of them are CRC-32C on the raw
 * register: the seed is the start value, and there is no final inversion.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError, invariant } from "../../errors.ts";

/** The start value of structures without a seed. */
export const CRC32C_START = 0xffffffff;
/** What a 32-bit checksum field counts as when the structure that has it is summed. */
export const ZEROED_CHECKSUM = new Uint8Array(4);

/** le32 inode number, le32 i_generation. */
export const INODE_SEED_KEY_SIZE_BYTES = 8;
const inodeKey = new Uint8Array(INODE_SEED_KEY_SIZE_BYTES);
const inodeKeyView = new DataView(inodeKey.buffer);

/**
 * The file system's seed if the superblock does not store one (no INCOMPAT_CSUM_SEED).
 *
 * @param uuid the 16 bytes of s_uuid
 */
export function filesystemSeed(uuid: Uint8Array): number {
  invariant(uuid.length === 16, `a UUID of ${uuid.length} bytes`);
  return crc32c(CRC32C_START, uuid);
}

/** The seed of everything that belongs to one inode: its own checksum and those of its extent and directory blocks. */
export function inodeSeed(seed: number, inodeNumber: number, generation: number): number {
  return crc32c(seed, inodeSeedKey(inodeNumber, generation));
}

/**
 * The bytes that turn the file system's seed into an inode's. The next call reuses the array, so a hundred thousand
 * inodes need no allocation.
 */
export function inodeSeedKey(inodeNumber: number, generation: number): Uint8Array {
  inodeKeyView.setUint32(0, inodeNumber, true);
  inodeKeyView.setUint32(4, generation, true);
  return inodeKey;
}

/** Throws InputError if a stored checksum differs from the computed one. `what` names the structure. */
export function checkChecksum(what: string, stored: number, computed: number): void {
  if (stored === computed) return;
  const [found, wanted] = [stored, computed].map((value) => value.toString(16).padStart(4, "0"));
  throw new InputError(what, `its checksum is 0x${found}, not 0x${wanted}`, {
    data: { actual: stored, expected: computed, checksum: true },
  });
}
