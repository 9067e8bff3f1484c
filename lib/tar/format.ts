/**
 * Where the fields of a tar header block lie (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar
 * Format"; star(5)), and the type flags.
 *
 * @module
 */
import { alignUp } from "../bytes/arithmetic.ts";

/** Headers, and payloads rounded up, are counted in blocks of this size. */
export const TAR_BLOCK_SIZE_BYTES = 512;

/** One field of a header block. */
export interface HeaderField {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** The fields that all formats share, v7 included. */
export const HEADER_FIELDS = {
  name: { offset: 0, lengthBytes: 100 },
  mode: { offset: 100, lengthBytes: 8 },
  uid: { offset: 108, lengthBytes: 8 },
  gid: { offset: 116, lengthBytes: 8 },
  size: { offset: 124, lengthBytes: 12 },
  mtime: { offset: 136, lengthBytes: 12 },
  checksum: { offset: 148, lengthBytes: 8 },
  typeFlag: { offset: 156, lengthBytes: 1 },
  linkName: { offset: 157, lengthBytes: 100 },
  magic: { offset: 257, lengthBytes: 8 },
  deviceMajor: { offset: 329, lengthBytes: 8 },
  deviceMinor: { offset: 337, lengthBytes: 8 },
} as const satisfies Record<string, HeaderField>;

/** The leading part of a long name in the POSIX format. */
export const USTAR_PREFIX: HeaderField = { offset: 345, lengthBytes: 155 };

/** The same in the star format, which keeps two times behind it. */
export const STAR_PREFIX: HeaderField = { offset: 345, lengthBytes: 131 };

/** Fields of the GNU format where the POSIX format has its prefix. */
export const GNU_FIELDS = {
  accessTime: { offset: 345, lengthBytes: 12 },
  changeTime: { offset: 357, lengthBytes: 12 },
  realSize: { offset: 483, lengthBytes: 12 },
} as const satisfies Record<string, HeaderField>;

/** Type flags as character codes. */
export const TYPE_FLAG = {
  oldRegular: 0,
  regular: 0x30, // '0'
  hardLink: 0x31, // '1'
  symlink: 0x32, // '2'
  characterDevice: 0x33, // '3'
  blockDevice: 0x34, // '4'
  directory: 0x35, // '5'
  fifo: 0x36, // '6'
  contiguous: 0x37, // '7'
  paxEntry: 0x78, // 'x'
  paxGlobal: 0x67, // 'g'
  solarisPaxEntry: 0x58, // 'X'
  solarisAcl: 0x41, // 'A'
  gnuLongName: 0x4c, // 'L'
  gnuLongLink: 0x4b, // 'K'
  gnuOldNames: 0x4e, // 'N'
  gnuSparse: 0x53, // 'S'
  gnuDumpDirectory: 0x44, // 'D'
  gnuMultiVolume: 0x4d, // 'M'
  gnuVolumeLabel: 0x56, // 'V'
} as const;

/** `sizeBytes` with the padding that fills its last block. */
export function paddedSizeBytes(sizeBytes: number): number {
  return alignUp(sizeBytes, TAR_BLOCK_SIZE_BYTES);
}
