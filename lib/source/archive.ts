/**
 * An image archive that is open: its members, which are read in place, and the file that they lie in. A compressed archive is
 * inflated to a spool first, because its index may come last.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import { parseDigest } from "../io/digest.ts";
import { SNIFF_BYTES, sniffCompression } from "../io/inflate.ts";
import type { RandomReader } from "../io/random_reader.ts";
import {
  blockSize,
  type EntryHeader,
  ExtensionCollector,
  isExtension,
  readEntryHeader,
  type ReaderContext,
} from "../tar/entry_header.ts";
import {
  checkHeaderSum,
  HEADER_FIELDS,
  isZeroBlock,
  paddedSizeBytes,
  TAR_BLOCK_SIZE_BYTES,
  TYPE_FLAG,
} from "../tar/header.ts";
import {
  DEFAULT_TAR_LIMITS,
  limitFault,
  tarFault,
  type TarLimits,
  type TarPlace,
} from "../tar/limits.ts";
import { OldSparseMapReader } from "../tar/sparse.ts";
import { Warnings } from "../warnings.ts";
import { type BlobStore, missingBlob } from "./blobs.ts";
import { checkSize, type Descriptor } from "./documents.ts";
import { displayText } from "./json.ts";
import { loadAlone } from "./layers/load_layers.ts";
import type { DocumentLimit } from "./limits.ts";
import { fileReader, readSmallPart, type SourceFile, storedPart } from "./source_file.ts";
import { once, treeLayer } from "./tree_image.ts";
import type { SourceOptions, StoredFile } from "./types.ts";

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
        throw new InputError(
          what,
          "is stored as a sparse file: make the archive again with plain files",
        );
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

/** An archive whose members can be read in place. */
export class Archive {
  readonly name: string;
  readonly members: ArchiveMembers;
  /** Gives the file back; layers that are open stay so. */
  readonly close: () => void;
  readonly #file: SourceFile;
  readonly #stored = new Map<number, StoredFile>();

  /** @param file uncompressed; the archive releases it */
  constructor(file: SourceFile, members: ArchiveMembers) {
    this.name = file.name;
    this.members = members;
    this.#file = file;
    this.close = once(() => file.file.release());
  }

  /** A small member, whole; undefined when it is not there. */
  readSmall(
    path: string,
    limitBytes: number,
    limitName?: DocumentLimit,
  ): Uint8Array | undefined {
    const member = this.members.find(path);
    if (!member) return undefined;
    const part = { ...this.#file, name: `${this.name}: ${displayText(path)}` };
    const { offsetBytes, lengthBytes } = member;
    return readSmallPart(part, offsetBytes, lengthBytes, limitBytes, limitName);
  }

  /** A member as a layer's stored bytes: the same object for the same bytes, whatever path led there. */
  stored(path: string): StoredFile | undefined {
    const member = this.members.find(path);
    if (!member) return undefined;
    const { offsetBytes, lengthBytes } = member;
    // An empty member takes no room, and the next one begins where it does.
    if (lengthBytes === 0) return storedPart(this.#file, offsetBytes, 0);
    let stored = this.#stored.get(offsetBytes);
    if (!stored) {
      stored = storedPart(this.#file, offsetBytes, lengthBytes);
      this.#stored.set(offsetBytes, stored);
    }
    return stored;
  }
}

/** The blobs of a layout that lies in an archive. */
export class ArchiveBlobs implements BlobStore {
  readonly name: string;
  readonly #archive: Archive;

  constructor(archive: Archive) {
    this.#archive = archive;
    this.name = archive.name;
  }

  read(descriptor: Descriptor): Promise<Uint8Array> {
    const bytes = this.#archive.readSmall(blobPath(descriptor), descriptor.sizeBytes);
    if (!bytes) return Promise.reject(missingBlob(descriptor, this.name));
    return Promise.resolve(bytes);
  }

  locate(descriptor: Descriptor): StoredFile {
    const stored = this.#archive.stored(blobPath(descriptor));
    if (!stored) throw missingBlob(descriptor, this.name);
    checkSize(stored.lengthBytes, descriptor.sizeBytes, `${this.name}: ${blobPath(descriptor)}`);
    return stored;
  }

  close(): void {
    this.#archive.close();
  }
}

/** Opens an archive, compressed or not. Takes over the file, also when that fails. */
export async function openArchive(file: SourceFile, options: SourceOptions): Promise<Archive> {
  let plain = file;
  try {
    if (isCompressed(file)) plain = await inflated(file, options);
    return scanned(plain, options);
  } catch (error) {
    plain.file.release();
    throw error;
  }
}

/** The archive in an uncompressed file. It takes over the file when that works. */
export function scanned(file: SourceFile, options: SourceOptions): Archive {
  const reader = fileReader(file);
  try {
    return new Archive(file, scanArchive(reader, options.tarLimits));
  } finally {
    reader.close();
  }
}

/** Whether a file's first bytes are those of a known compression. */
export function isCompressed(file: SourceFile): boolean {
  const head = readSmallPart(file, 0, Math.min(SNIFF_BYTES, file.sizeBytes), SNIFF_BYTES);
  return sniffCompression(head) !== "none";
}

async function inflated(file: SourceFile, options: SourceOptions): Promise<SourceFile> {
  const { name, sizeBytes } = file;
  const layer = treeLayer({ name, sizeBytes, stored: storedPart(file, 0, sizeBytes) });
  // What is odd about the archive's own entries does not matter: nothing of them gets into an image.
  const read = await loadAlone(layer, { ...options, warnings: new Warnings() });
  file.file.release();
  return { name, file: read.file, sizeBytes: read.facts.uncompressedBytes };
}

function blobPath(descriptor: Descriptor): string {
  const { algorithm, hex } = parseDigest(descriptor.digest, "descriptor");
  return `blobs/${algorithm}/${hex}`;
}
