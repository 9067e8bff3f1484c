/**
 * How sizes and times are read from the command line and shown. Units are powers of 1024 throughout.
 *
 * @module
 */
import { UsageError } from "../lib/errors.ts";

const UNITS = ["", "K", "M", "G", "T", "P", "E"] as const;
const SIZE_PATTERN = /^(\d+)(?:\.(\d+))? ?(?:([KMGTPE])(?:i?B)?|B)?$/i;

/**
 * Reads `131072`, `128K`, `128KiB`, `4M` or `1.5G` as bytes. Case does not matter; a fraction of a byte is dropped.
 *
 * @param what what the size is for, such as `--grid`; begins the error
 * @throws UsageError for junk, decimal units (`KB`), signs, fractions of bytes and sizes beyond 2^53 - 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseSize } from "./sizes.ts";
 * assertEquals(parseSize("128K", "--grid"), 131072);
 * assertEquals(parseSize("1.5GiB", "--size"), 1610612736);
 * ```
 */
export function parseSize(text: string, what: string): number {
  if (/^[\d.]+ ?[KMGTPE]B$/i.test(text)) {
    const binary = text.replace(/B$/i, "iB");
    throw sizeError(
      text,
      what,
      `units are powers of 1024: write \`${binary}\` or \`${binary.slice(0, -2)}\``,
    );
  }
  const match = SIZE_PATTERN.exec(text);
  if (match === null) throw sizeError(text, what, "wanted a size");
  const [, whole = "", fraction = "", unit = ""] = match;
  if (fraction !== "" && unit === "") throw sizeError(text, what, "wanted a whole number of bytes");
  const unitBytes = 1024n ** BigInt(UNITS.indexOf(unit.toUpperCase() as typeof UNITS[number]));
  const bytes = BigInt(whole + fraction) * unitBytes / 10n ** BigInt(fraction.length);
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw sizeError(text, what, "is too large: wanted less than 8P");
  }
  return Number(bytes);
}

function sizeError(text: string, what: string, why: string): UsageError {
  return new UsageError(what, `\`${text}\`: ${why}`, {
    hint: "sizes look like 131072, 128K, 128KiB, 4M or 1.5G",
  });
}

/**
 * A size for people: `512 B`, `128.0 KiB`, `1.5 GiB`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { formatSize } from "./sizes.ts";
 * assertEquals(formatSize(131072), "128.0 KiB");
 * ```
 */
export function formatSize(sizeBytes: number): string {
  if (sizeBytes < 1024) return `${Math.round(sizeBytes)} B`;
  let value = sizeBytes;
  let unit = 0;
  // 1023.95 would be shown as 1024.0, which is 1.0 of the next unit.
  while (value >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${UNITS[unit]}iB`;
}

/** A size as it is typed, exact: `128K`, `4M`, `131073`. */
export { shortSize as sizeOption } from "../probe/labels.ts";

/** A time for people: `0.42 s`, `12.3 s`, `1:23`, `1:02:03`. */
export function formatDuration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return formatClock(seconds);
}

/** Whole seconds as a clock shows them: `0:07`, `1:23`, `1:02:03`. */
export function formatClock(seconds: number): string {
  const total = Math.round(seconds);
  const tail = `${total % 60}`.padStart(2, "0");
  const minutes = Math.floor(total / 60) % 60;
  const hours = Math.floor(total / 3600);
  return hours === 0 ? `${minutes}:${tail}` : `${hours}:${`${minutes}`.padStart(2, "0")}:${tail}`;
}

/** A count with its thousands set apart: `12,345`. */
export function formatCount(count: number): string {
  return `${count}`.replace(/\B(?=(\d{3})+$)/g, ",");
}
