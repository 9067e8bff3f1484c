/**
 * Android sparse images, as flashed by fastboot (system/core/libsparse/sparse_format.h): a header, followed by chunks
 * that are stored, filled with one word, or left out. Little-endian.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { firstIndex } from "../bytes/arithmetic.ts";
import { InputError, limitError } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";

const MAGIC = 0xed26ff3a;
const HEADER_BYTES = 28;
const CHUNK_HEADER_BYTES = 12;
const CHUNK = { RAW: 0xcac1, FILL: 0xcac2, DONT_CARE: 0xcac3, CRC32: 0xcac4 } as const;
const BLOCK_BYTES_MAX = 1 << 26;
/** The most chunks to keep in memory. */
const CHUNKS_MAX = 1 << 22;
const READ_BYTES = 1 << 20;

/** Where the blocks of an image are in its sparse form. */
interface Chunks {
  count: number;
  /** The offset of each chunk in the image. */
  starts: Float64Array;
  /** The offset of each chunk's bytes in the file; for a filled chunk, -1 minus its word. */
  places: Float64Array;
}

/** Whether the bytes start like a sparse image. */
export function isAndroidSparse(head: Uint8Array): boolean {
  return head.length >= 4 &&
    new DataView(head.buffer, head.byteOffset, head.byteLength).getUint32(0, true) === MAGIC;
}

/**
 * Reads a sparse image as the image that it represents. Parts that were left out read as zeros. Closing the reader
 * closes the file.
 *
 * @throws {InputError} when the image is damaged, or one of its checksums is wrong
 */
export function openAndroidSparse(file: RandomReader): RandomReader {
  const fault = (why: string) =>
    new InputError(file.name, `is an Android sparse image that ${why}`, {
      code: "unsupported",
      hint: "see what simg2img FILE root.ext4 makes of it",
    });
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  if (file.readAt(new Uint8Array(header.buffer), 0) !== HEADER_BYTES) throw fault("has no header");
  if (header.getUint32(0, true) !== MAGIC) throw fault("does not begin with its magic number");
  const version = header.getUint16(4, true);
  if (version !== 1) throw fault(`has version ${version}: wanted 1`);
  const [headerBytes, chunkHeaderBytes] = [header.getUint16(8, true), header.getUint16(10, true)];
  if (headerBytes < HEADER_BYTES || chunkHeaderBytes < CHUNK_HEADER_BYTES) {
    throw fault(`has headers of ${headerBytes} and ${chunkHeaderBytes} bytes: wanted 28 and 12`);
  }
  const blockBytes = header.getUint32(12, true);
  if (blockBytes === 0 || blockBytes % 4 !== 0 || blockBytes > BLOCK_BYTES_MAX) {
    throw fault(`has blocks of ${blockBytes} bytes`);
  }
  const sizeBytes = header.getUint32(16, true) * blockBytes;
  const { chunks, checks } = readChunks(file, fault, {
    firstAt: headerBytes,
    headerBytes: chunkHeaderBytes,
    count: header.getUint32(20, true),
    blockBytes,
    sizeBytes,
  });
  const image = sparseReader(file, chunks, sizeBytes);
  for (const { end, wanted } of checks) {
    const found = checksumUpTo(image, end);
    if (found !== wanted) throw fault(`is damaged: its checksum is ${found}, wanted ${wanted}`);
  }
  return image;
}

/** A checksum of the image up to an offset. */
interface Check {
  readonly end: number;
  readonly wanted: number;
}

function readChunks(
  file: RandomReader,
  fault: (why: string) => InputError,
  shape: Readonly<
    Record<"firstAt" | "headerBytes" | "count" | "blockBytes" | "sizeBytes", number>
  >,
): { readonly chunks: Chunks; readonly checks: readonly Check[] } {
  if (shape.count > CHUNKS_MAX) {
    throw limitError(file.name, `has ${shape.count} chunks`, {
      name: "sparseChunks",
      expected: CHUNKS_MAX,
      actual: shape.count,
      isFixed: true,
    });
  }
  const chunks = {
    count: 0,
    starts: new Float64Array(shape.count + 1),
    places: new Float64Array(shape.count + 1),
  };
  const checks: Check[] = [];
  const bytes = new Uint8Array(CHUNK_HEADER_BYTES + 4);
  const view = new DataView(bytes.buffer);
  let [at, start] = [shape.firstAt, 0];
  for (let i = 0; i < shape.count; i++) {
    bytes.fill(0);
    if (file.readAt(bytes, at) < CHUNK_HEADER_BYTES) throw fault(`ends before its chunk ${i}`);
    const [type, totalBytes] = [view.getUint16(0, true), view.getUint32(8, true)];
    const lengthBytes = view.getUint32(4, true) * shape.blockBytes;
    const storedBytes = type === CHUNK.RAW ? lengthBytes : type === CHUNK.DONT_CARE ? 0 : 4;
    const dataAt = at + shape.headerBytes;
    if (!Object.values<number>(CHUNK).includes(type)) {
      throw fault(`has a chunk of type 0x${type.toString(16)} at offset ${at}`);
    }
    if (totalBytes !== shape.headerBytes + storedBytes || dataAt + storedBytes > file.sizeBytes) {
      throw fault(`has a chunk of ${totalBytes} bytes at offset ${at} that does not fit it`);
    }
    const word = storedBytes === 4 ? readWord(file, dataAt) : 0;
    if (type === CHUNK.CRC32) checks.push({ end: start, wanted: word });
    else {
      if (start + lengthBytes > shape.sizeBytes) throw fault("has more blocks than it says");
      chunks.starts[chunks.count] = start;
      chunks.places[chunks.count++] = type === CHUNK.RAW ? dataAt : -1 - word;
      start += lengthBytes;
    }
    at += totalBytes;
  }
  if (start !== shape.sizeBytes) {
    const [found, wanted] = [start / shape.blockBytes, shape.sizeBytes / shape.blockBytes];
    throw fault(`has ${found} blocks: its header says ${wanted}`);
  }
  chunks.starts[chunks.count] = start;
  return { chunks, checks };
}

function readWord(file: RandomReader, at: number): number {
  const word = new DataView(new ArrayBuffer(4));
  file.readAt(new Uint8Array(word.buffer), at);
  return word.getUint32(0, true);
}

function sparseReader(file: RandomReader, chunks: Chunks, sizeBytes: number): RandomReader {
  const { starts, places, count } = chunks;
  return {
    sizeBytes,
    name: file.name,
    readAt(target, position) {
      const end = Math.min(position + target.length, sizeBytes);
      let done = 0;
      const first = firstIndex(count, (i) => starts[i + 1]! > position);
      for (let index = first; position + done < end; index++) {
        const from = position + done;
        const length = Math.min(end, starts[index + 1]!) - from;
        const part = target.subarray(done, done + length);
        const [place, offset] = [places[index]!, from - starts[index]!];
        if (place < 0) fillWord(part, -1 - place, offset);
        else if (file.readAt(part, place + offset) !== length) return done;
        done += length;
      }
      return done;
    },
    close: () => file.close(),
  };
}

function fillWord(target: Uint8Array, word: number, offset: number): void {
  if (word === 0) {
    target.fill(0);
    return;
  }
  for (let i = 0; i < target.length; i++) target[i] = word >>> (8 * ((offset + i) & 3));
}

function checksumUpTo(image: RandomReader, end: number): number {
  const buffer = new Uint8Array(READ_BYTES);
  let checksum = 0;
  for (let at = 0; at < end;) {
    const length = image.readAt(buffer.subarray(0, Math.min(buffer.length, end - at)), at);
    if (length === 0) break;
    checksum = crc32(buffer.subarray(0, length), checksum);
    at += length;
  }
  return checksum;
}
