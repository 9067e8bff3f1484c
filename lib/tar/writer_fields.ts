/**
 * Puts values into the fields of a POSIX tar header block.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import type { HeaderField } from "./format.ts";
import { HEADER_FIELDS, TAR_BLOCK_SIZE_BYTES } from "./format.ts";

/** Whether `value` fits a field of octal digits that ends in a NUL. */
export function fitsOctal(value: number, field: HeaderField): boolean {
  return value >= 0 && value < 8 ** (field.lengthBytes - 1);
}

/**
 * Writes a number: octal digits and a NUL when it fits, else base-256 (first byte 0x80, or 0xff for a negative number,
 * then two's complement). A number that does not fit gets a PAX record too; base-256 keeps readers without PAX in step.
 */
export function putNumber(block: Uint8Array, field: HeaderField, value: number): void {
  const { offset, lengthBytes } = field;
  if (fitsOctal(value, field)) {
    putBytes(block, offset, value.toString(8).padStart(lengthBytes - 1, "0"));
    return;
  }
  let rest = value;
  for (let i = lengthBytes - 1; i > 0; i--) {
    const low = ((rest % 256) + 256) % 256;
    block[offset + i] = low;
    rest = (rest - low) / 256;
  }
  block[offset] = value < 0 ? 0xff : 0x80;
}

/** Writes the bytes of a byte string, cut at the end of the field. */
export function putName(block: Uint8Array, field: HeaderField, name: ByteString): void {
  putBytes(block, field.offset, name.slice(0, field.lengthBytes));
}

/** Writes the magic, then the checksum: call it last. */
export function sealHeader(block: Uint8Array): void {
  putBytes(block, HEADER_FIELDS.magic.offset, "ustar\x0000");
  const { offset, lengthBytes } = HEADER_FIELDS.checksum;
  block.fill(0x20, offset, offset + lengthBytes);
  let sum = 0;
  for (let i = 0; i < TAR_BLOCK_SIZE_BYTES; i++) sum += block[i]!;
  putBytes(block, offset, `${sum.toString(8).padStart(6, "0")}\0 `);
}

function putBytes(block: Uint8Array, offset: number, text: ByteString): void {
  for (let i = 0; i < text.length; i++) block[offset + i] = text.charCodeAt(i);
}
