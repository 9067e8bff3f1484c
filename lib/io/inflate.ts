/**
 * Inflating a compressed stream piece by piece. What a stream is compressed with is told by its first bytes, never by
 * its name: labels are often wrong.
 *
 * @module
 */
import { createGunzip } from "node:zlib";
import { InputError } from "../errors.ts";
import { TransformInflater } from "./inflate_transform.ts";
import { createXzInflater } from "./inflate_xz.ts";
import { createZstdInflater } from "./inflate_zstd.ts";
import type { Inflater, InflaterOptions } from "./inflater.ts";

/** How bytes are stored. */
export type Compression = "none" | "gzip" | "zstd" | "xz" | "bzip2";

/** How many bytes `sniffCompression` wants to see. */
export const SNIFF_BYTES = 10;

/** A piece of this size goes through zlib at once; smaller ones cost a third of the speed. */
const CHUNK_BYTES = 1 << 20;

/**
 * Tells from its first bytes how a stream is compressed.
 *
 * @param head the first {@link SNIFF_BYTES} bytes, fewer if there are no more
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sniffCompression } from "./inflate.ts";
 * assertEquals(sniffCompression(new Uint8Array([0x1f, 0x8b, 8, 0])), "gzip");
 * ```
 */
export function sniffCompression(head: Uint8Array): Compression {
  if (startsWith(head, [0x1f, 0x8b, 0x08])) return "gzip";
  if (startsWith(head, [0x28, 0xb5, 0x2f, 0xfd])) return "zstd";
  // A skippable frame (RFC 8878, section 3.1.2) may come first.
  if (
    head.length >= 4 && (head[0]! & 0xf0) === 0x50 &&
    startsWith(head.subarray(1), [0x2a, 0x4d, 0x18])
  ) {
    return "zstd";
  }
  if (startsWith(head, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])) return "xz";
  if (
    startsWith(head, [0x42, 0x5a, 0x68]) &&
    startsWith(head.subarray(4), [0x31, 0x41, 0x59, 0x26, 0x53, 0x59])
  ) {
    return "bzip2";
  }
  return "none";
}

/**
 * An inflater for a stream that is compressed as `compression` says.
 *
 * @throws {InputError} for bzip2, which no runtime brings along
 */
export function createInflater(
  compression: Exclude<Compression, "none">,
  options: InflaterOptions,
): Inflater {
  switch (compression) {
    case "gzip":
      return new TransformInflater(createGunzip({ chunkSize: CHUNK_BYTES }), "gzip", options);
    case "zstd":
      return createZstdInflater(options);
    case "xz":
      return createXzInflater(options);
    case "bzip2":
      throw new InputError(options.name, "is compressed with bzip2, which is not supported", {
        hint: "unpack it first, for example with bunzip2",
      });
  }
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((value, i) => bytes[i] === value);
}
