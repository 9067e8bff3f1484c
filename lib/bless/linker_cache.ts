/**
 * /etc/ld.so.cache: which file has a shared library's name. The format is glibc's ("glibc-ld.so.cache1.1", sysdeps/generic/
 * dl-cache.h); an older one may stand in front of it.
 *
 * @module
 */
import { type ByteString, byteStringFromBytes } from "../bytes/byte_string.ts";

const OLD_MAGIC = "ld.so-1.7.0";
const OLD_HEADER_BYTES = 16;
const OLD_ENTRY_BYTES = 12;
const MAGIC = "glibc-ld.so.cache1.1";
const HEADER_BYTES = 48;
const ENTRY_BYTES = 24;
/** What no cache has. */
const ENTRIES_MAX = 1 << 20;

/** The files for each name, in the order of the cache, those for any processor first. */
export type LinkerCache = ReadonlyMap<ByteString, readonly ByteString[]>;

/** Reads the cache; empty where it is not one. @param isLittle the byte order of the machine that it was made for */
export function readLinkerCache(bytes: Uint8Array, isLittle: boolean): LinkerCache {
  const start = newFormatStart(bytes, isLittle);
  if (start === undefined) return new Map();
  const cache = bytes.subarray(start);
  const view = new DataView(cache.buffer, cache.byteOffset, cache.length);
  const count = view.getUint32(20, isLittle);
  if (count > ENTRIES_MAX || HEADER_BYTES + count * ENTRY_BYTES > cache.length) return new Map();
  const found: { name: ByteString; path: ByteString; isForAny: boolean }[] = [];
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    const name = textAt(cache, view.getUint32(at + 4, isLittle));
    const path = textAt(cache, view.getUint32(at + 8, isLittle));
    const isForAny = view.getBigUint64(at + 16, isLittle) === 0n;
    if (name !== "" && path.startsWith("/")) found.push({ name, path, isForAny });
  }
  const files = new Map<ByteString, ByteString[]>();
  // Which processor the image will run on is not known.
  for (const isForAny of [true, false]) {
    for (const entry of found.filter((one) => one.isForAny === isForAny)) {
      const known = files.get(entry.name);
      if (known === undefined) files.set(entry.name, [entry.path]);
      else known.push(entry.path);
    }
  }
  return files;
}

function newFormatStart(bytes: Uint8Array, isLittle: boolean): number | undefined {
  if (startsWith(bytes, 0, MAGIC)) return bytes.length >= HEADER_BYTES ? 0 : undefined;
  if (!startsWith(bytes, 0, OLD_MAGIC) || bytes.length < OLD_HEADER_BYTES) return undefined;
  const count = new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, isLittle);
  if (count > ENTRIES_MAX) return undefined;
  // The new one begins at a multiple of 8.
  const start = Math.ceil((OLD_HEADER_BYTES + count * OLD_ENTRY_BYTES) / 8) * 8;
  const isThere = startsWith(bytes, start, MAGIC) && bytes.length >= start + HEADER_BYTES;
  return isThere ? start : undefined;
}

function startsWith(bytes: Uint8Array, at: number, text: string): boolean {
  if (bytes.length < at + text.length) return false;
  return byteStringFromBytes(bytes.subarray(at, at + text.length)) === text;
}

function textAt(bytes: Uint8Array, at: number): ByteString {
  if (at >= bytes.length) return "";
  const end = bytes.indexOf(0, at);
  return byteStringFromBytes(bytes.subarray(at, end < 0 ? bytes.length : end));
}
