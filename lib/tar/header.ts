/**
 * Reads one header block: which format it is in, its checksum, and its fields as they stand there.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";
import { byteStringFromBytes } from "../bytes/byte_string.ts";
import type { TarPlace } from "./fault.ts";
import { tarFault } from "./fault.ts";
import type { HeaderField } from "./format.ts";
import {
  GNU_FIELDS,
  HEADER_FIELDS,
  STAR_PREFIX,
  TAR_BLOCK_SIZE_BYTES,
  USTAR_PREFIX,
} from "./format.ts";
import { readNumberField } from "./numbers.ts";

/** The kinds of header block. `ustar` has the POSIX prefix field, PAX included. */
export type HeaderFormat = "v7" | "ustar" | "gnu" | "star";

const STAR_TRAILER_OFFSET = 508;

/** Whether the block at `base` holds nothing but zeros. */
export function isZeroBlock(bytes: Uint8Array, base: number): boolean {
  for (let at = base; at < base + TAR_BLOCK_SIZE_BYTES; at++) {
    if (bytes[at] !== 0) return false;
  }
  return true;
}

/** Throws when the checksum is neither the unsigned nor the signed sum (old tars) of the block's bytes. */
export function checkHeaderSum(bytes: Uint8Array, base: number, place: TarPlace): void {
  const { offset, lengthBytes } = HEADER_FIELDS.checksum;
  let sum = 8 * 0x20; // the field itself counts as spaces
  for (let at = base; at < base + offset; at++) sum += bytes[at]!;
  for (let at = base + offset + lengthBytes; at < base + TAR_BLOCK_SIZE_BYTES; at++) {
    sum += bytes[at]!;
  }
  const wanted = readNumberField(bytes, base, HEADER_FIELDS.checksum);
  if (wanted === sum || wanted === signedSum(bytes, base, sum)) return;
  throw tarFault(
    place,
    `this is no tar header: its checksum field says ${wanted}, its bytes add up to ${sum}`,
    { expected: wanted, actual: sum },
  );
}

function signedSum(bytes: Uint8Array, base: number, sum: number): number {
  const { offset, lengthBytes } = HEADER_FIELDS.checksum;
  let signed = sum;
  for (let i = 0; i < TAR_BLOCK_SIZE_BYTES; i++) {
    if (bytes[base + i]! >= 0x80 && (i < offset || i >= offset + lengthBytes)) signed -= 256;
  }
  return signed;
}

/** The format of the block, by its magic. */
export function headerFormat(bytes: Uint8Array, base: number): HeaderFormat {
  const at = base + HEADER_FIELDS.magic.offset;
  if (!hasText(bytes, at, "ustar")) return "v7";
  if (bytes[at + 5] === 0) {
    return hasText(bytes, base + STAR_TRAILER_OFFSET, "tar\0") ? "star" : "ustar";
  }
  return hasText(bytes, at + 5, "  \0") ? "gnu" : "v7";
}

/** The path as the block alone has it: prefix and name. */
export function headerPath(bytes: Uint8Array, base: number, format: HeaderFormat): ByteString {
  const name = nameField(bytes, base, HEADER_FIELDS.name);
  const prefix = headerPrefix(bytes, base, format);
  return prefix === "" ? name : `${prefix}/${name}`;
}

function headerPrefix(bytes: Uint8Array, base: number, format: HeaderFormat): ByteString {
  switch (format) {
    case "v7":
      return "";
    case "ustar":
      return nameField(bytes, base, USTAR_PREFIX);
    case "star":
      return nameField(bytes, base, STAR_PREFIX);
    case "gnu": {
      // Go before 1.8 wrote a prefix here by mistake. Where no times can be read, ASCII text is taken for one.
      if (
        isGnuTime(bytes, base, GNU_FIELDS.accessTime) &&
        isGnuTime(bytes, base, GNU_FIELDS.changeTime)
      ) {
        return "";
      }
      const prefix = nameField(bytes, base, USTAR_PREFIX);
      // deno-lint-ignore no-control-regex
      return /^[\x00-\x7f]*$/.test(prefix) ? prefix : "";
    }
  }
}

function isGnuTime(bytes: Uint8Array, base: number, field: HeaderField): boolean {
  return bytes[base + field.offset] === 0 || Number.isFinite(readNumberField(bytes, base, field));
}

/** A field of text: up to its first NUL, or all of it. */
export function nameField(bytes: Uint8Array, base: number, field: HeaderField): ByteString {
  const start = base + field.offset;
  return cString(bytes, start, start + field.lengthBytes);
}

/** The bytes up to the first NUL, or to the end. */
export function cString(bytes: Uint8Array, start: number, limit: number): ByteString {
  let end = start;
  while (end < limit && bytes[end] !== 0) end++;
  return end === start ? "" : byteStringFromBytes(bytes, start, end);
}

function hasText(bytes: Uint8Array, at: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (bytes[at + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}
