/**
 * Builds an entry, except for its payload, from its header block and the preceding extended headers (PAX records and GNU
 * long names).
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { PayloadIndex } from "../model/node.ts";
import type { TarEntry, TarEntryKind } from "./entry.ts";
import {
  cString,
  describeLocation,
  HEADER_FIELDS,
  type HeaderField,
  type HeaderFormat,
  headerFormat,
  headerPath,
  limitFault,
  nameField,
  nearestSeconds,
  quoted,
  readNumberField,
  tarFault,
  type TarLimits,
  type TarLocation,
  type TarTime,
  TYPE_FLAG,
} from "./header.ts";
import {
  firstLayerOfComment,
  forEachPaxRecord,
  isUnsupportedKey,
  paxAttributes,
  type PaxRecords,
  readPaxRecords,
  type WarnCallback,
} from "./pax.ts";
import { type PaxSparseForm, paxSparseForm } from "./payload.ts";

/** The initial buffer size; it doubles as data arrives, so that a large declared size alone costs nothing. */
const FIRST_BUFFER_SIZE_BYTES = 4096;

/** Whether a header with this type flag extends the following entry, or all entries. */
export function isExtension(flag: number): boolean {
  return flag === TYPE_FLAG.paxEntry || flag === TYPE_FLAG.solarisPaxEntry ||
    flag === TYPE_FLAG.paxGlobal || flag === TYPE_FLAG.gnuLongName ||
    flag === TYPE_FLAG.gnuLongLink;
}

/** Collects the content of extended headers until an entry takes it. */
export class ExtensionCollector {
  readonly #context: ReaderContext;
  #totalBytes = 0;

  // The extended header being read.
  #flag = 0;
  #location: TarLocation | undefined;
  #wanted = 0;
  #buffer = new Uint8Array(FIRST_BUFFER_SIZE_BYTES);
  #length = 0;

  // Their content so far.
  #pax: PaxRecords | undefined;
  #longPath: ByteString = "";
  #longLinkTarget: ByteString = "";
  #firstHeaderOffset: number | undefined;

  constructor(context: ReaderContext) {
    this.#context = context;
  }

  /** The number of bytes of the current header's data still to come. */
  get missing(): number {
    return this.#wanted - this.#length;
  }

  /** The offset of the first header not yet taken by an entry. */
  get firstHeaderOffset(): number | undefined {
    return this.#firstHeaderOffset;
  }

  /** Starts reading an extended header's data. Errors: InputError if it exceeds a limit. */
  begin(flag: number, sizeBytes: number, location: TarLocation): void {
    const { extendedHeaderBytes, extendedHeaderTotalBytes } = this.#context.limits;
    if (sizeBytes > extendedHeaderBytes) {
      const what = "the size of an extended header";
      throw limitFault(location, what, "extendedHeaderBytes", sizeBytes, extendedHeaderBytes);
    }
    this.#totalBytes += sizeBytes;
    if (this.#totalBytes > extendedHeaderTotalBytes) {
      const what = "the size of all extended headers";
      const limit = extendedHeaderTotalBytes;
      throw limitFault(location, what, "extendedHeaderTotalBytes", this.#totalBytes, limit);
    }
    this.#flag = flag;
    this.#location = location;
    this.#wanted = sizeBytes;
    this.#length = 0;
    // A global header does not belong to an entry.
    if (flag !== TYPE_FLAG.paxGlobal) this.#firstHeaderOffset ??= location.headerOffset;
    if (sizeBytes === 0) this.#read(this.#buffer, 0, 0, location);
  }

  /** Consumes the data's bytes from `chunk[at...]`; returns how many there were. Errors: InputError. */
  push(chunk: Uint8Array, at: number): number {
    const taken = Math.min(this.missing, chunk.length - at);
    const isWhole = taken === this.#wanted; // no copy needed
    if (!isWhole) {
      this.#grow(this.#length + taken);
      this.#buffer.set(chunk.subarray(at, at + taken), this.#length);
    }
    this.#length += taken;
    if (this.missing === 0) {
      if (isWhole) this.#read(chunk, at, at + taken, this.#location!);
      else this.#read(this.#buffer, 0, this.#length, this.#location!);
    }
    return taken;
  }

  /** The headers' content since the last call. */
  take(): EntryExtensions {
    const extensions = {
      pax: this.#pax,
      longPath: this.#longPath,
      longLinkTarget: this.#longLinkTarget,
    };
    this.#pax = undefined;
    this.#longPath = "";
    this.#longLinkTarget = "";
    this.#firstHeaderOffset = undefined;
    return extensions;
  }

  /** Processes a header's data, `bytes[start, end)`. Of several headers of one kind, the last wins. */
  #read(bytes: Uint8Array, start: number, end: number, location: TarLocation): void {
    switch (this.#flag) {
      case TYPE_FLAG.gnuLongName:
        this.#longPath = cString(bytes, start, end);
        return;
      case TYPE_FLAG.gnuLongLink:
        this.#longLinkTarget = cString(bytes, start, end);
        return;
      case TYPE_FLAG.paxGlobal:
        this.#readGlobal(bytes.subarray(start, end), location);
        return;
      default:
        this.#pax = readPaxRecords(bytes, location, start, end);
    }
  }

  /** Global headers are ignored, as in docker and containerd; a warning reports any that would have had an effect. */
  #readGlobal(data: Uint8Array, location: TarLocation): void {
    forEachPaxRecord(data, location, (key, start, end) => {
      if (start === end || key === "comment") return;
      if (isUnsupportedKey(key)) {
        throw tarFault(location, `its PAX record ${quoted(key)} is not supported`);
      }
      const why = `the record ${quoted(key)} of a global PAX header is passed over`;
      this.#context.warn("globalHeader", describeLocation(location), why);
    });
  }

  #grow(sizeBytes: number): void {
    if (sizeBytes <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(sizeBytes, this.#buffer.length * 2));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}

/** The content of the headers before an entry's own. */
export interface EntryExtensions {
  readonly pax: PaxRecords | undefined;
  /** GNU `L`; empty if there is none. */
  readonly longPath: ByteString;
  /** GNU `K`. */
  readonly longLinkTarget: ByteString;
}

/** The state that all reading steps need. */
export interface ReaderContext {
  readonly limits: TarLimits;
  readonly warn: WarnCallback;
}

/** An entry whose payload is filled in after its data has been read. */
export type UnfinishedEntry = Omit<TarEntry, "payload"> & { payload: PayloadIndex | undefined };

/** An entry without its payload, and the payload's location. */
export interface EntryHeader {
  readonly entry: UnfinishedEntry;
  /** The number of bytes after the header that belong to the entry, without padding. */
  readonly storedSizeBytes: number;
  readonly sparse: PaxSparseForm | { readonly kind: "oldMap" } | undefined;
  readonly comment: ByteString | undefined;
}

const MODE_BITS = 0o7777;
const PERMISSION_BITS = 0o777;
/** The next number means "no id" in the kernel, so no image can have it. */
const MAX_ID = 0xfffffffe;
const MAX_DEVICE_NUMBER = 0xffffffff;
const EPOCH: TarTime = { seconds: 0, nanoseconds: 0 };

/** The kind for a type flag; undefined if it cannot become a file. */
function kindOfFlag(flag: number, path: ByteString): TarEntryKind | undefined {
  switch (flag) {
    case TYPE_FLAG.oldRegular:
    case TYPE_FLAG.regular:
    case TYPE_FLAG.contiguous:
      // Before POSIX, a trailing slash was the only mark of a directory, and some tools still write that.
      return path.endsWith("/") ? "directory" : "file";
    case TYPE_FLAG.gnuSparse:
      return "file";
    case TYPE_FLAG.hardLink:
      return "hardlink";
    case TYPE_FLAG.symlink:
      return "symlink";
    case TYPE_FLAG.characterDevice:
      return "characterDevice";
    case TYPE_FLAG.blockDevice:
      return "blockDevice";
    case TYPE_FLAG.directory:
    case TYPE_FLAG.gnuDumpDirectory:
      return "directory";
    case TYPE_FLAG.fifo:
      return "fifo";
    default:
      return undefined;
  }
}

/**
 * Reads the header block at `base`, whose checksum has been verified. Extended headers take precedence over the block; GNU
 * long names take precedence over PAX paths, as in GNU tar and Go. Errors: InputError.
 */
export function readEntryHeader(
  bytes: Uint8Array,
  base: number,
  extensions: EntryExtensions,
  headerLocation: TarLocation,
  context: ReaderContext,
): EntryHeader {
  const { pax } = extensions;
  const format = headerFormat(bytes, base);
  const flag = bytes[base + HEADER_FIELDS.typeFlag.offset]!;
  const plainPath = extensions.longPath || pax?.path || headerPath(bytes, base, format);
  const isSparse = flag === TYPE_FLAG.gnuSparse || pax?.sparse !== undefined;
  const sparse = isSparse
    ? sparseForm(flag, format, pax, { ...headerLocation, path: plainPath }, context.limits)
    : undefined;
  const path = (sparse?.kind !== "oldMap" && sparse?.path) || plainPath;
  const { tarName, headerOffset } = headerLocation;
  const location = { tarName, headerOffset, path };
  if (path === "") throw tarFault(location, "its path is empty");
  const kind = kindOfFlag(flag, path);
  if (kind === undefined) throw flagFault(flag, location);
  if (pax?.unsupported !== undefined) {
    throw tarFault(location, `its PAX record ${quoted(pax.unsupported)} is not supported`);
  }
  checkPath(path, location, context.limits);
  const isLink = kind === "symlink" || kind === "hardlink";
  const linkTarget = isLink
    ? extensions.longLinkTarget || pax?.linkPath || nameField(bytes, base, HEADER_FIELDS.linkName)
    : "";
  if (isLink) checkLinkTarget(linkTarget, kind, location, context.limits);
  if (sparse && kind !== "file") throw tarFault(location, `it is a sparse ${kind}`);

  const { xattrs, permissions } = paxAttributes(pax, location, context.warn);
  const mode = blockNumber(bytes, base, "mode", location) & MODE_BITS;
  const time = pax?.mtime ?? blockTime(bytes, base, location);
  const isDevice = (kind === "characterDevice" || kind === "blockDevice") && format !== "v7";
  const firstLayer = firstLayerOfComment(pax?.comment);
  for (const key of pax?.dropped ?? []) {
    context.warn(
      "paxRecord",
      describeLocation(location),
      `its PAX record ${quoted(key)} is dropped`,
    );
  }
  return {
    entry: {
      kind,
      path,
      linkTarget,
      mode: permissions === undefined ? mode : (mode & ~PERMISSION_BITS) | permissions,
      uid: idOf("uid", pax?.uid ?? blockNumber(bytes, base, "uid", location), location),
      gid: idOf("gid", pax?.gid ?? blockNumber(bytes, base, "gid", location), location),
      mtimeSeconds: time.seconds,
      mtimeNanoseconds: time.nanoseconds,
      deviceMajor: isDevice ? deviceNumber(bytes, base, "deviceMajor", pax, location) : 0,
      deviceMinor: isDevice ? deviceNumber(bytes, base, "deviceMinor", pax, location) : 0,
      xattrs,
      ...firstLayer === undefined ? {} : { firstLayer },
      payload: undefined,
      headerOffset,
    },
    storedSizeBytes: hasData(flag, kind) ? storedSize(bytes, base, pax, location) : 0,
    sparse,
    comment: pax?.comment,
  };
}

/** How the entry is sparse, if it is. */
function sparseForm(
  flag: number,
  format: HeaderFormat,
  pax: PaxRecords | undefined,
  location: TarLocation,
  limits: TarLimits,
): EntryHeader["sparse"] {
  if (flag !== TYPE_FLAG.gnuSparse) {
    return pax?.sparse && paxSparseForm(pax.sparse, location, limits);
  }
  if (format === "gnu") return { kind: "oldMap" };
  throw tarFault(location, `it is sparse in the ${format} format; only GNU's is known`);
}

/** The size in the header block at `base`, the only one for a meta header. Errors: InputError. */
export function blockSize(bytes: Uint8Array, base: number, location: TarLocation): number {
  return checkedSize(blockNumber(bytes, base, "size", location), location);
}

/**
 * Whether data follows the header. The size of a link, directory, device or fifo does not count, as in Go's archive/tar,
 * except for GNU dump directories and for entries that are directories only because of a trailing slash, as in GNU tar.
 */
function hasData(flag: number, kind: TarEntryKind): boolean {
  return kind === "file" || flag === TYPE_FLAG.gnuDumpDirectory || flag === TYPE_FLAG.regular ||
    flag === TYPE_FLAG.oldRegular || flag === TYPE_FLAG.contiguous;
}

function storedSize(
  bytes: Uint8Array,
  base: number,
  pax: PaxRecords | undefined,
  location: TarLocation,
): number {
  return pax?.sizeBytes === undefined
    ? blockSize(bytes, base, location)
    : checkedSize(pax.sizeBytes, location);
}

function checkedSize(size: number, location: TarLocation): number {
  if (size < 0) throw tarFault(location, `its size is ${size}; wanted a number from 0`);
  return size;
}

function blockNumber(
  bytes: Uint8Array,
  base: number,
  name: keyof typeof HEADER_FIELDS,
  location: TarLocation,
): number {
  const field: HeaderField = HEADER_FIELDS[name];
  const value = readNumberField(bytes, base, field);
  if (Number.isFinite(value)) return value;
  const why = Number.isNaN(value) ? "is not a number" : "is too large";
  throw tarFault(
    location,
    `its header field ${name} ${why}: ${quoted(rawField(bytes, base, field))}`,
  );
}

function rawField(bytes: Uint8Array, base: number, field: HeaderField): ByteString {
  const start = base + field.offset;
  return String.fromCharCode(...bytes.subarray(start, start + field.lengthBytes));
}

function blockTime(bytes: Uint8Array, base: number, location: TarLocation): TarTime {
  const value = readNumberField(bytes, base, HEADER_FIELDS.mtime);
  if (value === 0) return EPOCH;
  if (Number.isNaN(value)) blockNumber(bytes, base, "mtime", location);
  return { seconds: nearestSeconds(value), nanoseconds: 0 };
}

function idOf(name: "uid" | "gid", id: number, location: TarLocation): number {
  if (id < 0 || id > MAX_ID) {
    throw tarFault(location, `its ${name} is ${id}; wanted 0 to ${MAX_ID}`, {
      actual: id,
      expected: MAX_ID,
    });
  }
  return id;
}

function deviceNumber(
  bytes: Uint8Array,
  base: number,
  name: "deviceMajor" | "deviceMinor",
  pax: PaxRecords | undefined,
  location: TarLocation,
): number {
  const value = pax?.[name] ?? blockNumber(bytes, base, name, location);
  if (value >= 0 && value <= MAX_DEVICE_NUMBER) return value;
  throw tarFault(location, `its ${name} is ${value}; wanted 0 to ${MAX_DEVICE_NUMBER}`);
}

function checkPath(path: ByteString, location: TarLocation, limits: TarLimits): void {
  if (path.length > limits.pathBytes) {
    throw limitFault(location, "its path's length", "pathBytes", path.length, limits.pathBytes);
  }
  let depth = 0;
  for (let start = 0; start < path.length;) {
    const slash = path.indexOf("/", start);
    const end = slash < 0 ? path.length : slash;
    if (end > start) depth++;
    if (end - start > limits.nameBytes) {
      const what = "the length of a name in its path";
      throw limitFault(location, what, "nameBytes", end - start, limits.nameBytes);
    }
    start = end + 1;
  }
  if (depth > limits.pathDepth) {
    throw limitFault(location, "its path's depth", "pathDepth", depth, limits.pathDepth);
  }
}

function checkLinkTarget(
  target: ByteString,
  kind: "symlink" | "hardlink",
  location: TarLocation,
  limits: TarLimits,
): void {
  if (target === "") throw tarFault(location, `it is a ${kind} to nowhere: its target is empty`);
  const name = kind === "symlink" ? "symlinkTargetBytes" : "pathBytes";
  if (target.length > limits[name]) {
    throw limitFault(location, `its ${kind} target's length`, name, target.length, limits[name]);
  }
}

function flagFault(flag: number, location: TarLocation): Error {
  const shown = quoted(String.fromCharCode(flag));
  return flag === TYPE_FLAG.gnuMultiVolume
    ? tarFault(
      location,
      `type ${shown}: it continues from another volume, which is not supported`,
    )
    : tarFault(location, `type ${shown} is not known`, { typeFlag: flag });
}
