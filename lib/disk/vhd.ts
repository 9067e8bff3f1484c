/**
 * The footer of a fixed VHD ("Virtual Hard Disk Image Format Specification", Microsoft, "Hard Disk Footer Format"): 512
 * bytes behind a disk, big-endian.
 *
 * @module
 */
import { bytesFromByteString } from "../bytes/byte_string.ts";
import { InputError, invariant } from "../errors.ts";
import { type ImageSink, writingAgain } from "../io/sink.ts";

/** How long the footer is. */
export const VHD_FOOTER_BYTES = 512;

const SECTOR_BYTES = 512;
/** 2040 GiB: the most that Hyper-V attaches. */
const VHD_BYTES_MAX = 2040 * 2 ** 30;

/**
 * The footer. Its time is 0, the start of 2000, so that equal disks have equal footers.
 *
 * @param diskBytes what comes before it, whole sectors
 * @param uniqueId 16 bytes
 * @throws {InputError} when the disk is too large for a VHD, or not whole sectors
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodeVhdFooter } from "./vhd.ts";
 * const footer = encodeVhdFooter(1 << 20, new Uint8Array(16));
 * assertEquals(new TextDecoder().decode(footer.subarray(0, 8)), "conectix");
 * ```
 */
export function encodeVhdFooter(diskBytes: number, uniqueId: Uint8Array): Uint8Array {
  checkVhdSize(diskBytes);
  invariant(uniqueId.length === 16, `a unique id of ${uniqueId.length} bytes`);
  const footer = new Uint8Array(VHD_FOOTER_BYTES);
  const view = new DataView(footer.buffer);
  footer.set(bytesFromByteString("conectix"), 0);
  view.setUint32(8, 2); // Features: a bit that is always set.
  view.setUint32(12, 0x00010000); // File format version.
  view.setBigUint64(16, 0xffffffffffffffffn); // No dynamic header.
  view.setUint32(24, 0); // Time stamp.
  // Readers take the size for what it is when Windows made the file; else they work it out of the geometry, which is less.
  footer.set(bytesFromByteString("win "), 28);
  view.setUint32(32, 0x000a0000); // Creator version.
  footer.set(bytesFromByteString("Wi2k"), 36);
  view.setBigUint64(40, BigInt(diskBytes)); // Original size.
  view.setBigUint64(48, BigInt(diskBytes)); // Current size.
  const { cylinders, heads, sectorsPerTrack } = geometryOf(diskBytes / SECTOR_BYTES);
  view.setUint16(56, cylinders);
  view.setUint8(58, heads);
  view.setUint8(59, sectorsPerTrack);
  view.setUint32(60, 2); // Disk type: fixed.
  footer.set(uniqueId, 68);
  // The complement of the sum of all bytes, its own four taken as zeros.
  view.setUint32(64, ~footer.reduce((sum, byte) => sum + byte, 0) >>> 0);
  return footer;
}

/** Throws an InputError for a size that a VHD cannot have. */
export function checkVhdSize(diskBytes: number): void {
  if (diskBytes % SECTOR_BYTES !== 0 || diskBytes <= 0) {
    throw new InputError("VHD", `a disk of ${diskBytes} bytes: wanted whole sectors of 512`);
  }
  if (diskBytes > VHD_BYTES_MAX) {
    throw new InputError("VHD", `a disk of ${diskBytes} bytes: wanted at most ${VHD_BYTES_MAX}`, {
      code: "limitExceeded",
    });
  }
}

/** The specification's appendix, "CHS Calculation". */
function geometryOf(
  sectors: number,
): { readonly cylinders: number; readonly heads: number; readonly sectorsPerTrack: number } {
  const total = Math.min(sectors, 65535 * 16 * 255);
  let sectorsPerTrack = 255;
  let heads = 16;
  if (total < 65535 * 16 * 63) {
    sectorsPerTrack = 17;
    const tracks = Math.floor(total / sectorsPerTrack);
    heads = Math.max(4, Math.floor((tracks + 1023) / 1024));
    if (tracks >= heads * 1024 || heads > 16) {
      sectorsPerTrack = 31;
      heads = 16;
    }
    if (Math.floor(total / sectorsPerTrack) >= heads * 1024) sectorsPerTrack = 63;
  }
  const tracks = Math.floor(total / sectorsPerTrack);
  return { cylinders: Math.floor(tracks / heads), heads, sectorsPerTrack };
}

/**
 * A sink that puts the footer behind the disk that goes by.
 *
 * @param uniqueId asked for when the disk has ended
 */
export function vhdSink(target: ImageSink, uniqueId: () => Uint8Array): ImageSink {
  return {
    write: (bytes, offset) => target.write(bytes, offset),
    ...writingAgain(target),
    async finish(sizeBytes) {
      await target.write(encodeVhdFooter(sizeBytes, uniqueId()), sizeBytes);
      await target.finish(sizeBytes + VHD_FOOTER_BYTES);
    },
    abort: () => target.abort(),
  };
}

/** Whether a file ends with the footer of a VHD. @param end the last 512 bytes of the file */
export function hasVhdFooter(end: Uint8Array): boolean {
  const cookie = bytesFromByteString("conectix");
  return end.length === VHD_FOOTER_BYTES && cookie.every((byte, i) => end[i] === byte);
}
