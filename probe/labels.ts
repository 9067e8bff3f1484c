/**
 * How rows are called, for people.
 *
 * @module
 */
import type { SchemeDescription } from "./report.ts";

const UNITS = ["", "K", "M", "G", "T"];

/** A size in the largest unit that it is whole in: `128K`. */
export function shortSize(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 0;
  while (value > 0 && value % 1024 === 0 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value}${UNITS[unit]}`;
}

/** `aligned 64K resync:256K:64K`, `fastcdc 128K:32K:512K`, `whole files`. */
export function schemeLabel(row: SchemeDescription, showsGrid: boolean): string {
  const { scheme, grid, threshold, packing, cdc } = row;
  const sizes = (text: string) => text.replace(/\d+/g, (digits) => shortSize(Number(digits)));
  const words = [scheme === "file" ? "whole files" : scheme];
  if (threshold !== null) words.push(shortSize(threshold));
  if (packing !== null) words.push(sizes(packing));
  if (cdc !== null) words.push(sizes(cdc));
  if (showsGrid && grid !== null) words.push(`@${shortSize(grid)}`);
  return words.join(" ");
}
