/**
 * Checksums that an ext4 writer could use, by table lookup: for comparison only. Sarwate's algorithm takes a byte a
 * step (D. V. Sarwate, "Computation of cyclic redundancy checks via table look-up", 1988); slicing takes several
 * (M. E. Kounavis and F. L. Berry, "Novel table lookup-based algorithms for high-performance CRC generation", 2008).
 * All are reflected and neither invert their start nor their result.
 *
 * @module
 */

/** Updates a checksum with bytes. */
export type Checksum = (bytes: Uint8Array, start: number) => number;

/** x^16 + x^15 + x^2 + 1, reflected: what group descriptors had before metadata_csum. */
const CRC16_ANSI = 0xa001;
/** Castagnoli's polynomial, reflected. */
const CRC32C = 0x82f63b78;

/** `tables[n][b]`: the effect of byte b with n bytes of zeros after it. */
function slicingTables(polynomial: number, count: number): Uint32Array[] {
  const tables = Array.from({ length: count }, () => new Uint32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1;
    tables[0]![byte] = value;
  }
  for (let n = 1; n < count; n++) {
    for (let byte = 0; byte < 256; byte++) {
      const before = tables[n - 1]![byte]!;
      tables[n]![byte] = (before >>> 8) ^ tables[0]![before & 0xff]!;
    }
  }
  return tables;
}

function sarwate(polynomial: number): Checksum {
  const table = slicingTables(polynomial, 1)[0]!;
  return (bytes, start) => {
    let crc = start;
    for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 0xff]!;
    return crc >>> 0;
  };
}

/** crc16, a byte a step. */
export const crc16Sarwate: Checksum = sarwate(CRC16_ANSI);
/** crc32c, a byte a step. */
export const crc32cSarwate: Checksum = sarwate(CRC32C);

/** crc32c, `width` bytes a step: 4, 8 or 16. */
export function crc32cSlicing(width: 4 | 8 | 16): Checksum {
  const tables = slicingTables(CRC32C, width);
  const step = stepOf(width, tables);
  return (bytes, start) => {
    let crc = start;
    const whole = bytes.length - bytes.length % width;
    for (let at = 0; at < whole; at += width) crc = step(bytes, at, crc);
    for (let at = whole; at < bytes.length; at++) {
      crc = (crc >>> 8) ^ tables[0]![(crc ^ bytes[at]!) & 0xff]!;
    }
    return crc >>> 0;
  };
}

type Step = (bytes: Uint8Array, at: number, crc: number) => number;

/** The step written out: a loop over the tables would cost more than the lookups. */
function stepOf(width: 4 | 8 | 16, tables: readonly Uint32Array[]): Step {
  const terms = Array.from({ length: width }, (_, i) => {
    const register = i < 4 ? ` ^ ((crc >>> ${8 * i}) & 255)` : "";
    return `t${width - 1 - i}[b[at + ${i}]${register}]`;
  });
  const names = tables.map((_, n) => `t${n}`);
  const make = new Function(...names, `return (b, at, crc) => ${terms.join(" ^ ")};`);
  return make(...tables) as Step;
}
