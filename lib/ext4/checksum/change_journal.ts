/**
 * The file beside an image that holds all new bytes before any of them is written to the image. If a switch is
 * interrupted, the next run uses it to finish.
 *
 * Layout, little-endian: a header block with magic, the image's size and the direction; three superblocks: the image's
 * old one, the one it has while half switched, and the new one; then records, each a 16-byte head (offset, length,
 * CRC-32C of offset, length and bytes) followed by the bytes; last, a record without bytes whose offset is the number
 * of records.
 *
 * The order of writes makes every state recognizable. First the superblock gets an unknown feature; once that is on
 * disk, everything else is written; then the new superblock; then the journal is removed. So an image with the old or
 * the new superblock is whole, and one with the unknown feature is finished from the journal. Writing the same bytes
 * twice does no harm.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { openSync } from "node:fs";
import { dirname } from "node:path";
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError } from "../../errors.ts";
import { type FileOperations, NODE_FILE_OPERATIONS } from "../../io/file_sink.ts";
import { descriptorReader, type RandomReader, readExactly } from "../../io/random_reader.ts";
import type { ImageSink } from "../../io/sink.ts";
import { ioErrorFrom } from "../../io/system_error.ts";
import { CRC32C_START } from "../format/checksum.ts";
import { SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_SIZE_BYTES } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";

/** Operations on the image and the journal beside it. Every call throws the runtime's own error. */
export interface ImageFiles extends FileOperations {
  /** Opens an existing file for reading and writing. */
  openForUpdate(path: string): number;
}

/** The file system of this machine. */
export const NODE_IMAGE_FILES: ImageFiles = {
  ...NODE_FILE_OPERATIONS,
  openForUpdate: (path) => openSync(path, "r+"),
};

export interface ChangeJournalHeader {
  readonly imageSizeBytes: number;
  readonly enable: boolean;
  readonly oldSuperblock: Uint8Array;
  readonly halfSuperblock: Uint8Array;
  readonly newSuperblock: Uint8Array;
}

const MAGIC = "blessfs checksum changes 1\n";
const HEADER_SIZE_BYTES = 1024;
const FIRST_RECORD_OFFSET = HEADER_SIZE_BYTES + 3 * SUPERBLOCK_SIZE_BYTES;
const RECORD_HEAD_SIZE_BYTES = 16;
/** The longest record; larger changes are split. */
export const RECORD_SIZE_BYTES_MAX = 1 << 20;

const AT = { magic: 0, imageSize: 32, enable: 40, checksum: 44 } as const;

/**
 * Writes a journal in one ascending pass. The sink gives the file its name once it is complete; only then does it
 * count.
 */
export class ChangeJournalWriter {
  readonly #sink: ImageSink;
  #offset = FIRST_RECORD_OFFSET;
  #recordCount = 0;
  #changedBytes = 0;

  private constructor(sink: ImageSink) {
    this.#sink = sink;
  }

  static async begin(sink: ImageSink, header: ChangeJournalHeader): Promise<ChangeJournalWriter> {
    await sink.write(encodeHeader(header), 0);
    return new ChangeJournalWriter(sink);
  }

  get changedBytes(): number {
    return this.#changedBytes;
  }

  /** Adds new bytes for a position in the image. */
  async add(offsetBytes: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += RECORD_SIZE_BYTES_MAX) {
      const part = bytes.subarray(at, at + RECORD_SIZE_BYTES_MAX);
      const head = encodeRecordHead(offsetBytes + at, part);
      await this.#sink.write(head, this.#offset);
      await this.#sink.write(part, this.#offset + head.length);
      this.#offset += head.length + part.length;
      this.#recordCount++;
      this.#changedBytes += part.length;
    }
  }

  /** Ends the journal. Once the promise resolves, the change will happen. */
  async commit(): Promise<void> {
    const end = encodeRecordHead(this.#recordCount, new Uint8Array(0));
    await this.#sink.write(end, this.#offset);
    await this.#sink.finish(this.#offset + end.length);
  }
}

function encodeHeader(header: ChangeJournalHeader): Uint8Array {
  const encoded = new Uint8Array(FIRST_RECORD_OFFSET);
  const view = viewOf(encoded);
  for (let i = 0; i < MAGIC.length; i++) encoded[AT.magic + i] = MAGIC.charCodeAt(i);
  setUint64(view, AT.imageSize, header.imageSizeBytes);
  view.setUint32(AT.enable, header.enable ? 1 : 0, true);
  const superblocks = [header.oldSuperblock, header.halfSuperblock, header.newSuperblock];
  superblocks.forEach((superblock, i) => {
    encoded.set(superblock, HEADER_SIZE_BYTES + i * SUPERBLOCK_SIZE_BYTES);
  });
  view.setUint32(AT.checksum, crc32c(CRC32C_START, encoded), true);
  return encoded;
}

function encodeRecordHead(offset: number, bytes: Uint8Array): Uint8Array {
  const head = new Uint8Array(RECORD_HEAD_SIZE_BYTES);
  const view = viewOf(head);
  setUint64(view, 0, offset);
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, crc32c(CRC32C_START, head.subarray(0, 12), bytes), true);
  return head;
}

function setUint64(view: DataView, at: number, value: number): void {
  view.setBigUint64(at, BigInt(value), true);
}

function getUint64(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

/**
 * Reads the header of a journal.
 *
 * @throws InputError if it is not a journal, or is damaged
 */
export function readChangeJournalHeader(reader: RandomReader): ChangeJournalHeader {
  const encoded = new Uint8Array(FIRST_RECORD_OFFSET);
  readExactly(reader, encoded, 0);
  const view = viewOf(encoded);
  for (let i = 0; i < MAGIC.length; i++) {
    if (encoded[AT.magic + i] !== MAGIC.charCodeAt(i)) {
      throw new InputError(reader.name, "does not begin as a journal of checksum changes does");
    }
  }
  const stored = view.getUint32(AT.checksum, true);
  view.setUint32(AT.checksum, 0, true);
  if (crc32c(CRC32C_START, encoded) !== stored) {
    throw new InputError(reader.name, "its header does not match its checksum");
  }
  const superblock = (i: number) => {
    const at = HEADER_SIZE_BYTES + i * SUPERBLOCK_SIZE_BYTES;
    return encoded.slice(at, at + SUPERBLOCK_SIZE_BYTES);
  };
  return {
    imageSizeBytes: getUint64(view, AT.imageSize),
    enable: view.getUint32(AT.enable, true) === 1,
    oldSuperblock: superblock(0),
    halfSuperblock: superblock(1),
    newSuperblock: superblock(2),
  };
}

/**
 * Yields all records of a journal in order; the bytes are valid until the next one is requested.
 *
 * @throws InputError if a record is damaged or lies outside the image, or the end is missing
 */
export function* readChanges(
  reader: RandomReader,
  imageSizeBytes: number,
): Generator<{ readonly offsetBytes: number; readonly bytes: Uint8Array }> {
  const head = new Uint8Array(RECORD_HEAD_SIZE_BYTES);
  const buffer = new Uint8Array(RECORD_SIZE_BYTES_MAX);
  const view = viewOf(head);
  let offset = FIRST_RECORD_OFFSET;
  for (let recordCount = 0;; recordCount++) {
    readExactly(reader, head, offset);
    const offsetBytes = getUint64(view, 0);
    const lengthBytes = view.getUint32(8, true);
    const fault = (why: string) => new InputError(reader.name, `its record at ${offset} ${why}`);
    if (lengthBytes > RECORD_SIZE_BYTES_MAX) throw fault(`is ${lengthBytes} bytes long`);
    const bytes = buffer.subarray(0, lengthBytes);
    readExactly(reader, bytes, offset + head.length);
    const computed = crc32c(CRC32C_START, head.subarray(0, 12), bytes);
    if (computed !== view.getUint32(12, true)) throw fault("does not match its checksum");
    if (lengthBytes === 0) {
      if (offsetBytes === recordCount) return;
      throw fault(`counts ${offsetBytes} records, and there are ${recordCount}`);
    }
    if (offsetBytes + lengthBytes > imageSizeBytes) throw fault("lies outside of the image");
    yield { offsetBytes, bytes };
    offset += head.length + lengthBytes;
  }
}

export function readPrimarySuperblock(reader: RandomReader): Uint8Array {
  const encoded = new Uint8Array(SUPERBLOCK_SIZE_BYTES);
  readExactly(reader, encoded, SUPERBLOCK_OFFSET_BYTES);
  return encoded;
}

/** Storage may write part of a superblock, but never part of a sector. */
const SECTOR_SIZE_BYTES = 512;

/** What a journal means for its image. */
export type JournalState =
  /** Nothing has been written yet. */
  | "unapplied"
  /** Some of it has been written. */
  | "half"
  /** All of it has been written. */
  | "applied"
  /** Something else changed the image since: the journal is useless, and was not needed. */
  | "stale";

export function journalState(image: RandomReader, header: ChangeJournalHeader): JournalState {
  if (image.sizeBytes !== header.imageSizeBytes) return "stale";
  const found = readPrimarySuperblock(image);
  const isEqual = (known: Uint8Array, at = 0, end = SUPERBLOCK_SIZE_BYTES) =>
    Buffer.compare(found.subarray(at, end), known.subarray(at, end)) === 0;
  if (isEqual(header.oldSuperblock)) return "unapplied";
  if (isEqual(header.newSuperblock)) return "applied";
  const known = [header.oldSuperblock, header.halfSuperblock, header.newSuperblock];
  for (let at = 0; at < SUPERBLOCK_SIZE_BYTES; at += SECTOR_SIZE_BYTES) {
    if (!known.some((each) => isEqual(each, at, at + SECTOR_SIZE_BYTES))) return "stale";
  }
  return "half";
}

/**
 * Writes everything in a journal to the image, then removes the journal.
 *
 * @throws InputError if the journal is damaged; nothing has been written then
 * @throws IoError if writing fails; the next run continues
 */
export async function applyJournal(
  imagePath: string,
  journal: RandomReader,
  journalPath: string,
  files: ImageFiles,
): Promise<void> {
  const header = readChangeJournalHeader(journal);
  // Read the whole journal before writing anything.
  for (const _ of readChanges(journal, header.imageSizeBytes));
  const descriptor = openForWriting(imagePath, files);
  const halfDone = (doing: string, cause: unknown) =>
    ioErrorFrom(imagePath, `${doing} (run the command again to go on)`, cause);
  const write = (bytes: Uint8Array, offsetBytes: number): void => {
    for (let done = 0; done < bytes.length;) {
      const at = offsetBytes + done;
      try {
        done += files.write(descriptor, bytes.subarray(done), at);
      } catch (cause) {
        throw halfDone(`cannot be written at offset ${at}`, cause);
      }
    }
  };
  const sync = async (): Promise<void> => {
    try {
      await files.sync(descriptor);
    } catch (cause) {
      throw halfDone("cannot be flushed to the disk", cause);
    }
  };
  try {
    write(header.halfSuperblock, SUPERBLOCK_OFFSET_BYTES);
    await sync();
    for (const { offsetBytes, bytes } of readChanges(journal, header.imageSizeBytes)) {
      write(bytes, offsetBytes);
    }
    await sync();
    write(header.newSuperblock, SUPERBLOCK_OFFSET_BYTES);
    await sync();
  } finally {
    files.close(descriptor);
  }
  removeJournal(journalPath, files);
}

/** Removes a journal permanently. */
export function removeJournal(journalPath: string, files: ImageFiles): void {
  try {
    files.unlink(journalPath);
  } catch (cause) {
    throw ioErrorFrom(journalPath, "cannot be removed", cause);
  }
  try {
    files.syncDirectory(dirname(journalPath));
  } catch {
    // Some file systems cannot sync a directory. If the journal reappears, it is recognised as applied.
  }
}

/** Opens the journal at a path; undefined if there is none. */
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

/** The error when an image is half switched and its journal cannot be used. */
export function lostJournal(imagePath: string, journalPath: string): InputError {
  return new InputError(
    imagePath,
    `a switch of its checksums was interrupted, and the rest of it is not in ${journalPath}`,
    {
      code: "inUse",
      hint: "put that file back and run the command again, or take a copy of the image",
    },
  );
}

function openForWriting(path: string, files: ImageFiles): number {
  try {
    return files.openForUpdate(path);
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened for writing", cause);
  }
}
