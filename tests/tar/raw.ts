/**
 * Header blocks put together field by field, for tars that no writer of ours would write.
 *
 * @module
 */
import { bytesFromByteString, type ByteString } from "../../lib/bytes/byte_string.ts";
import { PaxRecordWriter } from "../../lib/tar/writer.ts";
import { joinBytes } from "./build.ts";

/** A header's fields. Strings go in as they are; numbers as octal digits that end in a NUL. */
export interface RawHeader {
  readonly name?: ByteString;
  readonly mode?: number | ByteString;
  readonly uid?: number | ByteString;
  readonly gid?: number | ByteString;
  readonly size?: number | ByteString;
  readonly mtime?: number | ByteString;
  /** One character. */
  readonly flag?: ByteString;
  readonly link?: ByteString;
  readonly format?: "v7" | "ustar" | "gnu" | "star";
  readonly major?: number | ByteString;
  readonly minor?: number | ByteString;
  readonly prefix?: ByteString;
  /** Put in last, before the checksum. */
  readonly patches?: readonly (readonly [offset: number, bytes: ByteString])[];
  /** Instead of the right one: the text of the checksum field. */
  readonly checksum?: ByteString;
  readonly signedChecksum?: boolean;
}

const MAGIC = { v7: "", ustar: "ustar\x0000", gnu: "ustar  \0", star: "ustar\x0000" };

/** One header block. */
export function rawHeader(header: RawHeader): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(512);
  const put = (offset: number, value: number | ByteString | undefined, digits: number) => {
    const text = typeof value === "number" ? value.toString(8).padStart(digits, "0") : value ?? "";
    block.set(bytesFromByteString(text), offset);
  };
  put(0, header.name ?? "f", 0);
  put(100, header.mode ?? 0o644, 7);
  put(108, header.uid ?? 0, 7);
  put(116, header.gid ?? 0, 7);
  put(124, header.size ?? 0, 11);
  put(136, header.mtime ?? 0, 11);
  put(156, header.flag ?? "0", 0);
  put(157, header.link, 0);
  put(257, MAGIC[header.format ?? "ustar"], 0);
  put(329, header.major, 7);
  put(337, header.minor, 7);
  put(345, header.prefix, 0);
  if (header.format === "star") put(508, "tar\0", 0);
  for (const [offset, bytes] of header.patches ?? []) put(offset, bytes, 0);
  put(148, header.checksum ?? `${checksum(block, header.signedChecksum)}\0 `, 0);
  return block;
}

function checksum(block: Uint8Array, signed = false): string {
  let sum = 0;
  for (let i = 0; i < 512; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : block[i]!;
    sum += signed && byte >= 0x80 ? byte - 256 : byte;
  }
  return sum.toString(8).padStart(6, "0");
}

/** Bytes and the zeros that fill the last block. */
export function padded(data: Uint8Array | ByteString): Uint8Array<ArrayBuffer> {
  const bytes = typeof data === "string" ? bytesFromByteString(data) : data;
  const out = new Uint8Array(Math.ceil(bytes.length / 512) * 512);
  out.set(bytes);
  return out;
}

/** A header with data behind it; the size is filled in unless given. */
export function rawEntry(header: RawHeader, data: Uint8Array | ByteString = ""): Uint8Array {
  return joinBytes([rawHeader({ size: data.length, ...header }), padded(data)]);
}

/** An `x` header (or another flag) with these records, in order. */
export function paxHeader(
  records: readonly (readonly [key: ByteString, value: ByteString | Uint8Array])[],
  header: RawHeader = {},
): Uint8Array {
  const writer = new PaxRecordWriter();
  for (const [key, value] of records) writer.add(key, value);
  return rawEntry({ flag: "x", name: "PaxHeaders/f", ...header }, writer.bytes());
}

/** GNU long names. */
export function longName(flag: "L" | "K", name: ByteString): Uint8Array {
  return rawEntry({ flag, name: "././@LongLink", format: "gnu" }, `${name}\0`);
}

/** Parts, and the end marker. */
export function rawTar(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return joinBytes([...parts, new Uint8Array(1024)]);
}
