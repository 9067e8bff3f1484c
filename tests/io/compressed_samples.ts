/**
 * Compressed samples for tests. xz cannot be made with what runtimes bring along, so those are written down; they come
 * from Python's lzma module.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import * as zlib from "node:zlib";
import { type Compression, createInflater } from "../../lib/io/inflate.ts";
import { joinBytes } from "../tar/build.ts";

/** What the samples inflate to: 9,090 bytes. */
export const SAMPLE: Uint8Array<ArrayBuffer> = new TextEncoder().encode(
  Array.from({ length: 400 }, (_, i) => `line ${i} of the sample\n`).join(""),
);

/** SAMPLE as xz with preset 6 and its default check, CRC-64. */
export const SAMPLE_XZ: Uint8Array<ArrayBuffer> = fromBase64(
  "/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4COBAZFdADYaSh8IoCYDTQad+LKlrLJNQFfd3NomKaxOKbr4yvSpRZhV9LNGfQzT" +
    "5CLy3H7uBVBp/PfPTsC/DIoXFfqIHlWazC7RvQGh1mTCFM9fuOGw5/uZRSybukdSPYKt2Hh4aePOystlLaROJBnTrDKa48L+" +
    "cHJLNjaHx4C5Rp5+LJMAFvZbvbVpYTRb7bXozukFdfde+FgkR5zaMvmfFzBu7s3uTG6wv/el7faIMbVw15kkssZ4cUFARiw9" +
    "6TDDIsvl9Zv2ut/H69yUlQmp5qO8GrDwrkvC3/eMS/u+F8IRPNGRf2ttY/uvTaS7aSkh3KrPQKZzgrHcW69OrVF6lprZAvio" +
    "kv0qmh0O2cPadjHsQZkM68sibikuBJfkb6cZrRnk5mBUMhc5ND88ktEQb/G1H4ouoWWbEP4MRzTdRtsATuDO/xG/zI/Z7sDf" +
    "hJQmldO1+GMd+HApPUUidgQ0iU1yxxIcLvANhXToplET/+0wvvz0VlWAhRsmpFN1nV+gazLW/41d5RcB9baJH+fbKNn53vwm" +
    "AAAAANJtUBt/4uk+AAGtA4JHAADISfITscRn+wIAAAAABFla",
);

/** "small" with a SHA-256 check, which the decoder does not know. */
export const SHA256_XZ: Uint8Array<ArrayBuffer> = fromBase64(
  "/Td6WFoAAArh+wyhAgAhARYAAAB0L+WjAQAEc21hbGwAAAAAgduOu7vGnGxq1KaqkrduDAivVH2iNrniydvh2ChagTAAATUF" +
    "EoPd8hibS5oBAAAAAApZWg==",
);

/** "small" with a dictionary of 128 MiB, more than the decoder allows. */
export const BIG_DICTIONARY_XZ: Uint8Array<ArrayBuffer> = fromBase64(
  "/Td6WFoAAATm1rRGAgAhAR4AAACbB1FmAQAEc21hbGwAAAAAPG+8dMV0EoQAAR0FuC2Arx+2830BAAAAAARZWg==",
);

/** Whether this runtime's node:zlib knows zstd. */
export const HAS_ZSTD: boolean = typeof zlib.zstdCompressSync === "function";

export function gzipOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(zlib.gzipSync(bytes));
}

/** One zstd frame with a checksum. */
export function zstdOf(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const params = { [zlib.constants.ZSTD_c_checksumFlag]: 1 };
  return new Uint8Array(zlib.zstdCompressSync(bytes, { params }));
}

/** A skippable zstd frame (RFC 8878, section 3.1.2). */
export function skippableFrame(lengthBytes: number, kind = 0): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(8 + lengthBytes).fill(0xaa);
  frame.set([0x50 + kind, 0x2a, 0x4d, 0x18]);
  new DataView(frame.buffer).setUint32(4, lengthBytes, true);
  return frame;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text, "base64"));
}

/** The compressions that can be inflated. */
export type Known = Exclude<Compression, "none" | "bzip2">;

/** Inflates bytes that come in pieces of one size, all through one buffer as files do. */
export async function inflate(
  kind: Known,
  bytes: Uint8Array,
  pieceBytes = 1 << 20,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const inflater = createInflater(kind, {
    name: "sample",
    emit: (part) => parts.push(part.slice()),
  });
  const buffer = new Uint8Array(pieceBytes);
  try {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const piece = bytes.subarray(at, at + pieceBytes);
      buffer.set(piece);
      await inflater.push(buffer.subarray(0, piece.length));
      buffer.fill(0xee);
    }
    await inflater.end();
    return joinBytes(parts);
  } finally {
    inflater.close();
  }
}

/** SAMPLE in every compression that this runtime knows. */
export function samples(): [Known, Uint8Array][] {
  return [
    ["gzip", gzipOf(SAMPLE)],
    ["xz", SAMPLE_XZ],
    ...(HAS_ZSTD ? [["zstd", zstdOf(SAMPLE)] as [Known, Uint8Array]] : []),
  ];
}
