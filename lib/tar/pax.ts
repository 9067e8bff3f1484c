/**
 * PAX records, and what an exported tar says about its image in `comment` records, which every tool ignores, like those of
 * git-archive.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { bytesFromByteString, type ByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import type { Xattr } from "../model/node.ts";
import { aclFromText, type AclTextResult } from "./acl.ts";
import {
  describeLocation,
  parseDecimal,
  quoted,
  readPaxTime,
  tarFault,
  type TarLocation,
  type TarTime,
} from "./header.ts";

const UUID = /^blessfs uuid ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;
const FIRST_LAYER = /^blessfs first-layer ([1-9][0-9]{0,5})$/;

/** Longer comments are ignored. */
export const COMMENT_BYTES_MAX = 256;

/** The comment on the first entry, which names the image's UUID. */
export function uuidComment(uuid: string): ByteString {
  return `blessfs uuid ${uuid}`;
}

/** The UUID named in a comment, in lower case; undefined for any other comment. */
export function uuidOfComment(comment: ByteString | undefined): string | undefined {
  return UUID.exec(comment ?? "")?.[1];
}

/** The comment of an entry whose payload is stored after that of entries with later paths. */
export function firstLayerComment(firstLayer: number): ByteString {
  return `blessfs first-layer ${firstLayer}`;
}

/** The number in an entry's comment; undefined for any other comment. */
export function firstLayerOfComment(comment: ByteString | undefined): number | undefined {
  if (comment === undefined) return undefined;
  const digits = FIRST_LAYER.exec(comment)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The GNU.sparse records, unparsed. */
export interface PaxSparseRecords {
  major: ByteString;
  minor: ByteString;
  name: ByteString;
  /** GNU.sparse.size (0.x) or, if it is missing, GNU.sparse.realsize (1.0). */
  size: ByteString;
  realSize: ByteString;
  numBlocks: ByteString;
  map: ByteString;
  /** Version 0.0: alternating offsets and lengths. */
  readonly pairs: ByteString[];
}

/** The content of an extended header. Undefined means a missing or empty value, which POSIX treats alike. */
export class PaxRecords {
  path: ByteString | undefined = undefined;
  linkPath: ByteString | undefined = undefined;
  sizeBytes: number | undefined = undefined;
  uid: number | undefined = undefined;
  gid: number | undefined = undefined;
  mtime: TarTime | undefined = undefined;
  deviceMajor: number | undefined = undefined;
  deviceMinor: number | undefined = undefined;
  sparse: PaxSparseRecords | undefined = undefined;
  /** `SCHILY.xattr.*`: names to bytes. An empty value is an xattr with an empty value. */
  schilyXattrs: Map<ByteString, Uint8Array> | undefined = undefined;
  /** `LIBARCHIVE.xattr.*`: names as written (percent-encoded) to values as written (base64). */
  libarchiveXattrs: Map<ByteString, ByteString> | undefined = undefined;
  /** `RHT.security.selinux`: a label without its terminating NUL. */
  selinuxLabel: ByteString | undefined = undefined;
  aclAccess: ByteString | undefined = undefined;
  aclDefault: ByteString | undefined = undefined;
  comment: ByteString | undefined = undefined;
  /** Keys that were not used although they describe the file. */
  dropped: ByteString[] | undefined = undefined;
  /** A key that marks the data as something other than a plain file's. */
  unsupported: ByteString | undefined = undefined;
}

const SCHILY_XATTR = "SCHILY.xattr.";
const LIBARCHIVE_XATTR = "LIBARCHIVE.xattr.";
const NEWLINE = 0x0a;
const SPACE = 0x20;
const EQUALS = 0x3d;
/** Longer length fields are rejected; leading zeros are allowed. */
const LENGTH_DIGITS = 20;

/**
 * Reads the records of an `x` header in `bytes[start, end)`. A repeated key replaces earlier values. Errors: InputError.
 */
export function readPaxRecords(
  bytes: Uint8Array,
  location: TarLocation,
  start = 0,
  end = bytes.length,
): PaxRecords {
  const records = new PaxRecords();
  const take = (key: ByteString, valueStart: number, valueEnd: number) =>
    takeRecord(records, { key, bytes, start: valueStart, end: valueEnd, location });
  forEachPaxRecord(bytes, location, take, start, end);
  return records;
}

/**
 * Calls `visit` with each key and the position of its value in the records in `bytes[dataStart, dataEnd)`. Throws an
 * InputError for a malformed record.
 */
export function forEachPaxRecord(
  bytes: Uint8Array,
  location: TarLocation,
  visit: (key: ByteString, start: number, end: number) => void,
  dataStart = 0,
  dataEnd = bytes.length,
): void {
  let at = dataStart;
  while (at < dataEnd) {
    const start = at;
    let lengthBytes = 0;
    while (at < dataEnd && bytes[at]! >= 0x30 && bytes[at]! <= 0x39) {
      lengthBytes = lengthBytes * 10 + bytes[at]! - 0x30;
      at++;
    }
    const end = start + lengthBytes;
    const recordAt = start - dataStart;
    if (at === start || at - start > LENGTH_DIGITS || at === dataEnd || bytes[at] !== SPACE) {
      throw recordFault(location, recordAt, "does not start with its length and a space");
    }
    if (end > dataEnd || end <= at + 1) {
      throw recordFault(
        location,
        recordAt,
        `says it is ${lengthBytes} bytes long, of ${dataEnd - start}`,
      );
    }
    if (bytes[end - 1] !== NEWLINE) {
      throw recordFault(location, recordAt, "does not end in a newline");
    }
    const keyStart = at + 1;
    let equals = keyStart;
    while (equals < end - 1 && bytes[equals] !== EQUALS) equals++;
    if (equals === keyStart || equals === end - 1) {
      throw recordFault(location, recordAt, "has no key before an equals sign");
    }
    const key = keyAt(bytes, keyStart, equals);
    if (key.includes("\0")) throw recordFault(location, recordAt, "has a NUL in its key");
    visit(key, equals + 1, end - 1);
    at = end;
  }
}

/** The key of a record in every GNU tar entry, which is not decoded anew each time. */
const USUAL_KEY = "mtime";

function keyAt(bytes: Uint8Array, start: number, end: number): ByteString {
  let same = 0;
  while (same < USUAL_KEY.length && bytes[start + same] === USUAL_KEY.charCodeAt(same)) same++;
  const isUsual = same === USUAL_KEY.length && end - start === same;
  return isUsual ? USUAL_KEY : byteStringFromBytes(bytes, start, end);
}

/** A record being read: its key and the position of its value. */
interface RawRecord {
  readonly key: ByteString;
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly location: TarLocation;
}

function takeRecord(records: PaxRecords, record: RawRecord): void {
  const { key, bytes, start, end } = record;
  switch (key) {
    case "mtime":
      records.mtime = timeValue(record);
      return;
    case "atime":
    case "ctime":
      return; // the most common unused keys
    case "comment":
      if (end - start <= COMMENT_BYTES_MAX) records.comment = valueOf(record);
      return;
    case "path":
      records.path = textValue(record);
      return;
    case "linkpath":
      records.linkPath = textValue(record);
      return;
    case "uname":
    case "gname":
      textValue(record);
      return;
  }
  const number = NUMBERS.get(key);
  const text = TEXTS.get(key);
  if (number !== undefined) records[number] = numberValue(record);
  else if (text !== undefined) records[text] = valueOf(record);
  else if (key.startsWith(SCHILY_XATTR)) {
    const name = unescapeXattrName(key.slice(SCHILY_XATTR.length));
    // Always copy: slicing a Buffer gives a view of a chunk that will be reused.
    const value = new Uint8Array(bytes.subarray(start, end));
    (records.schilyXattrs ??= new Map()).set(name, value);
  } else if (key.startsWith(LIBARCHIVE_XATTR)) {
    const name = key.slice(LIBARCHIVE_XATTR.length);
    (records.libarchiveXattrs ??= new Map()).set(name, valueOf(record));
  } else if (key.startsWith("GNU.sparse.")) takeSparse(records, record);
  else if (start === end) return;
  else if (key === "SCHILY.acl.ace" || key === "SCHILY.fflags") (records.dropped ??= []).push(key);
  else if (isUnsupportedKey(key)) records.unsupported = key;
  // Unknown keys are ignored, as POSIX requires.
}

const NUMBERS: ReadonlyMap<
  ByteString,
  "sizeBytes" | "uid" | "gid" | "deviceMajor" | "deviceMinor"
> = new Map([
  ["size", "sizeBytes"],
  ["uid", "uid"],
  ["gid", "gid"],
  ["SCHILY.devmajor", "deviceMajor"],
  ["SCHILY.devminor", "deviceMinor"],
]);

const TEXTS: ReadonlyMap<ByteString, "aclAccess" | "aclDefault" | "selinuxLabel"> = new Map([
  ["SCHILY.acl.access", "aclAccess"],
  ["SCHILY.acl.default", "aclDefault"],
  ["RHT.security.selinux", "selinuxLabel"],
]);

/** Keys that mean the data is not simply the file's content: multi-volume files, star's sparse files. */
export function isUnsupportedKey(key: ByteString): boolean {
  return key === "GNU.volume.filename" || key === "GNU.volume.offset" ||
    key === "SCHILY.realsize" || key === "SCHILY.offset";
}

const SPARSE_TEXTS: ReadonlyMap<ByteString, Exclude<keyof PaxSparseRecords, "pairs">> = new Map([
  ["GNU.sparse.major", "major"],
  ["GNU.sparse.minor", "minor"],
  ["GNU.sparse.name", "name"],
  ["GNU.sparse.size", "size"],
  ["GNU.sparse.realsize", "realSize"],
  ["GNU.sparse.numblocks", "numBlocks"],
  ["GNU.sparse.map", "map"],
]);
const SPARSE_PAIR = ["GNU.sparse.offset", "GNU.sparse.numbytes"] as const;

function takeSparse(records: PaxRecords, record: RawRecord): void {
  const { key, location } = record;
  const value = valueOf(record);
  const sparse = records.sparse ??= {
    major: "",
    minor: "",
    name: "",
    size: "",
    realSize: "",
    numBlocks: "",
    map: "",
    pairs: [],
  };
  const text = SPARSE_TEXTS.get(key);
  if (text !== undefined) {
    if (text === "name" && value.includes("\0")) throw valueFault(record, "text without a NUL");
    sparse[text] = value;
  } else if (key === SPARSE_PAIR[0] || key === SPARSE_PAIR[1]) {
    const wanted = SPARSE_PAIR[sparse.pairs.length % 2];
    if (key !== wanted) {
      throw tarFault(location, `a ${key} record stands where ${wanted} is wanted`);
    }
    sparse.pairs.push(value);
  }
}

function valueOf({ bytes, start, end }: RawRecord): ByteString {
  return byteStringFromBytes(bytes, start, end);
}

function textValue(record: RawRecord): ByteString | undefined {
  const value = valueOf(record);
  if (value.includes("\0")) throw valueFault(record, "text without a NUL");
  return value === "" ? undefined : value;
}

function numberValue(record: RawRecord): number | undefined {
  if (record.start === record.end) return undefined;
  const value = parseDecimal(valueOf(record));
  if (Number.isSafeInteger(value)) return value;
  throw valueFault(record, "a decimal number below 2^53");
}

function timeValue(record: RawRecord): TarTime | undefined {
  const { bytes, start, end } = record;
  if (start === end) return undefined;
  const time = readPaxTime(bytes, start, end);
  if (time) return time;
  throw valueFault(record, "decimal seconds below 2^53");
}

/** Undoes GNU tar's escapes in the keys of xattrs: `%3D` for an equals sign and `%25` for a percent sign, nothing else. */
function unescapeXattrName(name: ByteString): ByteString {
  return name.includes("%")
    ? name.replace(/%(3D|25)/g, (_, code) => (code === "3D" ? "=" : "%"))
    : name;
}

function recordFault(location: TarLocation, at: number, why: string): Error {
  return tarFault(location, `the PAX record at byte ${at} of its extended header ${why}`, {
    recordOffset: at,
  });
}

function valueFault(record: RawRecord, wanted: string): Error {
  const [key, value] = [quoted(record.key), quoted(valueOf(record))];
  return tarFault(record.location, `the PAX record ${key} is ${value}; wanted ${wanted}`);
}

/** Receives reports of what the reader dropped or changed; `Warnings.add` fits. */
export type WarnCallback = (kind: string, what: string, why: string) => void;

/** What an entry's records say in addition to its header. */
export interface PaxAttributes {
  /** Sorted by name in byte order; names are unique. */
  readonly xattrs: readonly Xattr[];
  /** The mode's permissions according to an access ACL's text; undefined if there is none. */
  readonly permissions: number | undefined;
}

const NONE: PaxAttributes = { xattrs: [], permissions: undefined };
const ACCESS_ACL = "system.posix_acl_access";
const DEFAULT_ACL = "system.posix_acl_default";

/**
 * All xattrs. If several records set the same one, SCHILY.xattr takes precedence over LIBARCHIVE.xattr, and both over
 * SCHILY.acl and RHT.security.selinux. The text of an access ACL also sets the permissions, as the kernel does when tar(1)
 * applies it: bsdtar writes a mode whose group bits are not the ACL's mask. Errors: InputError.
 */
export function paxAttributes(
  records: PaxRecords | undefined,
  location: TarLocation,
  warn: WarnCallback,
): PaxAttributes {
  if (
    records === undefined || (!records.schilyXattrs && !records.libarchiveXattrs &&
      !records.aclAccess && !records.aclDefault && !records.selinuxLabel)
  ) return NONE;
  const values = new Map<ByteString, Uint8Array>(records.schilyXattrs);
  for (const [key, text] of records.libarchiveXattrs ?? []) {
    const name = decodePercent(key);
    if (!values.has(name)) values.set(name, decodeBase64(key, text, location));
  }
  if (records.selinuxLabel && !values.has("security.selinux")) {
    // libselinux stores the label with its NUL.
    values.set("security.selinux", bytesFromByteString(`${records.selinuxLabel}\0`));
  }
  const access = values.has(ACCESS_ACL) ? undefined : readAcl(records.aclAccess, location, warn);
  // An access ACL with only the three base entries duplicates the mode; the kernel does not keep one either.
  if (access && !access.isMinimal) values.set(ACCESS_ACL, access.value);
  const fallback = values.has(DEFAULT_ACL)
    ? undefined
    : readAcl(records.aclDefault, location, warn);
  if (fallback) values.set(DEFAULT_ACL, fallback.value);
  return { xattrs: sortedXattrs(values, location), permissions: access?.permissions };
}

function sortedXattrs(values: ReadonlyMap<ByteString, Uint8Array>, location: TarLocation): Xattr[] {
  for (const name of values.keys()) {
    if (name === "") throw tarFault(location, "an xattr has no name");
    if (name.includes("\0")) {
      throw tarFault(location, `the xattr ${quoted(name)} has a NUL in its name`);
    }
  }
  return [...values].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => ({ name, value }));
}

/** Reads an ACL's text; undefined if there is none, or if it is dropped with a warning. */
function readAcl(
  text: ByteString | undefined,
  location: TarLocation,
  warn: WarnCallback,
): Extract<AclTextResult, { kind: "acl" }> | undefined {
  const acl = aclFromText(text ?? "");
  switch (acl.kind) {
    case "acl":
      return acl;
    case "empty":
      return undefined;
    case "unknownName":
      warn(
        "aclName",
        describeLocation(location),
        `its ACL is dropped: it gives ${quoted(acl.name)} by name, with no number`,
      );
      return undefined;
    case "invalid":
      warn("aclInvalid", describeLocation(location), `its ACL is dropped: ${acl.why}`);
      return undefined;
  }
}

/** The names in LIBARCHIVE.xattr are percent-encoded; a percent sign not followed by two hex digits is literal. */
function decodePercent(name: ByteString): ByteString {
  return name.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** Decodes base64 with or without padding. Line breaks, which base64(1) writes, are skipped (RFC 2045, section 6.8). */
function decodeBase64(key: ByteString, broken: ByteString, location: TarLocation): Uint8Array {
  const text = broken.replace(/[\r\n]/g, "");
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const digits = text.slice(0, text.length - padding);
  const isPadded = padding === 0 || text.length % 4 === 0;
  if (!isPadded || digits.length % 4 === 1 || !/^[A-Za-z0-9+/]*$/.test(digits)) {
    throw tarFault(location, `the PAX record ${quoted(`LIBARCHIVE.xattr.${key}`)} is not base64`);
  }
  return Uint8Array.from(Buffer.from(digits, "base64"));
}
