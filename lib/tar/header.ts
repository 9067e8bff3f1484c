/**
 * One header block: its fields (POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; star(5)),
 * type flags, number formats, block format, and checksum. Also the limits on a tar (length fields allocate nothing, and
 * limits bound everything that accumulates), and how messages name a location in a tar.
 *
 * @module
 */
import { alignUp, isZero } from "../bytes/arithmetic.ts";
import { type ByteString, byteStringFromBytes, displayName } from "../bytes/byte_string.ts";
import { InputError, limitError } from "../errors.ts";

/** Headers, and payloads rounded up, are counted in blocks of this size. */
export const TAR_BLOCK_SIZE_BYTES = 512;

/** One field of a header block. */
export interface HeaderField {
  readonly offset: number;
  readonly lengthBytes: number;
}

/** The fields common to all formats, including v7. */
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

/** The same field in the star format, which has two times after it. */
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

/** `sizeBytes` rounded up to whole blocks. */
export function paddedSizeBytes(sizeBytes: number): number {
  return alignUp(sizeBytes, TAR_BLOCK_SIZE_BYTES);
}

const SPACE = 0x20;
export const DIGIT_0 = 0x30;
const DIGIT_7 = 0x37;
const DIGIT_9 = 0x39;
const POINT = 0x2e;

/**
 * Reads a numeric field of the header block at `base`: base-256 if the top bit of its first byte is set, otherwise octal
 * digits surrounded by spaces and NULs. An empty field is 0.
 */
export function readNumberField(bytes: Uint8Array, base: number, field: HeaderField): number {
  const start = base + field.offset;
  const end = start + field.lengthBytes;
  return bytes[start]! >= 0x80 ? readBase256(bytes, start, end) : readOctal(bytes, start, end);
}

/** Octal digits, optionally preceded by spaces and NULs, and followed by a NUL or by spaces up to the end. */
function readOctal(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && (bytes[at] === SPACE || bytes[at] === 0)) at++;
  let value = 0;
  for (; at < end; at++) {
    const code = bytes[at]!;
    if (code < DIGIT_0 || code > DIGIT_7) break;
    value = value * 8 + (code - DIGIT_0);
  }
  if (at < end && bytes[at] !== 0) {
    while (at < end && (bytes[at] === SPACE || bytes[at] === 0)) at++;
    if (at < end) return NaN;
  }
  return value <= Number.MAX_SAFE_INTEGER ? value : Infinity;
}

/** Big-endian two's complement; the top bit only marks the encoding, the next one is the sign. */
function readBase256(bytes: Uint8Array, start: number, end: number): number {
  const negative = (bytes[start]! & 0x40) !== 0;
  const flip = negative ? 0xff : 0;
  let value = (bytes[start]! ^ flip) & 0x7f;
  for (let at = start + 1; at < end; at++) value = value * 256 + (bytes[at]! ^ flip);
  if (value >= Number.MAX_SAFE_INTEGER) return negative ? -Infinity : Infinity;
  return negative ? -value - 1 : value;
}

/** Parses a decimal number with an optional sign; NaN if it is invalid, an infinity if it is too large to be exact. */
export function parseDecimal(text: ByteString): number {
  if (!/^[+-]?[0-9]+$/.test(text)) return NaN;
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value + 0 || 0; // never -0
  return value < 0 ? -Infinity : Infinity;
}

/** A time in the form the tree uses. */
export interface TarTime {
  /** Rounded down. */
  readonly seconds: number;
  /** 0 to 999,999,999, forward from the seconds. */
  readonly nanoseconds: number;
}

/** Clamps seconds to exact numbers: larger times, up to 2^63 seconds in Go, are also beyond what an image can store. */
export function nearestSeconds(seconds: number): number {
  return Math.max(-Number.MAX_SAFE_INTEGER + 1, Math.min(Number.MAX_SAFE_INTEGER, seconds));
}

/** A number holds this many digits exactly. */
const EXACT_DIGITS = 15;

/**
 * Reads the PAX time in `bytes[start, end)` as {@linkcode parsePaxTime} does. The usual form, digits with a point in
 * between, is parsed in place: every entry of a PAX tar has one.
 */
export function readPaxTime(bytes: Uint8Array, start: number, end: number): TarTime | undefined {
  let at = start;
  let seconds = 0;
  for (; at < end && isDigit(bytes[at]!); at++) seconds = seconds * 10 + (bytes[at]! - DIGIT_0);
  const isPlain = at > start && at - start <= EXACT_DIGITS && (at === end || bytes[at] === POINT);
  if (!isPlain) return parsePaxTime(byteStringFromBytes(bytes, start, end));
  let nanoseconds = 0;
  let worth = 100_000_000;
  for (at++; at < end && isDigit(bytes[at]!); at++) {
    nanoseconds += (bytes[at]! - DIGIT_0) * worth;
    worth = Math.floor(worth / 10);
  }
  return at < end ? undefined : { seconds, nanoseconds };
}

function isDigit(code: number): boolean {
  return code >= DIGIT_0 && code <= DIGIT_9;
}

/**
 * Parses a PAX time: decimal seconds with an optional fraction. The number is taken at face value, as GNU tar and Go write
 * it: `-0.5` is half a second before 1970. (bsdtar writes the seconds rounded down with a fraction that counts forward;
 * nothing in the record distinguishes the two.) Digits beyond nanoseconds are dropped. Undefined if it is not a number.
 */
export function parsePaxTime(text: ByteString): TarTime | undefined {
  const parts = /^([+-]?[0-9]+)(?:\.([0-9]*))?$/.exec(text);
  if (!parts) return undefined;
  const seconds = nearestSeconds(parseDecimal(parts[1]!));
  const nanoseconds = Number((parts[2] ?? "").slice(0, 9).padEnd(9, "0"));
  if (!parts[1]!.startsWith("-") || nanoseconds === 0) return { seconds, nanoseconds };
  return { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

/** The kinds of header block. `ustar` has the POSIX prefix field and includes PAX. */
export type HeaderFormat = "v7" | "ustar" | "gnu" | "star";

const STAR_TRAILER_OFFSET = 508;

export function isZeroBlock(bytes: Uint8Array, base: number): boolean {
  return isZero(bytes, base, base + TAR_BLOCK_SIZE_BYTES);
}

/** Throws if the checksum matches neither the unsigned nor the signed sum (old tars) of the block's bytes. */
export function checkHeaderSum(bytes: Uint8Array, base: number, location: TarLocation): void {
  const { offset, lengthBytes } = HEADER_FIELDS.checksum;
  let sum = 8 * 0x20; // the field itself counts as spaces
  for (let at = base; at < base + offset; at++) sum += bytes[at]!;
  for (let at = base + offset + lengthBytes; at < base + TAR_BLOCK_SIZE_BYTES; at++) {
    sum += bytes[at]!;
  }
  const wanted = readNumberField(bytes, base, HEADER_FIELDS.checksum);
  if (wanted === sum || wanted === signedSum(bytes, base, sum)) return;
  throw tarFault(
    location,
    `this is not a tar header: its checksum field says ${wanted}, its bytes add up to ${sum}`,
    { expected: wanted, actual: sum },
  );
}

function signedSum(bytes: Uint8Array, base: number, sum: number): number {
  const { offset, lengthBytes } = HEADER_FIELDS.checksum;
  let signed = sum;
  for (let i = 0; i < TAR_BLOCK_SIZE_BYTES; i++) {
    if (bytes[base + i]! >= 0x80 && (i < offset || i >= offset + lengthBytes)) signed -= 256;
  }
  return signed;
}

/** The block's format, from its magic. */
export function headerFormat(bytes: Uint8Array, base: number): HeaderFormat {
  const at = base + HEADER_FIELDS.magic.offset;
  if (!hasText(bytes, at, "ustar")) return "v7";
  if (bytes[at + 5] === 0) {
    return hasText(bytes, base + STAR_TRAILER_OFFSET, "tar\0") ? "star" : "ustar";
  }
  return hasText(bytes, at + 5, "  \0") ? "gnu" : "v7";
}

/** The path in the block itself: prefix and name. */
export function headerPath(bytes: Uint8Array, base: number, format: HeaderFormat): ByteString {
  const name = nameField(bytes, base, HEADER_FIELDS.name);
  const prefix = headerPrefix(bytes, base, format);
  return prefix === "" ? name : `${prefix}/${name}`;
}

function headerPrefix(bytes: Uint8Array, base: number, format: HeaderFormat): ByteString {
  switch (format) {
    case "v7":
      return "";
    case "ustar":
      return nameField(bytes, base, USTAR_PREFIX);
    case "star":
      return nameField(bytes, base, STAR_PREFIX);
    case "gnu": {
      // Go before 1.8 mistakenly wrote a prefix here. If the bytes are not valid times, ASCII text is taken as a prefix.
      if (
        isGnuTime(bytes, base, GNU_FIELDS.accessTime) &&
        isGnuTime(bytes, base, GNU_FIELDS.changeTime)
      ) {
        return "";
      }
      const prefix = nameField(bytes, base, USTAR_PREFIX);
      // deno-lint-ignore no-control-regex
      return /^[\x00-\x7f]*$/.test(prefix) ? prefix : "";
    }
  }
}

function isGnuTime(bytes: Uint8Array, base: number, field: HeaderField): boolean {
  return bytes[base + field.offset] === 0 || Number.isFinite(readNumberField(bytes, base, field));
}

/** A text field, up to its first NUL or the end of the field. */
export function nameField(bytes: Uint8Array, base: number, field: HeaderField): ByteString {
  const start = base + field.offset;
  return cString(bytes, start, start + field.lengthBytes);
}

/** The bytes up to the first NUL, or to the end. */
export function cString(bytes: Uint8Array, start: number, limit: number): ByteString {
  let end = start;
  while (end < limit && bytes[end] !== 0) end++;
  return end === start ? "" : byteStringFromBytes(bytes, start, end);
}

function hasText(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (bytes[at + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

/** Limits on one tar. */
export interface TarLimits {
  /** Entries that reach the tree. */
  readonly layerEntries: number;
  /** Headers of any kind, including extended and skipped ones. */
  readonly layerHeaders: number;
  /** Data of one extended header (PAX, GNU long name). */
  readonly extendedHeaderBytes: number;
  /** Data of all extended headers together. */
  readonly extendedHeaderTotalBytes: number;
  /**
   * Entries' memory use in addition to names: extended attributes, each counted as 128 bytes more than its length, and the
   * excess of paths and targets over 256 bytes.
   */
  readonly attributeBytes: number;
  /** A path, or the target of a hard link. */
  readonly pathBytes: number;
  /** Components of a path. */
  readonly pathDepth: number;
  /** One component of a path. */
  readonly nameBytes: number;
  /** The target of a symbolic link. */
  readonly symlinkTargetBytes: number;
  /** The length of a file, holes included. */
  readonly fileSizeBytes: number;
  /** Segments of one sparse file. */
  readonly sparseSegments: number;
  /** Segments and data runs beyond the first of each file, in all files together: what determines memory use. */
  readonly extraPayloadPieces: number;
}

/** The default limits. */
export const DEFAULT_TAR_LIMITS: TarLimits = {
  // A file takes a kibibyte and a half of memory while its image is made, a directory nearly three.
  layerEntries: 2 ** 20,
  layerHeaders: 2 ** 23,
  // The same as in Go's archive/tar.
  extendedHeaderBytes: 2 ** 20,
  extendedHeaderTotalBytes: 2 ** 29,
  attributeBytes: 2 ** 27,
  pathBytes: 2 ** 16,
  pathDepth: 1024,
  // ext4 has room for 255; a whiteout's name is 4 bytes longer than the name it removes.
  nameBytes: 259,
  // PATH_MAX without the NUL.
  symlinkTargetBytes: 4095,
  // ext4 with 4096-byte blocks: a file's block numbers have 32 bits, and the last is not used.
  fileSizeBytes: (2 ** 32 - 1) * 4096,
  sparseSegments: 2 ** 18,
  extraPayloadPieces: 2 ** 22,
};

/** Limits imposed by ext4. Longer values could be read, but not stored. */
export const FIXED_TAR_LIMITS: ReadonlySet<keyof TarLimits> = new Set([
  "nameBytes",
  "symlinkTargetBytes",
  "fileSizeBytes",
]);

/** A header of a tar, for messages. */
export interface TarLocation {
  /** The tar's name. */
  readonly tarName: string;
  /** The header's offset in the uncompressed tar. */
  readonly headerOffset: number;
  /** The entry's path, as far as it is known; empty if unknown. */
  readonly path: ByteString;
}

/** Longer paths are shortened in messages. */
const SHOWN_PATH_BYTES = 200;

/** Describes the location: the tar, the path, the offset. Safe to print. */
export function describeLocation(location: TarLocation): string {
  return `${location.tarName}: ${nameOf(location.path)} at offset ${location.headerOffset}`;
}

/**
 * The error for a problem at a location: an InputError with the tar, the path and the offset in its message and its data.
 * `why` says what was found and what was expected.
 */
export function tarFault(
  location: TarLocation,
  why: string,
  data: Readonly<Record<string, string | number>> = {},
): InputError {
  return new InputError(describeLocation(location), why, {
    data: { ...locationData(location), ...data },
  });
}

function locationData(
  { tarName, path, headerOffset }: TarLocation,
): Record<string, string | number> {
  return { tar: tarName, path: displayName(path), headerOffset };
}

/** The error for exceeding a limit. */
export function limitFault(
  location: TarLocation,
  what: string,
  limitName: keyof TarLimits,
  found: number,
  limit: number,
): InputError {
  return limitError(
    describeLocation(location),
    `${what} is ${found}, more than the limit of ${limit}`,
    {
      name: limitName,
      expected: limit,
      actual: found,
      data: locationData(location),
      isFixed: FIXED_TAR_LIMITS.has(limitName),
    },
  );
}

/** Formats a byte string for a message: quoted, truncated, safe to print. */
export function quoted(text: ByteString): string {
  return text.length <= SHOWN_PATH_BYTES
    ? `"${displayName(text)}"`
    : `"${displayName(text.slice(0, SHOWN_PATH_BYTES))}..."`;
}

function nameOf(path: ByteString): string {
  return path === "" ? "header" : quoted(path);
}
