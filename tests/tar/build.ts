/**
 * Builds small tars for tests, with defaults for everything that a test does not care about.
 *
 * @module
 */
import { bytesFromByteString, type ByteString } from "../../lib/bytes/byte_string.ts";
import type { TarEntry, TarEntryKind } from "../../lib/tar/entry.ts";
import { encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "../../lib/tar/writer.ts";

/** One entry of a test's tar. */
export interface SimpleEntry {
  /** A byte string: pass text outside ASCII through byteStringFromText. */
  readonly path: ByteString;
  /** Default: `symlink` with a link, `directory` when the path ends in a slash, else `file`. */
  readonly kind?: TarEntryKind;
  /** A string is a byte string. A sparse file's data: parts and the whole size. */
  readonly data?: Uint8Array | ByteString | SparseData;
  /** Default: 0o755 for directories, 0o777 for symlinks, else 0o644. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds, or seconds and nanoseconds; default 0. */
  readonly mtime?: number | readonly [seconds: number, nanoseconds: number];
  readonly link?: ByteString;
  readonly xattrs?: Readonly<Record<ByteString, Uint8Array | ByteString>>;
  readonly major?: number;
  readonly minor?: number;
}

/** The data of a sparse file; what lies between the parts is a hole. */
export interface SparseData {
  readonly sizeBytes: number;
  readonly parts: readonly (readonly [fileOffset: number, bytes: Uint8Array])[];
}

/** A whole tar: the entries in order, then two zero blocks. */
export function buildTar(entries: readonly SimpleEntry[]): Uint8Array<ArrayBuffer> {
  return joinBytes([
    ...entries.map(buildTarEntry),
    new Uint8Array(END_OF_ARCHIVE_SIZE_BYTES),
  ]);
}

/** One entry: headers, payload and padding, with no end marker. */
export function buildTarEntry(entry: SimpleEntry): Uint8Array<ArrayBuffer> {
  const parts = partsOf(entry);
  const encoded = encodeTarEntry(tarEntryOf(entry));
  const stored = encoded.storedRanges.map((range) => {
    const bytes = new Uint8Array(range.lengthBytes);
    for (const [fileOffset, part] of parts.parts) {
      const from = Math.max(fileOffset, range.fileOffset);
      const to = Math.min(fileOffset + part.length, range.fileOffset + range.lengthBytes);
      if (from < to) {
        bytes.set(part.subarray(from - fileOffset, to - fileOffset), from - range.fileOffset);
      }
    }
    return bytes;
  });
  return joinBytes([encoded.head, ...stored, new Uint8Array(encoded.paddingSizeBytes)]);
}

/** The entry that a SimpleEntry stands for. Of the payload only the sizes and the file offsets are right. */
export function tarEntryOf(entry: SimpleEntry): TarEntry {
  const kind = entry.kind ?? defaultKind(entry);
  const { sizeBytes, parts } = partsOf(entry);
  const mtime = entry.mtime ?? 0;
  const [mtimeSeconds, mtimeNanoseconds] = typeof mtime === "number" ? [mtime, 0] : mtime;
  const xattrs = Object.entries(entry.xattrs ?? {}).map(([name, value]) => ({
    name,
    value: toBytes(value),
  }));
  return {
    kind,
    path: entry.path,
    linkTarget: entry.link ?? "",
    mode: entry.mode ?? (kind === "directory" ? 0o755 : kind === "symlink" ? 0o777 : 0o644),
    uid: entry.uid ?? 0,
    gid: entry.gid ?? 0,
    mtimeSeconds,
    mtimeNanoseconds,
    deviceMajor: entry.major ?? 0,
    deviceMinor: entry.minor ?? 0,
    xattrs: xattrs.sort((a, b) => (a.name < b.name ? -1 : 1)),
    payload: kind !== "file" ? undefined : {
      sizeBytes,
      segments: parts.map(([fileOffset, bytes]) => ({
        fileOffset,
        storeOffset: 0,
        lengthBytes: bytes.length,
      })),
      dataRuns: [],
      contentHash: 0,
    },
    headerOffset: 0,
  };
}

/** The arrays one after the other. */
export function joinBytes(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function defaultKind(entry: SimpleEntry): TarEntryKind {
  if (entry.link !== undefined) return "symlink";
  return entry.path.endsWith("/") ? "directory" : "file";
}

function partsOf(entry: SimpleEntry): SparseData {
  const data = entry.data ?? "";
  if (typeof data === "object" && "parts" in data) return data;
  const bytes = toBytes(data);
  return { sizeBytes: bytes.length, parts: [[0, bytes]] };
}

function toBytes(data: Uint8Array | ByteString): Uint8Array {
  return typeof data === "string" ? bytesFromByteString(data) : data;
}
