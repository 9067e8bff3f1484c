/**
 * What a unit takes in a store that compresses each unit by itself.
 *
 * @module
 */
import * as zlib from "node:zlib";
import { optionError } from "../../lib/errors.ts";

/** How a store compresses. */
export type Compression =
  | { readonly kind: "none" }
  | { readonly kind: "zstd"; readonly level: number };

/** Size of bytes in the store. */
export type StoredSizeOf = (bytes: Uint8Array) => number;

/** Larger units are compressed in pieces of this size, so that memory is bounded. */
const PIECE_BYTES = 4 * 1024 * 1024;
const LEVEL_MOST = 19;

/**
 * Makes the measure. Without compression a unit's `stored` is its `raw`, which is told by undefined.
 *
 * @throws UsageError for a level out of range, and where the runtime has no zstd
 */
export function storedSizeMeasure(compression: Compression): StoredSizeOf | undefined {
  if (compression.kind === "none") return undefined;
  const { level } = compression;
  if (!Number.isInteger(level) || level < 1 || level > LEVEL_MOST) {
    throw optionError("compression", `wanted zstd:1 to zstd:${LEVEL_MOST}, found zstd:${level}`);
  }
  if (typeof zlib.zstdCompressSync !== "function") {
    throw optionError("compression", "this runtime cannot compress with zstd", {
      hint: "use Deno, Bun or Node 22",
      remedies: [{ option: "compression", change: "set", value: "none" }],
    });
  }
  const params = { [zlib.constants.ZSTD_c_compressionLevel]: level };
  return (bytes) => {
    let sizeBytes = 0;
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      // zstd chooses smaller tables for a size that it knows, and compresses a little better, as zstd(1) does.
      const options = { params, pledgedSrcSize: piece.length };
      sizeBytes += zlib.zstdCompressSync(piece, options).length;
    }
    return sizeBytes;
  };
}
