/**
 * Reads a tar as it streams past: reports every entry and where its bytes are, without keeping them.
 *
 * Where tools differ, this follows Go's archive/tar, which most container tools use. The differences:
 *
 * - A global PAX header is ignored, as in docker and containerd, and does not end the extended headers before it.
 * - Solaris's `X` headers are PAX headers; its ACLs, and GNU's volume labels and old name lists, are skipped; GNU's dump
 *   directories are directories.
 * - Unknown types, empty paths, empty link targets, other volumes, unknown sparse formats, and ids beyond 32 bits are
 *   errors, as is a tar that ends between an extended header and its entry.
 * - Fields with no meaning for the entry (a link's size, a file's device numbers) may contain anything.
 * - xattrs and ACLs are read in all their forms, and GNU tar's escapes in the names of xattrs are undone.
 *
 * @module
 */
import { isZero } from "../bytes/arithmetic.ts";
import type { ByteString } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { DataSegment, PayloadIndex } from "../model/node.ts";
import type { TarEntry } from "./entry.ts";
import {
  blockSize,
  type EntryHeader,
  ExtensionCollector,
  isExtension,
  readEntryHeader,
  type ReaderContext,
} from "./entry_header.ts";
import {
  checkHeaderSum,
  DEFAULT_TAR_LIMITS,
  describeLocation,
  HEADER_FIELDS,
  isZeroBlock,
  limitFault,
  nameField,
  paddedSizeBytes,
  TAR_BLOCK_SIZE_BYTES,
  tarFault,
  type TarLimits,
  type TarLocation,
  TYPE_FLAG,
} from "./header.ts";
import type { WarnCallback } from "./pax.ts";
import {
  OldSparseMapReader,
  PayloadCollector,
  placeRanges,
  SparseMapReader,
  type SparseRange,
} from "./payload.ts";

/** Options for a TarIndexer. */
export interface TarIndexerOptions {
  /** The tar's name in messages. */
  readonly name: string;
  /** Receives every entry, in order, once all its bytes have been seen. */
  readonly emit: (entry: TarEntry) => void;
  /** Called for everything dropped or changed; `Warnings.add` fits. */
  readonly warn: WarnCallback;
  /** Override the defaults. */
  readonly limits?: Partial<TarLimits> | undefined;
  /**
   * False: entries are emitted as soon as their headers have been read, with payloads whose data runs and content hash are
   * meaningless, and the caller may skip the bytes of files. Default true.
   */
  readonly scanPayload?: boolean | undefined;
  /** Zero blocks do not end the tar, as with tar(1)'s --ignore-zeros: for concatenated tars. */
  readonly ignoreZeros?: boolean | undefined;
}

/** What the bytes at the current offset are, and how messages describe them. */
const STATES = {
  header: "a header",
  extension: "the data of an extended header",
  sparseMap: "a sparse map",
  payload: "a payload",
  skip: "padding or skipped data",
  ended: "what follows the end",
} as const;

/** The limits checked here, and how messages describe what they limit. */
const COUNTED = {
  layerEntries: "the number of entries",
  layerHeaders: "the number of headers",
  attributeBytes: "the size of all extended attributes and long paths so far",
  fileSizeBytes: "its size",
  extraPayloadPieces: "the number of pieces of payloads so far",
} as const satisfies Partial<Record<keyof TarLimits, string>>;

/** The reader for a sparse file's map, and the number of the map's bytes in the entry's own data. */
type MapReader =
  | { readonly kind: "oldMap"; readonly reader: OldSparseMapReader }
  | { readonly kind: "mapInData"; readonly reader: SparseMapReader; readonly sizeBytes: number };

/**
 * A push parser for an uncompressed tar, in chunks of any length. Chunks are used only during the call.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { TarIndexer } from "./indexer.ts";
 * import { encodeTarEntry } from "./writer.ts";
 * const { head } = encodeTarEntry({
 *   kind: "directory", path: "etc/", linkTarget: "", mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0,
 *   mtimeNanoseconds: 0, deviceMajor: 0, deviceMinor: 0, xattrs: [], payload: undefined,
 * });
 * const paths: string[] = [];
 * const indexer = new TarIndexer({
 *   name: "example.tar",
 *   emit: (entry) => paths.push(entry.path),
 *   warn: () => {},
 * });
 * indexer.push(head);
 * indexer.push(new Uint8Array(1024));
 * indexer.end();
 * assertEquals(paths, ["etc/"]);
 * ```
 */
export class TarIndexer {
  readonly #options: TarIndexerOptions;
  readonly #limits: TarLimits;
  readonly #context: ReaderContext;

  #state: keyof typeof STATES = "header";
  /** The number of bytes consumed: the offset in the tar of the next byte. */
  #offset = 0;
  #skipSizeBytes = 0;
  /** How many of them are block padding, and may be missing at the very end. */
  #paddingSizeBytes = 0;
  #zeroBlocks = 0;
  #headerCount = 0;
  #entryCount = 0;
  #attributeBytes = 0;
  #extraPieces = 0;
  #firstComment: ByteString | undefined;
  /** Where nonzero bytes begin after the end marker. */
  #trailingOffset: number | undefined;

  /** A block that arrives in pieces. */
  readonly #block = new Uint8Array(TAR_BLOCK_SIZE_BYTES);
  #blockLength = 0;

  /** The header or entry being read. */
  #location: TarLocation;
  readonly #extensions: ExtensionCollector;
  #current: EntryHeader | undefined;
  #map: MapReader | undefined;
  /** The rest of the entry's data after its sparse map. */
  #storedSizeBytes = 0;
  readonly #payload = new PayloadCollector();

  /** Starts at the first byte of a tar. */
  constructor(options: TarIndexerOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_TAR_LIMITS, ...options.limits };
    this.#context = { limits: this.#limits, warn: options.warn };
    this.#extensions = new ExtensionCollector(this.#context);
    this.#location = { tarName: options.name, headerOffset: 0, path: "" };
  }

  /** The number of entries so far. */
  get entryCount(): number {
    return this.#entryCount;
  }

  /** The number of headers of any kind so far. */
  get headerCount(): number {
    return this.#headerCount;
  }

  /** The comment on the first entry, which may describe the whole tar. */
  get firstComment(): ByteString | undefined {
    return this.#firstComment;
  }

  /** Whether the end marker has been read. */
  get hasEnded(): boolean {
    return this.#state === "ended";
  }

  /** How many of the next bytes may be skipped instead of pushed. */
  get skippableBytes(): number {
    return this.#state === "skip" ? this.#skipSizeBytes : 0;
  }

  /** Skips bytes instead of pushing them, at most {@link skippableBytes}. */
  skip(sizeBytes: number): void {
    if (sizeBytes === 0) return;
    this.#offset += sizeBytes;
    this.#skip(this.#skipSizeBytes - sizeBytes, this.#paddingSizeBytes);
  }

  /** Takes the next bytes of the tar. Errors: InputError; after one, the indexer must not be used. */
  push(bytes: Uint8Array): void {
    // Slicing plain views is faster than slicing node's Buffers, and always has the same meaning.
    const chunk = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    while (at < chunk.length) {
      const taken = this.#take(chunk, at);
      at += taken;
      this.#offset += taken;
    }
  }

  /** Ends the tar. Throws an InputError if it must not end here. */
  end(): void {
    if (this.#state === "ended") return this.#checkRest();
    const data = { offset: this.#offset };
    const lacksPadding = this.#state === "skip" && this.#skipSizeBytes <= this.#paddingSizeBytes;
    if (!lacksPadding && (this.#state !== "header" || this.#blockLength > 0)) {
      const part = STATES[this.#state];
      const why = `the tar ends in the middle of ${part}, at offset ${this.#offset}`;
      throw tarFault(this.#location, why, data);
    }
    if (this.#extensions.firstHeaderOffset !== undefined) {
      const why = `the tar ends at offset ${this.#offset}, and the entry of this header is missing`;
      throw tarFault(this.#location, why, data);
    }
    if (this.#zeroBlocks === 0) {
      const why = `it has no end marker; it may have been cut short at offset ${this.#offset}`;
      this.#options.warn("missingEndMarker", this.#options.name, why);
    }
    this.#state = "ended";
  }

  /** Checks what follows the end marker. A tar may be empty, but then it must contain nothing except zeros. */
  #checkRest(): void {
    const start = this.#trailingOffset;
    const { name, warn } = this.#options;
    if (this.#headerCount === 0 && (start ?? this.#offset) > EMPTY_TAR_BYTES_MAX) {
      throw new InputError(
        name,
        `begins with ${start ?? this.#offset} bytes of zeros: wanted a tar`,
        { code: "wrongKind" },
      );
    }
    if (start === undefined) return;
    if (this.#headerCount === 0) {
      throw new InputError(name, `begins with zeros up to offset ${start}: wanted a tar`, {
        code: "wrongKind",
      });
    }
    const why = `${
      this.#offset - start
    } bytes behind its end marker are left out, from offset ${start}`;
    warn("trailingBytes", name, why);
  }

  /** Consumes at least one byte of the chunk from `at`; returns how many. */
  #take(chunk: Uint8Array, at: number): number {
    switch (this.#state) {
      case "payload":
        return this.#takePayload(chunk, at);
      case "header":
      case "sparseMap":
        return this.#takeBlock(chunk, at);
      case "extension": {
        const taken = this.#extensions.push(chunk, at);
        if (this.#extensions.missing === 0) this.#skip(this.#skipSizeBytes, this.#skipSizeBytes);
        return taken;
      }
      case "skip": {
        const taken = Math.min(this.#skipSizeBytes, chunk.length - at);
        this.#skip(this.#skipSizeBytes - taken, this.#paddingSizeBytes);
        return taken;
      }
      case "ended":
        if (this.#trailingOffset === undefined && !isZero(chunk, at, chunk.length)) {
          this.#trailingOffset = this.#offset + chunk.subarray(at).findIndex((byte) => byte !== 0);
        }
        return chunk.length - at;
    }
  }

  /** Skips bytes up to the next header; the last `paddingSizeBytes` of them are padding. */
  #skip(sizeBytes: number, paddingSizeBytes: number): void {
    this.#skipSizeBytes = sizeBytes;
    this.#paddingSizeBytes = paddingSizeBytes;
    this.#state = sizeBytes > 0 ? "skip" : "header";
  }

  /** Skips data and the padding after it. */
  #skipData(sizeBytes: number): void {
    const paddedBytes = paddedSizeBytes(sizeBytes);
    this.#skip(paddedBytes, paddedBytes - sizeBytes);
  }

  /** Whole blocks are read in place; others are assembled first. */
  #takeBlock(chunk: Uint8Array, at: number): number {
    if (this.#blockLength === 0 && chunk.length - at >= TAR_BLOCK_SIZE_BYTES) {
      this.#readBlock(chunk, at, this.#offset);
      return TAR_BLOCK_SIZE_BYTES;
    }
    const taken = Math.min(TAR_BLOCK_SIZE_BYTES - this.#blockLength, chunk.length - at);
    this.#block.set(chunk.subarray(at, at + taken), this.#blockLength);
    this.#blockLength += taken;
    if (this.#blockLength === TAR_BLOCK_SIZE_BYTES) {
      this.#blockLength = 0;
      this.#readBlock(this.#block, 0, this.#offset + taken - TAR_BLOCK_SIZE_BYTES);
    }
    return taken;
  }

  #readBlock(bytes: Uint8Array, base: number, blockOffset: number): void {
    if (this.#state === "header") this.#readHeader(bytes, base, blockOffset);
    else this.#readMapBlock(bytes, base, blockOffset + TAR_BLOCK_SIZE_BYTES);
  }

  #readHeader(bytes: Uint8Array, base: number, blockOffset: number): void {
    this.#moveTo(blockOffset, "");
    if (bytes[base] === 0 && isZeroBlock(bytes, base)) {
      this.#takeZeroBlock();
      return;
    }
    if (this.#zeroBlocks > 0 && !this.#options.ignoreZeros) {
      throw tarFault(
        this.#location,
        "a block with something in it follows a single block of zeros",
      );
    }
    checkHeaderSum(bytes, base, this.#location);
    this.#headerCount = this.#counted("layerHeaders", this.#headerCount + 1);
    const flag = bytes[base + HEADER_FIELDS.typeFlag.offset]!;
    if (isExtension(flag)) this.#beginExtension(flag, bytes, base);
    else if (isMetaEntry(flag)) this.#skipMetaEntry(flag, bytes, base);
    else this.#beginEntry(bytes, base, blockOffset + TAR_BLOCK_SIZE_BYTES);
  }

  #takeZeroBlock(): void {
    this.#zeroBlocks++;
    if (this.#zeroBlocks < 2 || this.#options.ignoreZeros) return;
    if (this.#extensions.firstHeaderOffset !== undefined) {
      const why = "an extended header stands before the end, with no entry that it belongs to";
      this.#options.warn("danglingHeader", describeLocation(this.#location), why);
    }
    this.#state = "ended";
  }

  #beginExtension(flag: number, bytes: Uint8Array, base: number): void {
    this.#nameMetaHeader(bytes, base);
    const sizeBytes = blockSize(bytes, base, this.#location);
    this.#extensions.begin(flag, sizeBytes, this.#location);
    this.#skipSizeBytes = paddedSizeBytes(sizeBytes) - sizeBytes;
    this.#state = sizeBytes > 0 ? "extension" : "header";
  }

  /** Volume labels do not describe the tree. Solaris ACLs and old GNU names do, and are lost. */
  #skipMetaEntry(flag: number, bytes: Uint8Array, base: number): void {
    this.#nameMetaHeader(bytes, base);
    if (flag !== TYPE_FLAG.gnuVolumeLabel) {
      const why = `an entry of type "${String.fromCharCode(flag)}" is skipped`;
      this.#options.warn("skippedEntry", describeLocation(this.#location), why);
    }
    // An ACL is placed between the extended headers and their entry; the others are separate entries.
    if (flag !== TYPE_FLAG.solarisAcl) this.#extensions.take();
    this.#skipData(blockSize(bytes, base, this.#location));
  }

  #moveTo(headerOffset: number, path: ByteString): void {
    this.#location = { tarName: this.#options.name, headerOffset, path };
  }

  /** For messages: the name in the block of a header without an entry. */
  #nameMetaHeader(bytes: Uint8Array, base: number): void {
    this.#moveTo(this.#location.headerOffset, nameField(bytes, base, HEADER_FIELDS.name));
  }

  #beginEntry(bytes: Uint8Array, base: number, dataOffset: number): void {
    const { firstHeaderOffset } = this.#extensions;
    if (firstHeaderOffset !== undefined) this.#moveTo(firstHeaderOffset, "");
    const extensions = this.#extensions.take();
    const header = readEntryHeader(bytes, base, extensions, this.#location, this.#context);
    this.#moveTo(this.#location.headerOffset, header.entry.path);
    this.#entryCount = this.#counted("layerEntries", this.#entryCount + 1);
    if (this.#entryCount === 1) this.#firstComment = header.comment;
    this.#attributeBytes = this.#counted(
      "attributeBytes",
      this.#attributeBytes + attributeBytes(header.entry),
    );
    this.#current = header;
    this.#storedSizeBytes = header.storedSizeBytes;
    const { entry, sparse } = header;
    if (entry.kind !== "file") {
      this.#options.emit(entry);
      this.#skipData(header.storedSizeBytes);
    } else if (sparse === undefined) {
      const lengthBytes = header.storedSizeBytes;
      const segment = { fileOffset: 0, storeOffset: dataOffset, lengthBytes };
      this.#beginPayload(lengthBytes === 0 ? NO_SEGMENTS : [segment], lengthBytes);
    } else if (sparse.kind === "mapped") {
      this.#beginSparsePayload(sparse.ranges, sparse.sizeBytes, dataOffset);
    } else if (sparse.kind === "mapInData") {
      const reader = new SparseMapReader(this.#location, this.#limits);
      this.#map = { kind: sparse.kind, reader, sizeBytes: sparse.sizeBytes };
      this.#awaitMapBlock();
    } else {
      const reader = new OldSparseMapReader(bytes, base, this.#location, this.#limits);
      this.#map = { kind: sparse.kind, reader };
      this.#continueOldMap(reader, dataOffset);
    }
  }

  #readMapBlock(bytes: Uint8Array, base: number, dataOffset: number): void {
    const map = this.#map!;
    if (map.kind === "oldMap") {
      map.reader.push(bytes, base);
      this.#continueOldMap(map.reader, dataOffset);
      return;
    }
    this.#storedSizeBytes -= TAR_BLOCK_SIZE_BYTES;
    const ranges = map.reader.push(bytes, base);
    if (ranges === undefined) this.#awaitMapBlock();
    else this.#beginSparsePayload(ranges, map.sizeBytes, dataOffset);
  }

  #continueOldMap(reader: OldSparseMapReader, dataOffset: number): void {
    if (reader.expectsMore) this.#state = "sparseMap";
    else this.#beginSparsePayload(reader.ranges, reader.sizeBytes, dataOffset);
  }

  /** The GNU.sparse 1.0 map must end within the entry's data. */
  #awaitMapBlock(): void {
    if (this.#storedSizeBytes < TAR_BLOCK_SIZE_BYTES) {
      throw tarFault(this.#location, "its sparse map does not end within its data");
    }
    this.#state = "sparseMap";
  }

  #beginSparsePayload(ranges: readonly SparseRange[], sizeBytes: number, dataOffset: number): void {
    this.#map = undefined;
    const stored = this.#storedSizeBytes;
    this.#beginPayload(
      placeRanges(ranges, sizeBytes, stored, dataOffset, this.#location),
      sizeBytes,
    );
  }

  #beginPayload(segments: readonly DataSegment[], sizeBytes: number): void {
    this.#counted("fileSizeBytes", sizeBytes);
    if (this.#options.scanPayload === false) {
      this.#emitPayload({ sizeBytes, segments, dataRuns: [], contentHash: 0 });
      this.#skipData(this.#storedSizeBytes);
      return;
    }
    this.#payload.begin(segments, sizeBytes, this.#storedSizeBytes);
    this.#state = "payload";
    if (this.#storedSizeBytes === 0) this.#finishPayload();
  }

  #emitPayload(payload: PayloadIndex): void {
    const { entry } = this.#current!;
    entry.payload = payload;
    this.#current = undefined;
    this.#options.emit(entry);
  }

  #takePayload(chunk: Uint8Array, at: number): number {
    const taken = this.#payload.push(chunk, at);
    this.#counted("extraPayloadPieces", this.#extraPieces + this.#payload.extraPieces);
    if (this.#payload.remaining === 0) this.#finishPayload();
    return taken;
  }

  #finishPayload(): void {
    this.#extraPieces += this.#payload.extraPieces;
    this.#emitPayload(this.#payload.finish());
    const padding = paddedSizeBytes(this.#storedSizeBytes) - this.#storedSizeBytes;
    this.#skip(padding, padding);
  }

  /** Returns `found`, or throws if it exceeds the limit. */
  #counted(limitName: keyof typeof COUNTED, found: number): number {
    const limit = this.#limits[limitName];
    if (found <= limit) return found;
    throw limitFault(this.#location, COUNTED[limitName], limitName, found, limit);
  }
}

/** tar(1) pads a tar's last record with zeros; no record is longer than this. */
const EMPTY_TAR_BYTES_MAX = 1 << 20;
/** Overhead of an attribute beyond its bytes, and the part of a path that counts as a name. */
const ATTRIBUTE_OVERHEAD_BYTES = 128;
const NAME_BYTES = 256;

function attributeBytes({ path, linkTarget, xattrs }: Omit<TarEntry, "payload">): number {
  let bytes = Math.max(0, path.length - NAME_BYTES) + Math.max(0, linkTarget.length - NAME_BYTES);
  for (const { name, value } of xattrs) {
    bytes += name.length + value.length + ATTRIBUTE_OVERHEAD_BYTES;
  }
  return bytes;
}

const NO_SEGMENTS: readonly DataSegment[] = [];

/** Entries that do not represent files. */
function isMetaEntry(flag: number): boolean {
  return flag === TYPE_FLAG.solarisAcl || flag === TYPE_FLAG.gnuOldNames ||
    flag === TYPE_FLAG.gnuVolumeLabel;
}
