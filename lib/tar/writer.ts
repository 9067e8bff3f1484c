/**
 * Writes tar entries in the POSIX PAX format: a plain ustar header if everything fits, otherwise preceded by an extended
 * header. Pure functions: the same entry always gives the same bytes.
 *
 * Everything the format has room for is preserved: names as bytes (with `hdrcharset=BINARY` if they are not UTF-8), times
 * to the nanosecond and before 1970, any uid and gid, xattrs as `SCHILY.xattr.*` (including ACLs in the system call format,
 * and again as text), and sparse files as GNU.sparse 1.0.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { alignDown } from "../bytes/arithmetic.ts";
import { type ByteString, byteStringFromBytes, textFromByteString } from "../bytes/byte_string.ts";
import { invariant } from "../errors.ts";
import type { PayloadIndex } from "../model/node.ts";
import { aclToText } from "./acl.ts";
import type { TarEntry, TarEntryKind } from "./entry.ts";
import {
  DIGIT_0,
  HEADER_FIELDS,
  type HeaderField,
  paddedSizeBytes,
  TAR_BLOCK_SIZE_BYTES,
  TYPE_FLAG,
  USTAR_PREFIX,
} from "./header.ts";
import { firstLayerComment } from "./pax.ts";

/** A range of a file that is stored in the tar. */
export interface StoredRange {
  /** Offset in the file. */
  readonly fileOffset: number;
  /** How many bytes. */
  readonly lengthBytes: number;
}

/** What to write for one entry: the head, then the ranges contiguously, then zeros. */
export interface EncodedTarEntry {
  /** All header blocks, and the sparse map if there is one: whole tar blocks. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** The parts of the file to store, ascending. If a part extends into a hole, zeros are stored there. */
  readonly storedRanges: readonly StoredRange[];
  /** The total length of the ranges. */
  readonly storedSizeBytes: number;
  /** The number of zeros that fill the last block, 0 to 511. */
  readonly paddingSizeBytes: number;
}

/** The two zero blocks that end a tar. */
export const END_OF_ARCHIVE_SIZE_BYTES = 2 * TAR_BLOCK_SIZE_BYTES;

const ACL_RECORDS: ReadonlyMap<ByteString, string> = new Map([
  ["system.posix_acl_access", "SCHILY.acl.access"],
  ["system.posix_acl_default", "SCHILY.acl.default"],
]);

const FLAG_OF_KIND: Readonly<Record<TarEntryKind, number>> = {
  file: TYPE_FLAG.regular,
  directory: TYPE_FLAG.directory,
  symlink: TYPE_FLAG.symlink,
  hardlink: TYPE_FLAG.hardLink,
  characterDevice: TYPE_FLAG.characterDevice,
  blockDevice: TYPE_FLAG.blockDevice,
  fifo: TYPE_FLAG.fifo,
};

/**
 * The bytes of an entry up to its payload, and the payload that must follow. Only `sizeBytes` and `segments` of the
 * payload index matter: a file whose segments leave holes is written sparse.
 *
 * @param comment text that readers ignore
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodeTarEntry } from "./writer.ts";
 * const encoded = encodeTarEntry({
 *   kind: "symlink", path: "bin", linkTarget: "usr/bin", mode: 0o777, uid: 0, gid: 0, mtimeSeconds: 0,
 *   mtimeNanoseconds: 0, deviceMajor: 0, deviceMinor: 0, xattrs: [], payload: undefined,
 * });
 * assertEquals(encoded.head.length, 512);
 * ```
 */
export function encodeTarEntry(
  entry: Omit<TarEntry, "headerOffset">,
  comment?: ByteString,
): EncodedTarEntry {
  invariant(entry.path !== "", "a tar entry has a path");
  const payload = entry.kind === "file" ? entry.payload : undefined;
  const stored = payload ? storedRangesOf(payload) : [];
  const storedSizeBytes = stored.reduce((sum, range) => sum + range.lengthBytes, 0);
  const sizeBytes = payload?.sizeBytes ?? 0;
  const map = storedSizeBytes < sizeBytes ? sparseMap(stored, sizeBytes) : undefined;
  const dataSizeBytes = (map?.length ?? 0) + storedSizeBytes;

  const split = splitName(entry.path);
  const records = recordsOf(entry, {
    sparseSizeBytes: map ? sizeBytes : undefined,
    pathNeedsRecord: split === undefined,
    dataSizeBytes,
    comment,
  });
  const extendedBytes = extendedSizeBytes(records);
  const mapOffset = extendedBytes + TAR_BLOCK_SIZE_BYTES;
  const head = new Uint8Array(mapOffset + (map?.length ?? 0));
  if (extendedBytes > 0) {
    putExtendedHeader(
      head,
      0,
      `PaxHeaders.0/${asciiOnly(lastName(entry.path))}`,
      records,
      NO_DEVICE,
    );
  }
  if (map) head.set(map, mapOffset);
  const name = map ? { prefix: "", name: sparseFileName(entry.path) } : split;
  putHeader(head, extendedBytes, {
    name: name?.name ?? asciiOnly(entry.path),
    prefix: name?.prefix ?? "",
    linkName: asciiOnly(entry.linkTarget),
    mode: entry.mode & 0o7777,
    uid: entry.uid,
    gid: entry.gid,
    sizeBytes: dataSizeBytes,
    mtimeSeconds: entry.mtimeSeconds,
    device: isDevice(entry.kind) ? entry : NO_DEVICE,
    typeFlag: FLAG_OF_KIND[entry.kind],
  });
  return {
    head,
    storedRanges: stored,
    storedSizeBytes,
    paddingSizeBytes: paddedSizeBytes(storedSizeBytes) - storedSizeBytes,
  };
}

/**
 * Writes an entry's headers byte for byte as GNU tar does with `--format=posix --numeric-owner --xattrs
 * --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime`, so that a tree has the same digest whichever way it
 * is read. Not for sparse files: GNU tar includes its process id in those.
 *
 * @param entry its path begins with `./`; its xattrs are written in the given order
 * @param target may be too short, in which case nothing is written
 * @returns the length of the headers; -1 for numbers that GNU tar would write differently
 */
export function putGnuTarHead(
  entry: Omit<TarEntry, "headerOffset">,
  target: Uint8Array,
  at: number,
): number {
  const { path, linkTarget, uid, gid, mtimeSeconds } = entry;
  const sizeBytes = entry.payload?.sizeBytes ?? 0;
  const octalSeconds = Math.max(0, mtimeSeconds);
  if (!fitsOctal(sizeBytes, HEADER_FIELDS.size) || !fitsOctal(octalSeconds, HEADER_FIELDS.mtime)) {
    return -1;
  }
  const records = gnuRecords(entry);
  const extendedBytes = extendedSizeBytes(records);
  const lengthBytes = extendedBytes + TAR_BLOCK_SIZE_BYTES;
  if (at + lengthBytes > target.length) return lengthBytes;
  target.fill(0, at, at + lengthBytes);
  if (extendedBytes > 0) {
    putExtendedHeader(target, at, gnuHeaderName(path), records, undefined, octalSeconds);
  }
  putHeader(target, at + extendedBytes, {
    name: path,
    prefix: "",
    linkName: linkTarget,
    mode: entry.mode,
    uid: fitsOctal(uid, HEADER_FIELDS.uid) ? uid : 0,
    gid: fitsOctal(gid, HEADER_FIELDS.gid) ? gid : 0,
    sizeBytes,
    mtimeSeconds: octalSeconds,
    device: entry,
    typeFlag: FLAG_OF_KIND[entry.kind],
  });
  return lengthBytes;
}

/** An entry's extended records, in GNU tar's order. */
function gnuRecords(entry: Omit<TarEntry, "headerOffset">): Uint8Array {
  const { path, linkTarget, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = entry;
  const nameBytes = HEADER_FIELDS.name.lengthBytes;
  const isPathPlain = path.length <= nameBytes && isAscii(path);
  const isTimePlain = mtimeNanoseconds === 0 && mtimeSeconds >= 0;
  const isPlain = isPathPlain && isTimePlain && linkTarget.length <= nameBytes &&
    xattrs.length === 0 && fitsOctal(uid, HEADER_FIELDS.uid) && fitsOctal(gid, HEADER_FIELDS.gid);
  if (isPlain) return NO_RECORDS;
  const records = new PaxRecordWriter();
  if (linkTarget.length > nameBytes) records.add("linkpath", linkTarget);
  if (!isPathPlain) records.add("path", path);
  if (!fitsOctal(uid, HEADER_FIELDS.uid)) records.add("uid", `${uid}`);
  if (!fitsOctal(gid, HEADER_FIELDS.gid)) records.add("gid", `${gid}`);
  if (!isTimePlain) records.add("mtime", paxTime(mtimeSeconds, mtimeNanoseconds));
  for (const { name, value } of xattrs) {
    const escaped = name.replaceAll("%", "%25").replaceAll("=", "%3D");
    records.add(`SCHILY.xattr.${escaped}`, value);
  }
  return records.bytes();
}

/** `%d/PaxHeaders/%f`; the root's own name is `.`. */
function gnuHeaderName(path: ByteString): ByteString {
  const bare = path.endsWith("/") ? path.slice(0, -1) : path;
  const slash = bare.lastIndexOf("/");
  return slash < 0
    ? "./PaxHeaders/."
    : `${bare.slice(0, slash)}/PaxHeaders/${bare.slice(slash + 1)}`;
}

/** What the records depend on besides the entry. */
interface RecordNeeds {
  readonly sparseSizeBytes: number | undefined;
  readonly pathNeedsRecord: boolean;
  readonly dataSizeBytes: number;
  readonly comment: ByteString | undefined;
}

/** An entry's extended records, in a fixed order. */
function recordsOf(
  entry: Omit<TarEntry, "headerOffset">,
  { sparseSizeBytes, pathNeedsRecord, dataSizeBytes, comment }: RecordNeeds,
): Uint8Array {
  const records = new PaxRecordWriter();
  const linkNeedsRecord = entry.linkTarget.length > HEADER_FIELDS.linkName.lengthBytes ||
    !isAscii(entry.linkTarget);
  if (isRawBytes(entry.path) || isRawBytes(entry.linkTarget)) records.add("hdrcharset", "BINARY");
  if (sparseSizeBytes !== undefined) {
    records.add("GNU.sparse.major", "1");
    records.add("GNU.sparse.minor", "0");
    records.add("GNU.sparse.name", entry.path);
    records.add("GNU.sparse.realsize", `${sparseSizeBytes}`);
  } else if (pathNeedsRecord) {
    records.add("path", entry.path);
  }
  if (linkNeedsRecord) records.add("linkpath", entry.linkTarget);
  if (!fitsOctal(dataSizeBytes, HEADER_FIELDS.size)) records.add("size", `${dataSizeBytes}`);
  if (!fitsOctal(entry.uid, HEADER_FIELDS.uid)) records.add("uid", `${entry.uid}`);
  if (!fitsOctal(entry.gid, HEADER_FIELDS.gid)) records.add("gid", `${entry.gid}`);
  if (entry.mtimeNanoseconds !== 0 || !fitsOctal(entry.mtimeSeconds, HEADER_FIELDS.mtime)) {
    records.add("mtime", paxTime(entry.mtimeSeconds, entry.mtimeNanoseconds));
  }
  if (isDevice(entry.kind)) {
    if (!fitsOctal(entry.deviceMajor, HEADER_FIELDS.deviceMajor)) {
      records.add("SCHILY.devmajor", `${entry.deviceMajor}`);
    }
    if (!fitsOctal(entry.deviceMinor, HEADER_FIELDS.deviceMinor)) {
      records.add("SCHILY.devminor", `${entry.deviceMinor}`);
    }
  }
  if (comment !== undefined) records.add("comment", comment);
  else if (entry.firstLayer !== undefined && entry.firstLayer > 0) {
    records.add("comment", firstLayerComment(entry.firstLayer));
  }
  // The xattr is complete, but GNU tar and libarchive set ACLs only from text.
  for (const { name, value } of entry.xattrs) {
    const text = ACL_RECORDS.has(name) ? aclToText(value) : undefined;
    if (text !== undefined) records.add(ACL_RECORDS.get(name)!, text);
  }
  for (const xattr of entry.xattrs) {
    records.add(`SCHILY.xattr.${escapeXattrName(xattr.name)}`, xattr.value);
  }
  return records.bytes();
}

/** The padded length of an `x` header and its records; 0 without records. */
function extendedSizeBytes(records: Uint8Array): number {
  return records.length === 0 ? 0 : TAR_BLOCK_SIZE_BYTES + paddedSizeBytes(records.length);
}

/** Writes the header and records into a zeroed buffer. */
function putExtendedHeader(
  target: Uint8Array,
  base: number,
  name: ByteString,
  records: Uint8Array,
  device: HeaderBlock["device"],
  mtimeSeconds = 0,
): void {
  putHeader(target, base, {
    name,
    prefix: "",
    linkName: "",
    mode: 0o644,
    uid: 0,
    gid: 0,
    sizeBytes: records.length,
    mtimeSeconds,
    device,
    typeFlag: TYPE_FLAG.paxEntry,
  });
  target.set(records, base + TAR_BLOCK_SIZE_BYTES);
}

/**
 * The ranges of a file to store. Segments are widened to whole tar blocks of the file, since GNU tar starts every segment
 * of a sparse file on a new block; segments that then meet are merged.
 */
function storedRangesOf(payload: PayloadIndex): StoredRange[] {
  const ranges: { fileOffset: number; lengthBytes: number }[] = [];
  let last: { fileOffset: number; lengthBytes: number } | undefined;
  for (const segment of payload.segments) {
    if (segment.lengthBytes === 0) continue;
    const start = alignDown(segment.fileOffset, TAR_BLOCK_SIZE_BYTES);
    const end = Math.min(
      paddedSizeBytes(segment.fileOffset + segment.lengthBytes),
      payload.sizeBytes,
    );
    if (last && start <= last.fileOffset + last.lengthBytes) {
      last.lengthBytes = end - last.fileOffset;
    } else {
      last = { fileOffset: start, lengthBytes: end - start };
      ranges.push(last);
    }
  }
  return ranges;
}

/** The GNU.sparse 1.0 map: decimal lines with the count, then each range's offset and length; padded. */
function sparseMap(ranges: readonly StoredRange[], sizeBytes: number): Uint8Array {
  const numbers = ranges.flatMap((range) => [range.fileOffset, range.lengthBytes]);
  // As in GNU tar, an empty range marks the end of a file that ends in a hole.
  const last = ranges.at(-1);
  if (!last || last.fileOffset + last.lengthBytes < sizeBytes) numbers.push(sizeBytes, 0);
  const text = `${[numbers.length / 2, ...numbers].join("\n")}\n`;
  const bytes = new Uint8Array(paddedSizeBytes(text.length));
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Formats a time for PAX: the real value, so half a second before 1970 is `-0.5`. */
function paxTime(seconds: number, nanoseconds: number): string {
  const backwards = seconds < 0 && nanoseconds > 0;
  const whole = backwards ? -(seconds + 1) : Math.abs(seconds);
  const fraction = backwards ? 1_000_000_000 - nanoseconds : nanoseconds;
  const digits = fraction.toString().padStart(9, "0").replace(/0+$/, "");
  return `${seconds < 0 ? "-" : ""}${whole}${digits === "" ? "" : `.${digits}`}`;
}

/** Splits a path into the prefix and name fields; undefined if it does not fit. */
function splitName(path: ByteString): { prefix: ByteString; name: ByteString } | undefined {
  if (!isAscii(path)) return undefined;
  if (path.length <= HEADER_FIELDS.name.lengthBytes) return { prefix: "", name: path };
  // The first slash that leaves a short enough name. Prefix and name must both be non-empty.
  const from = Math.max(1, path.length - HEADER_FIELDS.name.lengthBytes - 1);
  const slash = path.indexOf("/", from);
  if (slash < 0 || slash > USTAR_PREFIX.lengthBytes || slash === path.length - 1) return undefined;
  return { prefix: path.slice(0, slash), name: path.slice(slash + 1) };
}

/** A sparse file's name for readers without sparse support: as in GNU tar, with 0 for the process id. */
function sparseFileName(path: ByteString): ByteString {
  return asciiOnly(`GNUSparseFile.0/${lastName(path)}`);
}

function lastName(path: ByteString): ByteString {
  return path.split("/").findLast((name) => name !== "") ?? "";
}

/**
 * GNU tar's escapes for an xattr's name in a PAX key, used only where necessary, since other readers do not know them:
 * `%3D` for an equals sign, which is not allowed there, and `%25` for a percent sign that would look like an escape.
 */
function escapeXattrName(name: ByteString): ByteString {
  return name.replace(/%(?=25|3D)/g, "%25").replaceAll("=", "%3D");
}

function isDevice(kind: TarEntryKind): boolean {
  return kind === "characterDevice" || kind === "blockDevice";
}

function isRawBytes(name: ByteString): boolean {
  return !isAscii(name) && textFromByteString(name) === undefined;
}

function isAscii(name: ByteString): boolean {
  // deno-lint-ignore no-control-regex
  return !/[^\x00-\x7f]/.test(name);
}

function asciiOnly(name: ByteString): ByteString {
  // deno-lint-ignore no-control-regex
  return name.replace(/[^\x00-\x7f]/g, "_");
}

/** Whether `value` fits a field of octal digits with a terminating NUL. */
export function fitsOctal(value: number, field: HeaderField): boolean {
  return value >= 0 && value < 8 ** (field.lengthBytes - 1);
}

/**
 * Writes a number: octal digits and a NUL if it fits, otherwise base-256 (first byte 0x80, or 0xff for a negative number,
 * then two's complement). A number that does not fit also gets a PAX record; base-256 keeps readers without PAX in step.
 */
export function putNumber(
  block: Uint8Array,
  field: HeaderField,
  value: number,
  base = 0,
): void {
  const offset = base + field.offset;
  const { lengthBytes } = field;
  let rest = value;
  if (fitsOctal(value, field)) {
    for (let i = lengthBytes - 2; i >= 0; i--) {
      block[offset + i] = DIGIT_0 + rest % 8;
      rest = Math.floor(rest / 8);
    }
    return;
  }
  for (let i = lengthBytes - 1; i > 0; i--) {
    const low = ((rest % 256) + 256) % 256;
    block[offset + i] = low;
    rest = (rest - low) / 256;
  }
  block[offset] = value < 0 ? 0xff : 0x80;
}

/** Writes the bytes of a byte string, truncated at the end of the field. */
export function putName(
  block: Uint8Array,
  field: HeaderField,
  name: ByteString,
  base = 0,
): void {
  const count = Math.min(name.length, field.lengthBytes);
  for (let i = 0; i < count; i++) block[base + field.offset + i] = name.charCodeAt(i);
}

/** The content of a header block. */
interface HeaderBlock {
  readonly name: ByteString;
  readonly prefix: ByteString;
  readonly linkName: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  readonly mtimeSeconds: number;
  /** Undefined leaves the device fields empty. */
  readonly device: { readonly deviceMajor: number; readonly deviceMinor: number } | undefined;
  readonly typeFlag: number;
}

const NO_DEVICE = { deviceMajor: 0, deviceMinor: 0 };

/** Writes a header block into a zeroed buffer. */
function putHeader(target: Uint8Array, base: number, header: HeaderBlock): void {
  const { device } = header;
  putName(target, HEADER_FIELDS.name, header.name, base);
  putNumber(target, HEADER_FIELDS.mode, header.mode, base);
  putNumber(target, HEADER_FIELDS.uid, header.uid, base);
  putNumber(target, HEADER_FIELDS.gid, header.gid, base);
  putNumber(target, HEADER_FIELDS.size, header.sizeBytes, base);
  putNumber(target, HEADER_FIELDS.mtime, header.mtimeSeconds, base);
  target[base + HEADER_FIELDS.typeFlag.offset] = header.typeFlag;
  putName(target, HEADER_FIELDS.linkName, header.linkName, base);
  if (device !== undefined) {
    putNumber(target, HEADER_FIELDS.deviceMajor, device.deviceMajor, base);
    putNumber(target, HEADER_FIELDS.deviceMinor, device.deviceMinor, base);
  }
  putName(target, USTAR_PREFIX, header.prefix, base);
  sealHeader(target, base);
}

/** Writes the magic, then the checksum; call it last. */
export function sealHeader(target: Uint8Array, base = 0): void {
  putName(target, HEADER_FIELDS.magic, "ustar\x0000", base);
  const { offset } = HEADER_FIELDS.checksum;
  // The field itself counts as spaces.
  let sum = 8 * 0x20;
  for (const [start, end, isText] of SUMMED_RANGES) {
    for (let at = base + start; at < base + end; at++) {
      const byte = target[at]!;
      if (byte === 0 && isText) break;
      sum += byte;
    }
  }
  // Six digits, a NUL and a space.
  putNumber(target, { offset, lengthBytes: 7 }, sum, base);
  target[base + offset + 6] = 0;
  target[base + offset + 7] = 0x20;
}

/**
 * The ranges that may be nonzero, and whether each ends at its first zero. Speed matters: there may be a million headers.
 */
const SUMMED_RANGES: readonly (readonly [start: number, end: number, isText: boolean])[] = [
  [HEADER_FIELDS.name.offset, HEADER_FIELDS.mode.offset, true],
  [HEADER_FIELDS.mode.offset, HEADER_FIELDS.checksum.offset, false],
  [HEADER_FIELDS.typeFlag.offset, HEADER_FIELDS.magic.offset, true],
  [HEADER_FIELDS.magic.offset, HEADER_FIELDS.magic.offset + 8, false],
  [HEADER_FIELDS.deviceMajor.offset, USTAR_PREFIX.offset, false],
  [USTAR_PREFIX.offset, TAR_BLOCK_SIZE_BYTES, true],
];

/** Collects `LENGTH KEY=VALUE\n` records. */
export class PaxRecordWriter {
  #text: ByteString = "";

  /** Adds a record. The key must not contain `=` or NUL; the value may be any bytes. */
  add(key: ByteString, value: ByteString | Uint8Array): void {
    const text = typeof value === "string" ? value : byteStringFromBytes(value);
    const restSizeBytes = key.length + text.length + 3; // the space, the '=' and the newline
    // The length includes its own digits, which may add one more digit.
    let lengthBytes = restSizeBytes + `${restSizeBytes}`.length;
    lengthBytes = restSizeBytes + `${lengthBytes}`.length;
    this.#text += `${lengthBytes} ${key}=${text}\n`;
  }

  /** All records so far. */
  bytes(): Uint8Array {
    return this.#text === "" ? NO_RECORDS : Buffer.from(this.#text, "latin1");
  }
}

const NO_RECORDS = new Uint8Array();
