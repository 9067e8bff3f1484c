/**
 * The file beside an image that holds all new bytes before the first of them is written. With it, a switch that was
 * interrupted is carried through by the next run.
 *
 * Layout, little-endian: a header block with magic, the image's size and the direction; three superblocks: the image's
 * old one, the one it has while it is half switched, and the new one; then records of a 16-byte head (offset, length,
 * CRC-32C of offset, length and bytes) and bytes; at the end a record without bytes whose offset is the number of
 * records.
 *
 * @module
 */
import { crc32c } from "../../bytes/crc32c.ts";
import { InputError } from "../../errors.ts";
import type { RandomReader } from "../../io/random_reader.ts";
import { readExactly } from "../../io/random_reader.ts";
import type { ImageSink } from "../../io/sink.ts";
import { CRC32C_START } from "../format/checksum.ts";
import { SUPERBLOCK_SIZE_BYTES } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";

/** What is known before the first record. */
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
/** The longest record: larger changes are written as several. */
export const RECORD_SIZE_BYTES_MAX = 1 << 20;

const AT = { magic: 0, imageSize: 32, enable: 40, checksum: 44 } as const;

/** Writes a journal in one ascending pass. The sink gives it its name when it is whole: from then on it counts. */
export class ChangeJournalWriter {
  readonly #sink: ImageSink;
  #offset = FIRST_RECORD_OFFSET;
  #recordCount = 0;
  #changedBytes = 0;

  private constructor(sink: ImageSink) {
    this.#sink = sink;
  }

  /** Begins a journal. */
  static async begin(sink: ImageSink, header: ChangeJournalHeader): Promise<ChangeJournalWriter> {
    await sink.write(encodeHeader(header), 0);
    return new ChangeJournalWriter(sink);
  }

  /** Bytes of the image that change. */
  get changedBytes(): number {
    return this.#changedBytes;
  }

  /** Adds new bytes for a place of the image. */
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

  /** Ends the journal. Once this is fulfilled, the change will happen. */
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
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

function getUint64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

/**
 * Reads the header of a journal.
 *
 * @throws InputError when it is no journal, or damaged
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
 * All records of a journal in order; the bytes are good until the next one is asked for.
 *
 * @throws InputError when one is damaged, lies outside of the image, or the end is missing
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
