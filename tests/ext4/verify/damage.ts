/**
 * Damage by single bits: where the metadata of an image is, and what e2fsck and verify say about a bit of it flipped.
 *
 * @module
 */
import { INODE_FLAG } from "../../../lib/ext4/format/constants.ts";
import { groupDescriptorChecksum } from "../../../lib/ext4/format/group_descriptor.ts";
import { sealInode } from "../../../lib/ext4/format/inode.ts";
import { superblockChecksum } from "../../../lib/ext4/format/superblock.ts";
import { decodeDirectoryBlock } from "../../../lib/ext4/format/directory.ts";
import { InputError } from "../../../lib/errors.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { verifyImage, type VerifyReport } from "../../../lib/ext4/verify/verify.ts";
import { FixtureImage, unpackFixture, type UsedInode } from "../format/fixture_image.ts";
import { runCommand } from "../../oracle/command.ts";

/** A range of metadata. */
export interface Region {
  readonly kind: string;
  readonly offset: number;
  readonly length: number;
}

/** Everything in an image that is no payload and not empty room of an inode table. */
export function metadataRegions(name: string, bytes: Uint8Array<ArrayBuffer>): Region[] {
  const image = new FixtureImage(name, bytes);
  const { superblock, blockSizeBytes } = image;
  const regions: Region[] = [{ kind: "superblock", offset: 1024, length: 1024 }];
  const block = (kind: string, number: number, count = 1) => {
    if (number > 0) {
      regions.push({ kind, offset: number * blockSizeBytes, length: count * blockSizeBytes });
    }
  };
  const tableBytes = image.groupCount * image.descriptorSizeBytes;
  regions.push({
    kind: "descriptors",
    offset: (image.firstBlockOfGroup(0) + 1) * blockSizeBytes,
    length: tableBytes,
  });
  for (let group = 0; group < image.groupCount; group++) {
    const descriptor = image.descriptor(group);
    block("block bitmap", descriptor.blockBitmapBlock);
    block("inode bitmap", descriptor.inodeBitmapBlock);
    // The reserved inodes, and some that are not in use.
    const length = Math.min(32, superblock.inodesPerGroup) * superblock.inodeSizeBytes;
    regions.push({ kind: "inodes", offset: descriptor.inodeTableBlock * blockSizeBytes, length });
  }
  for (const used of image.usedInodes()) addInode(image, used, regions, block);
  if (superblock.mmpBlock > 0) block("mmp", superblock.mmpBlock);
  return regions;
}

function addInode(
  image: FixtureImage,
  used: UsedInode,
  regions: Region[],
  block: (kind: string, number: number, count?: number) => void,
): void {
  const { slot, number, inode } = used;
  const { superblock } = image;
  if (slot.every((byte) => byte === 0)) return;
  const offset = slot.byteOffset - image.bytes.byteOffset;
  regions.push({ kind: "inode", offset, length: slot.length });
  block("xattr block", inode.xattrBlock);
  for (const { number: at } of image.extentBlocks(used)) block("extent block", at);
  const type = inode.mode >> 12;
  const blocks = [...image.fileBlocks(used).values()].map((each) => each.number);
  if (type === 4) {
    for (const at of blocks) block("directory", at);
  } else if (type === 10 && (inode.flags & INODE_FLAG.EXTENTS) !== 0) {
    for (const at of blocks) block("symlink", at);
  } else if ((inode.flags & INODE_FLAG.EA_INODE) !== 0) {
    for (const at of blocks) block("value", at);
  } else if (number === superblock.journalInode && blocks[0] !== undefined) {
    regions.push({
      kind: "journal",
      offset: blocks[0] * image.blockSizeBytes,
      length: 1024,
    });
  } else if (number === superblock.orphanFileInode && number > 0) {
    for (const at of blocks) block("orphan file", at);
  } else if (
    [superblock.userQuotaInode, superblock.groupQuotaInode, superblock.projectQuotaInode]
      .includes(number)
  ) {
    for (const at of blocks) block("quota", at);
  } else if (number === 7 && (superblock.featureCompat & 0x10) !== 0) {
    const pointer = new DataView(slot.buffer, slot.byteOffset + 0x28 + 13 * 4, 4).getUint32(
      0,
      true,
    );
    block("resize inode", pointer);
    const first = image.firstBlockOfGroup(0) + 1 +
      Math.ceil(image.groupCount * image.descriptorSizeBytes / image.blockSizeBytes);
    block("resize inode", first, Math.min(2, superblock.reservedGdtBlocks));
  } else if (type === 8 && (inode.flags & (INODE_FLAG.EXTENTS | INODE_FLAG.INLINE_DATA)) === 0) {
    const view = new DataView(slot.buffer, slot.byteOffset + 0x28, 60);
    for (let i = 12; i < 15; i++) block("map block", view.getUint32(4 * i, true));
  }
}

/** A structure with a checksum of its own. */
export interface SealedPart {
  readonly offset: number;
  readonly length: number;
  /** Makes the checksum right for what is there now. */
  readonly seal: () => void;
}

/** The superblock, the descriptors and the inodes of an image with metadata checksums. */
export function sealedParts(name: string, bytes: Uint8Array<ArrayBuffer>): SealedPart[] {
  const image = new FixtureImage(name, bytes);
  const { superblock, descriptorSizeBytes } = image;
  const seed = image.seed!;
  const primary = bytes.subarray(1024, 2048);
  const parts: SealedPart[] = [{
    offset: 1024,
    length: 1024,
    seal: () => viewAt(primary).setUint32(0x3fc, superblockChecksum(primary), true),
  }];
  for (let group = 0; group < image.groupCount; group++) {
    const encoded = image.descriptorBytes(group);
    parts.push({
      offset: encoded.byteOffset,
      length: descriptorSizeBytes,
      seal: () => {
        const checksum = groupDescriptorChecksum(encoded, { groupIndex: group, seed });
        viewAt(encoded).setUint16(0x1e, checksum, true);
      },
    });
  }
  const numbers = new Set(image.usedInodes().map(({ number }) => number));
  for (let number = 1; number < superblock.firstInode; number++) numbers.add(number);
  for (const inodeNumber of numbers) {
    const slot = image.inodeSlot(inodeNumber);
    const seal = () => sealInode(slot, { inodeNumber, seed });
    parts.push({ offset: slot.byteOffset, length: slot.length, seal });
  }
  return parts;
}

/** What verify made of an image: findings, or a refusal. */
export type Verdict = VerifyReport | InputError;

/** Verifies bytes; an image that is refused is not passed for a good one either. */
export async function verdictOf(bytes: Uint8Array): Promise<Verdict> {
  try {
    return await verifyImage(memoryReader(bytes, "image"), { findingsMax: 20 });
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
}

/** Whether a verdict says that something is wrong. */
export function isReported(verdict: Verdict): boolean {
  return verdict instanceof InputError || !verdict.clean;
}

/** Seconds after which e2fsck is given up: some bits of a superblock make it count for hours. */
const E2FSCK_SECONDS = 20;
const TIMED_OUT = 124;

/** What e2fsck -fn says of an image; `isReported` is false when it came to no end. */
export function e2fsckVerdict(path: string): {
  readonly isReported: boolean;
  readonly isEndless: boolean;
  readonly text: string;
} {
  const { status, stdout, stderr } = runCommand("timeout", [
    `${E2FSCK_SECONDS}`,
    "e2fsck",
    "-fn",
    path,
  ]);
  return {
    isReported: status !== 0 && status !== TIMED_OUT,
    isEndless: status === TIMED_OUT,
    text: `exit status ${status}\n${stderr}${stdout}`,
  };
}

/** Findings of a fixture after some bytes of it were changed, each as `STRUCTURE: PROBLEM`. */
export async function problemsOf(
  name: string,
  change: (image: FixtureImage) => void,
): Promise<string[]> {
  const image = new FixtureImage(name, unpackFixture(name));
  change(image);
  const { findings } = await verifyImage(memoryReader(image.bytes, name));
  return findings.map(({ structure, problem }) => `${structure}: ${problem}`);
}

/** The inode that is named by a path of an image's root directory. */
export function inodeNamed(image: FixtureImage, name: string): UsedInode {
  const used = image.usedInodes();
  const root = used.find(({ number }) => number === 2)!;
  const checksummed = image.seed !== undefined;
  for (const { bytes } of image.directoryBlocks(root).leaves) {
    for (const entry of decodeDirectoryBlock(bytes, { checksummed, what: name })) {
      if (entry.name === name) return used.find(({ number }) => number === entry.inodeNumber)!;
    }
  }
  throw new Error(`no ${name} in the root of ${image.name}`);
}

/** A view of some bytes of an image that writes through. */
export function viewAt(bytes: Uint8Array): DataView<ArrayBufferLike> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
