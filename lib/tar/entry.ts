/**
 * A tar's description of one file, after all extensions have been applied; and packing of such entries to post them between
 * threads.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type ByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import { invariant } from "../errors.ts";
import {
  type BlockRun,
  type DataSegment,
  EMPTY_PAYLOAD_INDEX,
  type PayloadIndex,
  runFromStart,
  type Xattr,
} from "../model/node.ts";

/** Kinds of entries that reach the tree. All others are skipped or rejected. */
export type TarEntryKind =
  | "file"
  | "directory"
  | "symlink"
  | "hardlink"
  | "characterDevice"
  | "blockDevice"
  | "fifo";

/** One entry; plain data, so it can be posted between threads. */
export interface TarEntry {
  /** The kind of file. */
  readonly kind: TarEntryKind;
  /** Exactly as written, with PAX and GNU names applied; never empty; not normalised. */
  readonly path: ByteString;
  /** Target of a symlink or hard link, exactly as written; otherwise empty. */
  readonly linkTarget: ByteString;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  /** Numeric owner. */
  readonly uid: number;
  /** Numeric group. */
  readonly gid: number;
  /** Whole seconds, rounded down. */
  readonly mtimeSeconds: number;
  /** 0 to 999,999,999. */
  readonly mtimeNanoseconds: number;
  /** 0 unless it is a device. */
  readonly deviceMajor: number;
  /** 0 unless it is a device. */
  readonly deviceMinor: number;
  /** Sorted by name in byte order; names are unique. */
  readonly xattrs: readonly Xattr[];
  /** The number that determines the order of payload (NodeBase.firstLayer), if an exported tar states one. */
  readonly firstLayer?: number | undefined;
  /** Set for `file` only. Store offsets are offsets in the uncompressed tar. */
  readonly payload: PayloadIndex | undefined;
  /** The offset of the entry's first header in the uncompressed tar, for messages. */
  readonly headerOffset: number;
}

/** An entry with only a kind and a path: mode 0 and owner 0:0. */
export function bareEntry(kind: TarEntryKind, path: ByteString): Omit<TarEntry, "headerOffset"> {
  return {
    kind,
    path,
    linkTarget: "",
    mode: 0,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: NO_XATTRS,
    payload: undefined,
  };
}

/** Kinds by number. */
const KINDS: readonly TarEntryKind[] = [
  "file",
  "directory",
  "symlink",
  "hardlink",
  "characterDevice",
  "blockDevice",
  "fifo",
];
const NO_XATTRS: readonly Xattr[] = [];
/** Represents a missing number. */
const NONE = -1;
/** The header: the number of entries, of all numbers, and of text bytes. */
const HEAD_NUMBERS = 3;
/** Numbers per entry, not counting its attributes and payload. */
const ENTRY_NUMBERS = 14;
/** Room for a batch of files with one segment and one run. */
const FIRST_NUMBERS = 1 << 14;

/**
 * Packs entries into one buffer: numbers, then text, then the values of attributes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import type { TarEntry } from "./entry.ts";
 * import { packEntries, unpackEntries } from "./entry.ts";
 * const entry: TarEntry = {
 *   kind: "symlink", path: "bin", linkTarget: "usr/bin", mode: 0o777, uid: 0, gid: 0, mtimeSeconds: -1,
 *   mtimeNanoseconds: 5, deviceMajor: 0, deviceMinor: 0, xattrs: [], payload: undefined, headerOffset: 512,
 * };
 * assertEquals(unpackEntries(packEntries([entry])), [entry]);
 * ```
 */
export function packEntries(entries: readonly TarEntry[]): ArrayBuffer {
  const writer = new BatchWriter();
  for (const entry of entries) writer.addEntry(entry);
  return writer.finish(entries.length);
}

/** Unpacks a buffer made by {@linkcode packEntries}. The entries do not share memory with it. */
export function unpackEntries(buffer: ArrayBuffer): TarEntry[] {
  const reader = new BatchReader(buffer);
  const entries: TarEntry[] = [];
  for (let left = reader.entryCount; left > 0; left--) entries.push(reader.takeEntry());
  reader.finish();
  return entries;
}

class BatchWriter {
  #numbers = new Float64Array(FIRST_NUMBERS);
  #numberCount = HEAD_NUMBERS;
  readonly #texts: ByteString[] = [];
  readonly #values: Uint8Array[] = [];
  #valueBytes = 0;

  addEntry(entry: TarEntry): void {
    const { payload, xattrs } = entry;
    this.#reserve(ENTRY_NUMBERS + 2 * xattrs.length);
    this.#texts.push(entry.path, entry.linkTarget);
    this.#put(KINDS.indexOf(entry.kind));
    this.#put(entry.path.length);
    this.#put(entry.linkTarget.length);
    this.#put(entry.mode);
    this.#put(entry.uid);
    this.#put(entry.gid);
    this.#put(entry.mtimeSeconds);
    this.#put(entry.mtimeNanoseconds);
    this.#put(entry.deviceMajor);
    this.#put(entry.deviceMinor);
    this.#put(entry.headerOffset);
    this.#put(entry.firstLayer ?? NONE);
    this.#put(xattrs.length);
    this.#put(payload?.sizeBytes ?? NONE);
    for (const { name, value } of xattrs) {
      this.#texts.push(name);
      this.#put(name.length);
      this.#put(value.length);
      this.#values.push(value);
      this.#valueBytes += value.length;
    }
    if (payload !== undefined && payload.sizeBytes > 0) this.#addPayload(payload);
  }

  #addPayload({ contentHash, segments, dataRuns }: PayloadIndex): void {
    this.#reserve(3 + 3 * segments.length + 2 * dataRuns.length);
    this.#put(contentHash);
    this.#put(segments.length);
    this.#put(dataRuns.length);
    for (const { fileOffset, storeOffset, lengthBytes } of segments) {
      this.#put(fileOffset);
      this.#put(storeOffset);
      this.#put(lengthBytes);
    }
    for (const { startBlock, blockCount } of dataRuns) {
      this.#put(startBlock);
      this.#put(blockCount);
    }
  }

  #reserve(count: number): void {
    const needed = this.#numberCount + count;
    if (needed <= this.#numbers.length) return;
    const larger = new Float64Array(2 * needed);
    larger.set(this.#numbers);
    this.#numbers = larger;
  }

  #put(value: number): void {
    this.#numbers[this.#numberCount++] = value;
  }

  finish(entryCount: number): ArrayBuffer {
    const text = this.#texts.join("");
    const numbers = this.#numbers.subarray(0, this.#numberCount);
    numbers[0] = entryCount;
    numbers[1] = numbers.length;
    numbers[2] = text.length;
    const textStart = numbers.byteLength;
    const buffer = new ArrayBuffer(textStart + text.length + this.#valueBytes);
    new Float64Array(buffer, 0, numbers.length).set(numbers);
    Buffer.from(buffer).write(text, textStart, "latin1");
    let at = textStart + text.length;
    const bytes = new Uint8Array(buffer);
    for (const value of this.#values) {
      bytes.set(value, at);
      at += value.length;
    }
    return buffer;
  }
}

class BatchReader {
  readonly entryCount: number;
  readonly #numbers: Float64Array;
  readonly #text: ByteString;
  readonly #values: Uint8Array;
  #number = HEAD_NUMBERS;
  #character = 0;
  #value = 0;

  constructor(buffer: ArrayBuffer) {
    const [entryCount = 0, numberCount = 0, textBytes = 0] = new Float64Array(
      buffer,
      0,
      HEAD_NUMBERS,
    );
    this.entryCount = entryCount;
    this.#numbers = new Float64Array(buffer, 0, numberCount);
    const textStart = numberCount * Float64Array.BYTES_PER_ELEMENT;
    // Decode all text at once: one call per name would cost more than everything else.
    const textEnd = textStart + textBytes;
    this.#text = byteStringFromBytes(new Uint8Array(buffer), textStart, textEnd);
    this.#values = new Uint8Array(buffer, textEnd);
  }

  takeEntry(): TarEntry {
    const kind = KINDS[this.#takeNumber()]!;
    const pathLength = this.#takeNumber();
    const linkLength = this.#takeNumber();
    const entry = {
      kind,
      path: this.#takeText(pathLength),
      linkTarget: this.#takeText(linkLength),
      mode: this.#takeNumber(),
      uid: this.#takeNumber(),
      gid: this.#takeNumber(),
      mtimeSeconds: this.#takeNumber(),
      mtimeNanoseconds: this.#takeNumber(),
      deviceMajor: this.#takeNumber(),
      deviceMinor: this.#takeNumber(),
      xattrs: NO_XATTRS,
      payload: undefined as PayloadIndex | undefined,
      headerOffset: this.#takeNumber(),
    };
    const firstLayer = this.#takeNumber();
    const xattrCount = this.#takeNumber();
    const sizeBytes = this.#takeNumber();
    if (xattrCount > 0) entry.xattrs = this.#takeXattrs(xattrCount);
    if (sizeBytes > 0) entry.payload = this.#takePayload(sizeBytes);
    else if (sizeBytes === 0) entry.payload = EMPTY_PAYLOAD_INDEX;
    return firstLayer === NONE ? entry : { ...entry, firstLayer };
  }

  finish(): void {
    const isDone = this.#number === this.#numbers.length && this.#character === this.#text.length &&
      this.#value === this.#values.length;
    invariant(isDone, "a batch of entries holds these entries and nothing else");
  }

  #takeXattrs(count: number): Xattr[] {
    const xattrs: Xattr[] = [];
    for (let left = count; left > 0; left--) {
      const nameLength = this.#takeNumber();
      const valueEnd = this.#value + this.#takeNumber();
      const name = this.#takeText(nameLength);
      xattrs.push({ name, value: this.#values.slice(this.#value, valueEnd) });
      this.#value = valueEnd;
    }
    return xattrs;
  }

  #takePayload(sizeBytes: number): PayloadIndex {
    const contentHash = this.#takeNumber();
    const segmentCount = this.#takeNumber();
    const runCount = this.#takeNumber();
    const segments = segmentCount === 1
      ? [this.#takeSegment()]
      : Array.from({ length: segmentCount }, () => this.#takeSegment());
    return { sizeBytes, segments, dataRuns: this.#takeRuns(runCount), contentHash };
  }

  #takeSegment(): DataSegment {
    const fileOffset = this.#takeNumber();
    const storeOffset = this.#takeNumber();
    return { fileOffset, storeOffset, lengthBytes: this.#takeNumber() };
  }

  #takeRuns(count: number): readonly BlockRun[] {
    const takeRun = () => {
      const startBlock = this.#takeNumber();
      return { startBlock, blockCount: this.#takeNumber() };
    };
    if (count !== 1) return Array.from({ length: count }, takeRun);
    const run = takeRun();
    return run.startBlock === 0 ? runFromStart(run.blockCount) : [run];
  }

  #takeNumber(): number {
    return this.#numbers[this.#number++]!;
  }

  #takeText(length: number): ByteString {
    if (length === 0) return "";
    const start = this.#character;
    this.#character += length;
    return this.#text.slice(start, this.#character);
  }
}

/** Normalises a path in an archive: drops empty parts and `.`, resolves `..`; a leading slash is ignored. */
export function normalizeMemberPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}
