/**
 * Carrying a journal of changes into its image, whole or again.
 *
 * The order makes every state tell what it is. First the superblock gets a feature that nobody knows; when that is on
 * the disk, all else is written; when that is on the disk, the new superblock; and when that is, the journal goes. So an
 * image whose superblock is the old or the new one is whole, and one with the unknown feature is finished from the
 * journal. To write the same bytes again does no harm.
 *
 * @module
 */
import { dirname } from "node:path";
import { InputError } from "../../errors.ts";
import { descriptorReader } from "../../io/random_reader.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { ioErrorFrom } from "../../io/system_error.ts";
import { SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_SIZE_BYTES } from "../format/constants.ts";
import type { ChangeJournalHeader } from "./change_journal.ts";
import { readChangeJournalHeader, readChanges } from "./change_journal.ts";
import type { ImageFiles } from "./image_files.ts";
import { readPrimarySuperblock } from "./volume.ts";

/** Storage may write a part of a superblock, but never a part of a sector. */
const SECTOR_SIZE_BYTES = 512;

/** What a journal that is found means for its image. */
export type JournalState =
  /** Nothing was written yet. */
  | "unapplied"
  /** Some of it was written. */
  | "half"
  /** All of it was written. */
  | "applied"
  /** The image was changed since by somebody else: the journal is of no more use, nor was it missed. */
  | "stale";

/** Compares the image's superblock with those of a journal. */
export function journalState(image: RandomReader, header: ChangeJournalHeader): JournalState {
  if (image.sizeBytes !== header.imageSizeBytes) return "stale";
  const found = readPrimarySuperblock(image);
  if (equalBytes(found, header.oldSuperblock)) return "unapplied";
  if (equalBytes(found, header.newSuperblock)) return "applied";
  const known = [header.oldSuperblock, header.halfSuperblock, header.newSuperblock];
  for (let at = 0; at < SUPERBLOCK_SIZE_BYTES; at += SECTOR_SIZE_BYTES) {
    const sector = found.subarray(at, at + SECTOR_SIZE_BYTES);
    const isOurs = known.some((superblock) =>
      equalBytes(superblock.subarray(at, at + SECTOR_SIZE_BYTES), sector)
    );
    if (!isOurs) return "stale";
  }
  return "half";
}

/**
 * Writes everything that a journal holds into the image, and removes the journal.
 *
 * @throws InputError when the journal is damaged; then nothing was written
 * @throws IoError when writing fails; the next run goes on
 */
export async function applyJournal(
  imagePath: string,
  journal: RandomReader,
  journalPath: string,
  files: ImageFiles,
): Promise<void> {
  const header = readChangeJournalHeader(journal);
  // All of it is read before any of it is written.
  for (const _ of readChanges(journal, header.imageSizeBytes));
  const descriptor = open(imagePath, files);
  try {
    const writer = new ImageWriter(imagePath, descriptor, files);
    writer.write(header.halfSuperblock, SUPERBLOCK_OFFSET_BYTES);
    await writer.sync();
    for (const { offsetBytes, bytes } of readChanges(journal, header.imageSizeBytes)) {
      writer.write(bytes, offsetBytes);
    }
    await writer.sync();
    writer.write(header.newSuperblock, SUPERBLOCK_OFFSET_BYTES);
    await writer.sync();
  } finally {
    files.close(descriptor);
  }
  removeJournal(journalPath, files);
}

/** Removes a journal for good. */
export function removeJournal(journalPath: string, files: ImageFiles): void {
  try {
    files.unlink(journalPath);
  } catch (cause) {
    throw ioErrorFrom(journalPath, "cannot be removed", cause);
  }
  try {
    files.syncDirectory(dirname(journalPath));
  } catch {
    // Some file systems cannot sync a directory. A journal that comes back is found to be applied.
  }
}

/** Reads the journal at a path; undefined when there is none. */
export function openJournal(journalPath: string, files: ImageFiles): RandomReader | undefined {
  let descriptor: number;
  try {
    descriptor = files.openForUpdate(journalPath);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw ioErrorFrom(journalPath, "cannot be opened", cause);
  }
  const reader = descriptorReader(descriptor, journalPath, Number.MAX_SAFE_INTEGER);
  return { ...reader, close: () => files.close(descriptor) };
}

/** The error for a journal that cannot be used with an image that is half switched. */
export function lostJournal(imagePath: string, journalPath: string): InputError {
  return new InputError(
    imagePath,
    `a switch of its checksums was interrupted, and the rest of it is not in ${journalPath}`,
    { hint: "put that file back and run the command again, or take a copy of the image" },
  );
}

class ImageWriter {
  readonly #path: string;
  readonly #descriptor: number;
  readonly #files: ImageFiles;

  constructor(path: string, descriptor: number, files: ImageFiles) {
    this.#path = path;
    this.#descriptor = descriptor;
    this.#files = files;
  }

  write(bytes: Uint8Array, offsetBytes: number): void {
    for (let done = 0; done < bytes.length;) {
      const at = offsetBytes + done;
      try {
        done += this.#files.write(this.#descriptor, bytes.subarray(done), at);
      } catch (cause) {
        throw this.#halfDone(`cannot be written at offset ${at}`, cause);
      }
    }
  }

  async sync(): Promise<void> {
    try {
      await this.#files.sync(this.#descriptor);
    } catch (cause) {
      throw this.#halfDone("cannot be brought to the disk", cause);
    }
  }

  #halfDone(doing: string, cause: unknown): Error {
    return ioErrorFrom(this.#path, `${doing} (run the command again to go on)`, cause);
  }
}

function open(path: string, files: ImageFiles): number {
  try {
    return files.openForUpdate(path);
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened for writing", cause);
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
