/**
 * The members of an image archive: only its headers are read, so that blobs can be read in place.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";
import {
  blockSize,
  type EntryHeader,
  readEntryHeader,
  type ReaderContext,
} from "../tar/entry_header.ts";
import { ExtensionCollector, isExtension } from "../tar/extensions.ts";
import { limitFault, tarFault, type TarPlace } from "../tar/fault.ts";
import { HEADER_FIELDS, paddedSizeBytes, TAR_BLOCK_SIZE_BYTES, TYPE_FLAG } from "../tar/format.ts";
import { checkHeaderSum, isZeroBlock } from "../tar/header.ts";
import { DEFAULT_TAR_LIMITS, type TarLimits } from "../tar/limits.ts";
import { OldSparseMapReader } from "../tar/sparse.ts";
import { displayText } from "./json.ts";

/** Where a file's bytes lie in the archive. */
export interface MemberFile {
  readonly kind: "file";
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

type Member =
  | MemberFile
  | { readonly kind: "link"; readonly path: string }
  | { readonly kind: "sparse" }
  | { readonly kind: "other" };

/** docker save writes a repeated layer as a link; chains are short. */
const MAX_LINK_HOPS = 16;
const HEADER_READ_BYTES = 64 << 10;

/** The members of an archive by their normalised paths. */
export class ArchiveMembers {
  readonly name: string;
  readonly #members: ReadonlyMap<string, Member>;

  /** @param name the archive's name in errors */
  constructor(name: string, members: ReadonlyMap<string, Member>) {
    this.name = name;
    this.#members = members;
  }

  /** Whether anything but a directory or a device is there under that very path. */
  has(path: string): boolean {
    const kind = this.#members.get(normalizeMemberPath(path))?.kind;
    return kind !== undefined && kind !== "other";
  }

  /**
   * The file at a path, links followed; undefined when there is none.
   *
   * @throws {InputError} when the links go round, or the file is stored in a way that it cannot be read in place
   */
  find(path: string): MemberFile | undefined {
    let at = normalizeMemberPath(path);
    for (let hops = 0; hops <= MAX_LINK_HOPS; hops++) {
      const member = this.#members.get(at);
      if (!member) return undefined;
      if (member.kind === "file") return member;
      const what = `${this.name}: ${displayText(at)}`;
      if (member.kind === "sparse") {
        throw new InputError(what, "is stored as a sparse file: make the archive without --sparse");
      }
      if (member.kind === "other") throw new InputError(what, "is no regular file");
      at = member.path;
    }
    const what = `${this.name}: ${displayText(path)}`;
    throw new InputError(what, `more than ${MAX_LINK_HOPS} links follow one another`);
  }
}

/**
 * Scans the headers of an uncompressed archive.
 *
 * @throws {InputError} when it is damaged
 */
export function scanArchive(reader: RandomReader, limits: Partial<TarLimits> = {}): ArchiveMembers {
  const scanner = new Scanner(reader, { ...DEFAULT_TAR_LIMITS, ...limits });
  return new ArchiveMembers(reader.name, scanner.run());
}

/** A path inside an archive without empty parts, `.` and `..`; a leading slash means nothing. */
export function normalizeMemberPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

class Scanner {
  readonly #reader: RandomReader;
  readonly #limits: TarLimits;
  readonly #context: ReaderContext;
  readonly #extensions: ExtensionCollector;
  readonly #members = new Map<string, Member>();
  readonly #window = new Uint8Array(HEADER_READ_BYTES);
  #windowStart = 0;
  #windowLength = 0;
  #headerCount = 0;
  #position = 0;

  constructor(reader: RandomReader, limits: TarLimits) {
    this.#reader = reader;
    this.#limits = limits;
    // What is odd about the archive's own entries does not matter: nothing of them gets into an image.
    this.#context = { limits, warn: () => {} };
    this.#extensions = new ExtensionCollector(this.#context);
  }

  run(): Map<string, Member> {
    for (let zeroBlocks = 0; zeroBlocks < 2;) {
      if (this.#position === this.#reader.sizeBytes) break;
      const block = this.#read(this.#position, TAR_BLOCK_SIZE_BYTES);
      if (isZeroBlock(block, 0)) {
        zeroBlocks++;
        this.#position += TAR_BLOCK_SIZE_BYTES;
        continue;
      }
      zeroBlocks = 0;
      this.#readHeader(block);
    }
    return this.#members;
  }

  #readHeader(block: Uint8Array): void {
    const place: TarPlace = { tarName: this.#reader.name, headerOffset: this.#position, path: "" };
    checkHeaderSum(block, 0, place);
    const limit = this.#limits.layerHeaders;
    if (++this.#headerCount > limit) {
      throw limitFault(place, "the number of headers", "layerHeaders", this.#headerCount, limit);
    }
    const flag = block[HEADER_FIELDS.typeFlag.offset]!;
    this.#position += TAR_BLOCK_SIZE_BYTES;
    if (isExtension(flag)) return this.#readExtension(flag, blockSize(block, 0, place), place);
    if (flag === TYPE_FLAG.gnuVolumeLabel) return this.#pass(blockSize(block, 0, place), place);
    const header = readEntryHeader(block, 0, this.#extensions.take(), place, this.#context);
    if (header.sparse?.kind === "oldMap") this.#passOldMap(block, place);
    this.#members.set(normalizeMemberPath(header.entry.path), this.#member(header));
    this.#pass(header.storedSizeBytes, place);
  }

  #member({ entry, storedSizeBytes, sparse }: EntryHeader): Member {
    switch (entry.kind) {
      case "file":
        if (sparse) return { kind: "sparse" };
        return { kind: "file", offsetBytes: this.#position, lengthBytes: storedSizeBytes };
      case "hardlink":
        return { kind: "link", path: normalizeMemberPath(entry.linkTarget) };
      case "symlink":
        return { kind: "link", path: linkedPath(entry.path, entry.linkTarget) };
      default:
        return { kind: "other" };
    }
  }

  #readExtension(flag: number, sizeBytes: number, place: TarPlace): void {
    this.#extensions.begin(flag, sizeBytes, place);
    for (let at = this.#position; this.#extensions.missing > 0;) {
      const count = Math.min(this.#extensions.missing, HEADER_READ_BYTES);
      this.#extensions.push(this.#read(at, count), 0);
      at += count;
    }
    this.#pass(sizeBytes, place);
  }

  /** The map of an old GNU sparse file may go on in blocks of its own, which its size does not count. */
  #passOldMap(block: Uint8Array, place: TarPlace): void {
    const map = new OldSparseMapReader(block, 0, place, this.#limits);
    while (map.expectsMore) {
      map.push(this.#read(this.#position, TAR_BLOCK_SIZE_BYTES), 0);
      this.#position += TAR_BLOCK_SIZE_BYTES;
    }
  }

  #pass(sizeBytes: number, place: TarPlace): void {
    if (sizeBytes > this.#reader.sizeBytes - this.#position) {
      throw tarFault(
        place,
        `the archive ends at offset ${this.#reader.sizeBytes}: its data ends at ${
          this.#position + sizeBytes
        }`,
      );
    }
    // Padding after the last member may be missing.
    this.#position = Math.min(
      this.#position + paddedSizeBytes(sizeBytes),
      this.#reader.sizeBytes,
    );
  }

  /** Bytes of the archive; they are good until the next read. */
  #read(position: number, lengthBytes: number): Uint8Array {
    const end = this.#windowStart + this.#windowLength;
    if (position < this.#windowStart || position + lengthBytes > end) {
      this.#windowStart = position;
      this.#windowLength = this.#reader.readAt(this.#window, position);
    }
    const from = position - this.#windowStart;
    if (from + lengthBytes > this.#windowLength) {
      throw new InputError(
        this.#reader.name,
        `ends at offset ${this.#windowStart + this.#windowLength}, in the middle of a header`,
      );
    }
    return this.#window.subarray(from, from + lengthBytes);
  }
}

function linkedPath(path: ByteString, target: ByteString): string {
  return normalizeMemberPath(target.startsWith("/") ? target : `${path}/../${target}`);
}
