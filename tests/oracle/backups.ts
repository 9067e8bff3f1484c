/**
 * The third oracle: every backup of the superblock and of the descriptors equals the primary. e2fsck looks at backups
 * only when the primary is gone, so a bad one would go unnoticed until it is needed.
 *
 * The few fields are read by hand here, from the offsets in the kernel's Documentation/filesystems/ext4.
 *
 * @module
 */
import { crc32c } from "../../lib/bytes/crc32c.ts";

const PRIMARY_OFFSET = 1024;
const SUPERBLOCK_BYTES = 1024;
const STATE_OFFSET = 0x3a;
const STATE_VALID = 0x1;
const GROUP_NUMBER_OFFSET = 0x5a;
const CHECKSUM_OFFSET = 0x3fc;
const SPARSE_SUPER = 0x1;
const METADATA_CSUM = 0x400;
const SPARSE_SUPER2 = 0x200;
const BIT64 = 0x80;

interface Superblock {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly blocksPerGroup: number;
  readonly descriptorBytes: number;
  readonly hasChecksum: boolean;
  readonly backupGroups: (groupCount: number) => number[];
}

/** Throws unless every backup that the features ask for is there, up to date, and has a right checksum. */
export function assertBackupsEqual(image: string): number {
  using file = Deno.openSync(image);
  const primary = decode(readAt(file, PRIMARY_OFFSET, SUPERBLOCK_BYTES));
  const { blockBytes, blocksPerGroup } = primary;
  const groupCount = Math.ceil(primary.blockCount / blocksPerGroup);
  const tableBytes = groupCount * primary.descriptorBytes;
  const table = readAt(file, blockBytes, tableBytes);
  const groups = primary.backupGroups(groupCount);
  checkSuperblock(image, primary, primary.bytes, 0);
  for (const group of groups) {
    const offset = group * blocksPerGroup * blockBytes;
    checkSuperblock(image, primary, readAt(file, offset, SUPERBLOCK_BYTES), group);
    const backupTable = readAt(file, offset + blockBytes, tableBytes);
    const at = backupTable.findIndex((byte, i) => byte !== table[i]);
    if (at >= 0) {
      const descriptor = Math.floor(at / primary.descriptorBytes);
      throw new Error(
        `${image}: group ${group}: backup of descriptor ${descriptor} differs from the primary`,
      );
    }
  }
  return groups.length;
}

function readAt(file: Deno.FsFile, offset: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let done = 0; done < length;) {
    const count = file.readSync(bytes.subarray(done));
    if (count === null) throw new Error(`the image ends at ${offset + done}`);
    done += count;
  }
  return bytes;
}

function decode(bytes: Uint8Array<ArrayBuffer>): Superblock {
  const view = new DataView(bytes.buffer);
  const compat = view.getUint32(0x5c, true);
  const incompat = view.getUint32(0x60, true);
  const roCompat = view.getUint32(0x64, true);
  const is64 = (incompat & BIT64) !== 0;
  const blockBytes = 1024 << view.getUint32(0x18, true);
  if (blockBytes !== 4096) throw new Error(`block size: found ${blockBytes}, wanted 4096`);
  return {
    bytes,
    blockBytes,
    blockCount: view.getUint32(0x04, true) + (is64 ? view.getUint32(0x150, true) * 2 ** 32 : 0),
    blocksPerGroup: view.getUint32(0x20, true),
    descriptorBytes: is64 ? view.getUint16(0xfe, true) : 32,
    hasChecksum: (roCompat & METADATA_CSUM) !== 0,
    backupGroups: (groupCount) => {
      const listed = [view.getUint32(0x24c, true), view.getUint32(0x250, true)];
      return Array.from({ length: groupCount }, (_, group) => group).filter((group) => {
        if (group === 0) return false;
        if ((compat & SPARSE_SUPER2) !== 0) return listed.includes(group);
        return (roCompat & SPARSE_SUPER) === 0 || isSparseGroup(group);
      });
    },
  };
}

/** sparse_super: group 1 and the powers of 3, 5 and 7. */
function isSparseGroup(group: number): boolean {
  return [3, 5, 7].some((base) => {
    let power = 1;
    while (power < group) power *= base;
    return power === group;
  });
}

/**
 * A backup is the primary but for its group number and its checksum; libext2fs also leaves the valid bit out of the
 * state of backups.
 */
function checkSuperblock(
  image: string,
  primary: Superblock,
  bytes: Uint8Array<ArrayBuffer>,
  group: number,
): void {
  const view = new DataView(bytes.buffer);
  const found = view.getUint16(GROUP_NUMBER_OFFSET, true);
  if (found !== group % 65536) {
    throw new Error(`${image}: group ${group}: superblock says that it is of group ${found}`);
  }
  const wanted = primary.bytes.slice();
  const wantedView = new DataView(wanted.buffer);
  wantedView.setUint16(GROUP_NUMBER_OFFSET, found, true);
  const state = view.getUint16(STATE_OFFSET, true);
  if (group > 0 && (state & STATE_VALID) === 0) {
    wantedView.setUint16(
      STATE_OFFSET,
      wantedView.getUint16(STATE_OFFSET, true) & ~STATE_VALID,
      true,
    );
  }
  if (primary.hasChecksum) {
    const checksum = crc32c(0xffffffff, wanted.subarray(0, CHECKSUM_OFFSET));
    wantedView.setUint32(CHECKSUM_OFFSET, checksum, true);
  }
  const at = bytes.findIndex((byte, i) => byte !== wanted[i]);
  if (at >= 0) {
    throw new Error(`${image}: group ${group}: superblock differs from the primary at byte ${at}`);
  }
}
