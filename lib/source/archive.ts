/**
 * An image archive that is open: its members, and the file that they lie in. A compressed archive is inflated to a spool
 * first, because its index may come last.
 *
 * @module
 */
import { parseDigest } from "../io/digest.ts";
import { SNIFF_BYTES, sniffCompression } from "../io/inflate.ts";
import { Warnings } from "../warnings.ts";
import { type ArchiveMembers, scanArchive } from "./archive_members.ts";
import { type BlobStore, missingBlob } from "./blob_store.ts";
import { checkSize, type Descriptor } from "./descriptor.ts";
import { displayText } from "./json.ts";
import { loadAlone } from "./load_alone.ts";
import type { DocumentLimit } from "./limits.ts";
import { fileReader, readSmallPart, type SourceFile, storedPart } from "./source_file.ts";
import { once, treeLayer } from "./tar_file.ts";
import type { SourceOptions, StoredFile } from "./types.ts";

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
