/**
 * Sizes in messages.
 *
 * @module
 */

const UNITS = ["", "K", "M", "G", "T", "P", "E"] as const;

/**
 * A size for people: `512 B`, `128.0 KiB`, `1.5 GiB`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { formatSize } from "./size_text.ts";
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

/**
 * A size that has to be exact, such as one that is typed again: `5275648 bytes (5.0 MiB)`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { exactSize } from "./size_text.ts";
 * assertEquals(exactSize(5275648), "5275648 bytes (5.0 MiB)");
 * assertEquals(exactSize(512), "512 bytes");
 * ```
 */
export function exactSize(sizeBytes: number): string {
  const bytes = `${sizeBytes} bytes`;
  return sizeBytes < 1024 ? bytes : `${bytes} (${formatSize(sizeBytes)})`;
}
