/**
 * Collects the extended headers before an entry: PAX records and GNU long names.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { EntryExtensions, ReaderContext } from "./entry_header.ts";
import type { TarPlace } from "./fault.ts";
import { describePlace, limitFault, quoted, tarFault } from "./fault.ts";
import { TYPE_FLAG } from "./format.ts";
import { cString } from "./header.ts";
import type { PaxRecords } from "./pax.ts";
import { forEachPaxRecord, isUnsupportedKey, readPaxRecords } from "./pax.ts";

/** The first buffer; it doubles from there as data arrives, so a large size alone costs nothing. */
const FIRST_BUFFER_SIZE_BYTES = 4096;

/** Whether a header with this type flag extends the entry that comes after it, or all of them. */
export function isExtension(flag: number): boolean {
  return flag === TYPE_FLAG.paxEntry || flag === TYPE_FLAG.solarisPaxEntry ||
    flag === TYPE_FLAG.paxGlobal || flag === TYPE_FLAG.gnuLongName ||
    flag === TYPE_FLAG.gnuLongLink;
}

/** Collects what extended headers say until an entry takes it. */
export class ExtensionCollector {
  readonly #context: ReaderContext;
  #totalBytes = 0;

  // The extended header that is being read.
  #flag = 0;
  #place: TarPlace | undefined;
  #wanted = 0;
  #buffer = new Uint8Array(FIRST_BUFFER_SIZE_BYTES);
  #length = 0;

  // What they said so far.
  #pax: PaxRecords | undefined;
  #longPath: ByteString = "";
  #longLinkTarget: ByteString = "";
  #firstHeaderOffset: number | undefined;

  constructor(context: ReaderContext) {
    this.#context = context;
  }

  /** Bytes of the current header's data that are still to come. */
  get missing(): number {
    return this.#wanted - this.#length;
  }

  /** Where the first header lies that no entry has taken yet. */
  get firstHeaderOffset(): number | undefined {
    return this.#firstHeaderOffset;
  }

  /** Starts on the data of an extended header. Errors: InputError when it goes beyond a limit. */
  begin(flag: number, sizeBytes: number, place: TarPlace): void {
    const { extendedHeaderBytes, extendedHeaderTotalBytes } = this.#context.limits;
    if (sizeBytes > extendedHeaderBytes) {
      const what = "the size of an extended header";
      throw limitFault(place, what, "extendedHeaderBytes", sizeBytes, extendedHeaderBytes);
    }
    this.#totalBytes += sizeBytes;
    if (this.#totalBytes > extendedHeaderTotalBytes) {
      const what = "the size of all extended headers";
      const limit = extendedHeaderTotalBytes;
      throw limitFault(place, what, "extendedHeaderTotalBytes", this.#totalBytes, limit);
    }
    this.#flag = flag;
    this.#place = place;
    this.#wanted = sizeBytes;
    this.#length = 0;
    // A global header belongs to no entry.
    if (flag !== TYPE_FLAG.paxGlobal) this.#firstHeaderOffset ??= place.headerOffset;
    if (sizeBytes === 0) this.#read(this.#buffer, 0, 0, place);
  }

  /** Takes what belongs to the data from `chunk[at...]`; returns how much that was. Errors: InputError. */
  push(chunk: Uint8Array, at: number): number {
    const taken = Math.min(this.missing, chunk.length - at);
    const isWhole = taken === this.#wanted; // then it need not be copied
    if (!isWhole) {
      this.#grow(this.#length + taken);
      this.#buffer.set(chunk.subarray(at, at + taken), this.#length);
    }
    this.#length += taken;
    if (this.missing === 0) {
      if (isWhole) this.#read(chunk, at, at + taken, this.#place!);
      else this.#read(this.#buffer, 0, this.#length, this.#place!);
    }
    return taken;
  }

  /** What the headers said since this was last called. */
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

  /** Takes the data of a header, `bytes[start, end)`. Of several headers of a kind the last one counts. */
  #read(bytes: Uint8Array, start: number, end: number, place: TarPlace): void {
    switch (this.#flag) {
      case TYPE_FLAG.gnuLongName:
        this.#longPath = cString(bytes, start, end);
        return;
      case TYPE_FLAG.gnuLongLink:
        this.#longLinkTarget = cString(bytes, start, end);
        return;
      case TYPE_FLAG.paxGlobal:
        this.#readGlobal(bytes.subarray(start, end), place);
        return;
      default:
        this.#pax = readPaxRecords(bytes, place, start, end);
    }
  }

  /** Passed over, as docker and containerd do; it is told of when it would have changed anything. */
  #readGlobal(data: Uint8Array, place: TarPlace): void {
    forEachPaxRecord(data, place, (key, start, end) => {
      if (start === end || key === "comment") return;
      if (isUnsupportedKey(key)) {
        throw tarFault(place, `its PAX record ${quoted(key)} is not supported`);
      }
      const why = `the record ${quoted(key)} of a global PAX header is passed over`;
      this.#context.warn("globalHeader", describePlace(place), why);
    });
  }

  #grow(sizeBytes: number): void {
    if (sizeBytes <= this.#buffer.length) return;
    const larger = new Uint8Array(Math.max(sizeBytes, this.#buffer.length * 2));
    larger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = larger;
  }
}
