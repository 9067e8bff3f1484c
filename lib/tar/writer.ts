/**
 * Writes tar entries in the POSIX PAX format: a plain ustar header when everything fits one, with an extended header
 * before it when not. Pure functions, and the same entry always gives the same bytes.
 *
 * Kept where the format has room for it: names as bytes (with `hdrcharset=BINARY` when they are not UTF-8), times to the
 * nanosecond and before 1970, any uid and gid, xattrs as `SCHILY.xattr.*` (ACLs too, in the
 * system call's format, and once more as text), and
 * sparse files as GNU.sparse 1.0.
 *
 * @module
 */
import { alignDown } from "../bytes/arithmetic.ts";
import { bytesFromByteString, type ByteString, textFromByteString } from "../bytes/byte_string.ts";
import { invariant } from "../errors.ts";
import type { PayloadIndex } from "../model/payload.ts";
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
  /** Where in the file. */
  readonly fileOffset: number;
  /** How many bytes. */
  readonly lengthBytes: number;
}

/** What to write for one entry: the head, then the ranges back to back, then zeros. */
export interface EncodedTarEntry {
  /** All header blocks, and the sparse map when there is one: whole tar blocks. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** The parts of the file to store, ascending. A part may lie partly in a hole; zeros are stored for that. */
  readonly storedRanges: readonly StoredRange[];
  /** The sum of the ranges. */
  readonly storedSizeBytes: number;
  /** Zeros that fill the last block, 0 to 511. */
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
 * The bytes of an entry up to its payload, and what payload has to follow. Of the payload index only `sizeBytes` and
 * `segments` matter: a file whose segments leave holes is written sparse.
 *
 * @param comment what readers pass over
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
  const extended = records.length === 0
    ? undefined
    : extendedHeader(`PaxHeaders.0/${asciiOnly(lastName(entry.path))}`, records);

  const mapOffset = (extended?.length ?? 0) + TAR_BLOCK_SIZE_BYTES;
  const head = new Uint8Array(mapOffset + (map?.length ?? 0));
  if (extended) head.set(extended);
  if (map) head.set(map, mapOffset);
  const block = head.subarray(mapOffset - TAR_BLOCK_SIZE_BYTES, mapOffset);
  const name = map ? { prefix: "", name: sparseFileName(entry.path) } : split;
  putName(block, HEADER_FIELDS.name, name?.name ?? asciiOnly(entry.path));
  putName(block, USTAR_PREFIX, name?.prefix ?? "");
  putName(block, HEADER_FIELDS.linkName, asciiOnly(entry.linkTarget));
  putNumber(block, HEADER_FIELDS.mode, entry.mode & 0o7777);
  putNumber(block, HEADER_FIELDS.uid, entry.uid);
  putNumber(block, HEADER_FIELDS.gid, entry.gid);
  putNumber(block, HEADER_FIELDS.size, dataSizeBytes);
  putNumber(block, HEADER_FIELDS.mtime, entry.mtimeSeconds);
  putNumber(block, HEADER_FIELDS.deviceMajor, isDevice(entry.kind) ? entry.deviceMajor : 0);
  putNumber(block, HEADER_FIELDS.deviceMinor, isDevice(entry.kind) ? entry.deviceMinor : 0);
  block[HEADER_FIELDS.typeFlag.offset] = FLAG_OF_KIND[entry.kind];
  sealHeader(block);
  return {
    head,
    storedRanges: stored,
    storedSizeBytes,
    paddingSizeBytes: paddedSizeBytes(storedSizeBytes) - storedSizeBytes,
  };
}

/**
 * The headers of an entry as GNU tar writes them with `--format=posix --numeric-owner --xattrs
 * --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime`: byte for byte, so that a tree has the same digest
 * whoever reads it. Not for sparse files: there GNU tar puts the number of its process in.
 *
 * @param entry its path begins with `./`; its xattrs are written in their order
 * @param target may be too short: nothing is written then
 * @returns how long they are; -1 for numbers that GNU tar would write in other ways
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
  const extended = records && extendedHeader(gnuHeaderName(path), records, octalSeconds);
  const lengthBytes = (extended?.length ?? 0) + TAR_BLOCK_SIZE_BYTES;
  if (at + lengthBytes > target.length) return lengthBytes;
  if (extended) target.set(extended, at);
  const base = at + lengthBytes - TAR_BLOCK_SIZE_BYTES;
  target.fill(0, base, base + TAR_BLOCK_SIZE_BYTES);
  putName(target, HEADER_FIELDS.name, path, base);
  putName(target, HEADER_FIELDS.linkName, linkTarget, base);
  putNumber(target, HEADER_FIELDS.mode, entry.mode, base);
  putNumber(target, HEADER_FIELDS.uid, fitsOctal(uid, HEADER_FIELDS.uid) ? uid : 0, base);
  putNumber(target, HEADER_FIELDS.gid, fitsOctal(gid, HEADER_FIELDS.gid) ? gid : 0, base);
  putNumber(target, HEADER_FIELDS.size, sizeBytes, base);
  putNumber(target, HEADER_FIELDS.mtime, octalSeconds, base);
  putNumber(target, HEADER_FIELDS.deviceMajor, entry.deviceMajor, base);
  putNumber(target, HEADER_FIELDS.deviceMinor, entry.deviceMinor, base);
  target[base + HEADER_FIELDS.typeFlag.offset] = FLAG_OF_KIND[entry.kind];
  sealHeader(target, base);
  return lengthBytes;
}

/** The extended records of an entry, in GNU tar's order; undefined for none. */
function gnuRecords(entry: Omit<TarEntry, "headerOffset">): Uint8Array | undefined {
  const { path, linkTarget, uid, gid, mtimeSeconds, mtimeNanoseconds, xattrs } = entry;
  const nameBytes = HEADER_FIELDS.name.lengthBytes;
  const isPathPlain = path.length <= nameBytes && isAscii(path);
  const isTimePlain = mtimeNanoseconds === 0 && mtimeSeconds >= 0;
  const isPlain = isPathPlain && isTimePlain && linkTarget.length <= nameBytes &&
    xattrs.length === 0 && fitsOctal(uid, HEADER_FIELDS.uid) && fitsOctal(gid, HEADER_FIELDS.gid);
  if (isPlain) return undefined;
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

/** What the records depend on beside the entry. */
interface RecordNeeds {
  readonly sparseSizeBytes: number | undefined;
  readonly pathNeedsRecord: boolean;
  readonly dataSizeBytes: number;
  readonly comment: ByteString | undefined;
}

/** The extended records of an entry, in a fixed order. */
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
  // The xattr says it all, but GNU tar and libarchive set ACLs only from their text.
  for (const { name, value } of entry.xattrs) {
    const text = ACL_RECORDS.has(name) ? aclToText(value) : undefined;
    if (text !== undefined) records.add(ACL_RECORDS.get(name)!, text);
  }
  for (const xattr of entry.xattrs) {
    records.add(`SCHILY.xattr.${escapeXattrName(xattr.name)}`, xattr.value);
  }
  return records.bytes();
}

/** An `x` header and its records, padded. GNU's has the entry's time, and no device. */
function extendedHeader(
  name: ByteString,
  records: Uint8Array,
  gnuMtimeSeconds?: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(TAR_BLOCK_SIZE_BYTES + paddedSizeBytes(records.length));
  const block = bytes.subarray(0, TAR_BLOCK_SIZE_BYTES);
  putName(block, HEADER_FIELDS.name, name);
  putNumber(block, HEADER_FIELDS.mode, 0o644);
  putNumber(block, HEADER_FIELDS.uid, 0);
  putNumber(block, HEADER_FIELDS.gid, 0);
  putNumber(block, HEADER_FIELDS.size, records.length);
  putNumber(block, HEADER_FIELDS.mtime, gnuMtimeSeconds ?? 0);
  if (gnuMtimeSeconds === undefined) {
    putNumber(block, HEADER_FIELDS.deviceMajor, 0);
    putNumber(block, HEADER_FIELDS.deviceMinor, 0);
  }
  block[HEADER_FIELDS.typeFlag.offset] = TYPE_FLAG.paxEntry;
  sealHeader(block);
  bytes.set(records, TAR_BLOCK_SIZE_BYTES);
  return bytes;
}

/**
 * What of a file to store. Segments are widened to whole tar blocks of the file, since GNU tar starts every segment of
 * a sparse file on a block of its own; where they meet they become one.
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

/** The map of GNU.sparse 1.0: decimal lines, the count and then offset and length of each range, padded. */
function sparseMap(ranges: readonly StoredRange[], sizeBytes: number): Uint8Array {
  const numbers = ranges.flatMap((range) => [range.fileOffset, range.lengthBytes]);
  // As GNU tar: an empty range marks the end of a file that ends in a hole.
  const last = ranges.at(-1);
  if (!last || last.fileOffset + last.lengthBytes < sizeBytes) numbers.push(sizeBytes, 0);
  const text = `${[numbers.length / 2, ...numbers].join("\n")}\n`;
  const bytes = new Uint8Array(paddedSizeBytes(text.length));
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** A time as PAX writes it: the real value, so half a second before 1970 is `-0.5`. */
function paxTime(seconds: number, nanoseconds: number): string {
  const backwards = seconds < 0 && nanoseconds > 0;
  const whole = backwards ? -(seconds + 1) : Math.abs(seconds);
  const fraction = backwards ? 1_000_000_000 - nanoseconds : nanoseconds;
  const digits = fraction.toString().padStart(9, "0").replace(/0+$/, "");
  return `${seconds < 0 ? "-" : ""}${whole}${digits === "" ? "" : `.${digits}`}`;
}

/** How a path fits the name and prefix fields; undefined when it does not. */
function splitName(path: ByteString): { prefix: ByteString; name: ByteString } | undefined {
  if (!isAscii(path)) return undefined;
  if (path.length <= HEADER_FIELDS.name.lengthBytes) return { prefix: "", name: path };
  // The first slash that leaves a name short enough. Prefix and name must both be non-empty.
  const from = Math.max(1, path.length - HEADER_FIELDS.name.lengthBytes - 1);
  const slash = path.indexOf("/", from);
  if (slash < 0 || slash > USTAR_PREFIX.lengthBytes || slash === path.length - 1) return undefined;
  return { prefix: path.slice(0, slash), name: path.slice(slash + 1) };
}

/** The name of a sparse file for readers that know nothing of them: as GNU tar, with 0 for the process id. */
function sparseFileName(path: ByteString): ByteString {
  return asciiOnly(`GNUSparseFile.0/${lastName(path)}`);
}

function lastName(path: ByteString): ByteString {
  return path.split("/").findLast((name) => name !== "") ?? "";
}

/**
 * GNU tar's escapes for an xattr's name in a PAX key, as sparingly as can be, since other readers do not know them: `%3D`
 * for an equals sign, which could not stand there, and `%25` for a percent sign that would be taken for an escape.
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

/** Whether `value` fits a field of octal digits that ends in a NUL. */
export function fitsOctal(value: number, field: HeaderField): boolean {
  return value >= 0 && value < 8 ** (field.lengthBytes - 1);
}

/**
 * Writes a number: octal digits and a NUL when it fits, else base-256 (first byte 0x80, or 0xff for a negative number,
 * then two's complement). A number that does not fit gets a PAX record too; base-256 keeps readers without PAX in step.
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

/** Writes the bytes of a byte string, cut at the end of the field. */
export function putName(
  block: Uint8Array,
  field: HeaderField,
  name: ByteString,
  base = 0,
): void {
  const count = Math.min(name.length, field.lengthBytes);
  for (let i = 0; i < count; i++) block[base + field.offset + i] = name.charCodeAt(i);
}

/** Writes the magic, then the checksum: call it last. */
export function sealHeader(block: Uint8Array, base = 0): void {
  putName(block, HEADER_FIELDS.magic, "ustar\x0000", base);
  const { offset } = HEADER_FIELDS.checksum;
  putName(block, HEADER_FIELDS.checksum, "        ", base);
  let sum = 0;
  for (let i = base; i < base + TAR_BLOCK_SIZE_BYTES; i++) sum += block[i]!;
  // Six digits, and a space behind their NUL.
  putNumber(block, { offset, lengthBytes: 7 }, sum, base);
  block[base + offset + 6] = 0;
}

/** Collects `LENGTH KEY=VALUE\n` records. */
export class PaxRecordWriter {
  readonly #parts: Uint8Array[] = [];
  #sizeBytes = 0;

  /** Adds a record. The key holds no `=` and no NUL; a value may be any bytes. */
  add(key: ByteString, value: ByteString | Uint8Array): void {
    const valueBytes = typeof value === "string" ? bytesFromByteString(value) : value;
    const restSizeBytes = key.length + valueBytes.length + 3; // the space, the '=' and the newline
    // The length counts its own digits, and they may become one more by that.
    let lengthBytes = restSizeBytes + `${restSizeBytes}`.length;
    lengthBytes = restSizeBytes + `${lengthBytes}`.length;
    const record = new Uint8Array(lengthBytes);
    const start = bytesFromByteString(`${lengthBytes} ${key}=`);
    record.set(start);
    record.set(valueBytes, start.length);
    record[lengthBytes - 1] = 0x0a;
    this.#parts.push(record);
    this.#sizeBytes += lengthBytes;
  }

  /** All records so far. */
  bytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#sizeBytes);
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}
