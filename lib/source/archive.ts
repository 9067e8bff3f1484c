/**
 * An image archive that is open: its members, which are read in place, and the file that they lie in. A compressed archive is
 * inflated to a spool first, because its index may come last.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import { parseDigest } from "../io/digest.ts";
import type { RandomReader } from "../io/random_reader.ts";
import { normalizeMemberPath, type TarEntry } from "../tar/entry.ts";
import { TarIndexer } from "../tar/indexer.ts";
import type { TarLimits } from "../tar/limits.ts";
import type { WarnCallback } from "../tar/pax.ts";
import { type BlobStore, missingBlob } from "./blobs.ts";
import { contentFault, isCompressed, isTarHeader, storedHead } from "./content.ts";
import { checkSize, type Descriptor } from "./documents.ts";
import { displayText } from "./json.ts";
import { loadAlone, reportWarnings } from "./layers/load_layers.ts";
import type { DocumentLimit } from "./limits.ts";
import { fileReader, readSmallPart, type SourceFile, storedPart } from "./source_file.ts";
import { once, treeLayer } from "./tree_image.ts";
import type { ResolvedOptions, StoredFile } from "./types.ts";

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
const WINDOW_BYTES = 64 << 10;

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
          { code: "unsupported" },
        );
      }
      if (member.kind === "other") {
        throw new InputError(what, "is not a regular file", { code: "wrongKind" });
      }
      at = member.path;
    }
    const what = `${this.name}: ${displayText(path)}`;
    throw new InputError(what, `more than ${MAX_LINK_HOPS} links follow one another`, {
      code: "limitExceeded",
    });
  }
}

/** How an archive is scanned. */
export interface ScanOptions {
  readonly tarLimits?: Partial<TarLimits> | undefined;
  readonly ignoreZeros?: boolean | undefined;
  /** Called for bytes behind the end marker. */
  readonly warn?: WarnCallback | undefined;
}

/**
 * Scans the headers of an uncompressed archive; the bytes of its files are passed over.
 *
 * @throws {InputError} when it is damaged
 */
export function scanArchive(
  reader: RandomReader,
  { tarLimits = {}, ignoreZeros = false, warn }: ScanOptions = {},
): ArchiveMembers {
  const members = new Map<string, Member>();
  const indexer = new TarIndexer({
    name: reader.name,
    emit: (entry) => members.set(normalizeMemberPath(entry.path), memberOf(entry)),
    // What is odd about the archive's own entries does not matter: nothing of them gets into an image.
    warn: (kind, what, why) => {
      if (kind === "trailingBytes") warn?.(kind, what, why);
    },
    limits: tarLimits,
    scanPayload: false,
    ignoreZeros,
  });
  const window = new Uint8Array(WINDOW_BYTES);
  for (let position = 0; position < reader.sizeBytes;) {
    const skipped = Math.min(indexer.skippableBytes, reader.sizeBytes - position);
    indexer.skip(skipped);
    position += skipped;
    const count = reader.readAt(window, position);
    if (count === 0) break;
    indexer.push(window.subarray(0, count));
    position += count;
  }
  indexer.end();
  return new ArchiveMembers(reader.name, members);
}

function memberOf(entry: TarEntry): Member {
  switch (entry.kind) {
    case "file": {
      const { sizeBytes, segments } = entry.payload!;
      const [first, ...others] = segments;
      if (sizeBytes > 0 && (first?.lengthBytes !== sizeBytes || others.length > 0)) {
        return { kind: "sparse" };
      }
      return { kind: "file", offsetBytes: first?.storeOffset ?? 0, lengthBytes: sizeBytes };
    }
    case "hardlink":
      return { kind: "link", path: normalizeMemberPath(entry.linkTarget) };
    case "symlink":
      return { kind: "link", path: linkedPath(entry.path, entry.linkTarget) };
    default:
      return { kind: "other" };
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

  has(descriptor: Descriptor): boolean {
    return descriptor.data !== undefined || this.#archive.members.has(blobPath(descriptor));
  }

  close(): void {
    this.#archive.close();
  }
}

/** Opens an archive, compressed or not. Takes over the file, also when that fails. */
export async function openArchive(file: SourceFile, options: ResolvedOptions): Promise<Archive> {
  const plain = await inflated(file, options);
  try {
    const head = storedHead(plain);
    if (!isTarHeader(head)) throw contentFault(file.name, head, "an image archive");
    return scanned(plain, options, (kind, what, why) => options.warnings.add(kind, what, why));
  } catch (error) {
    plain.file.release();
    throw error;
  }
}

/** The archive in an uncompressed file. It takes over the file when that works. */
export function scanned(
  file: SourceFile,
  { tarLimits, ignoreZeros }: ResolvedOptions,
  warn: WarnCallback,
): Archive {
  const reader = fileReader(file);
  try {
    const options = { tarLimits: tarLimits ?? {}, ignoreZeros: ignoreZeros ?? false, warn };
    return new Archive(file, scanArchive(reader, options));
  } finally {
    reader.close();
  }
}

/** The file itself, or what is in it if it is compressed. Takes over the file, also when that fails. */
export async function inflated(file: SourceFile, options: ResolvedOptions): Promise<SourceFile> {
  const { name, sizeBytes } = file;
  try {
    if (!isCompressed(file)) return file;
  } catch (error) {
    file.file.release();
    throw error;
  }
  try {
    const stored = storedPart(file, 0, sizeBytes);
    const read = await loadAlone(treeLayer({ name, sizeBytes, stored, content: "bytes" }), options);
    try {
      reportWarnings(read, options.warnings);
    } catch (error) {
      read.file.release();
      throw error;
    }
    return { name, file: read.file, sizeBytes: read.facts.uncompressedBytes };
  } finally {
    file.file.release();
  }
}

function blobPath(descriptor: Descriptor): string {
  const { algorithm, hex } = parseDigest(descriptor.digest, "descriptor");
  return `blobs/${algorithm}/${hex}`;
}
