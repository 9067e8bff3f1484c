/**
 * The sweep as comma-separated values, one row a scheme.
 *
 * @module
 */
import type { ProbeReport, SchemeReport } from "./report.ts";

type Cell = string | number | null;

const COLUMNS: readonly (readonly [name: string, cell: (row: SchemeReport) => Cell])[] = [
  ["scheme", (row) => row.scheme],
  ["grid", (row) => row.grid],
  ["threshold", (row) => row.threshold],
  ["packing", (row) => row.packing],
  ["cdc", (row) => row.cdc],
  ["each_raw", (row) => row.each.raw],
  ["each_stored", (row) => row.each.stored],
  ["each_units", (row) => row.each.units],
  ["each_unit_bytes", (row) => row.each.unitBytes],
  ["union_raw", (row) => row.union.raw],
  ["union_stored", (row) => row.union.stored],
  ["union_units", (row) => row.union.units],
  ["union_unit_bytes", (row) => row.union.unitBytes],
  ["cross_raw", (row) => row.crossImageDedup.raw],
  ["cross_stored", (row) => row.crossImageDedup.stored],
  ["captured_raw", (row) => row.ceilingCaptured.raw],
  ["captured_stored", (row) => row.ceilingCaptured.stored],
  ["mean_unit_bytes", (row) => row.meanUnitBytes],
  ["padding_bytes", (row) => row.paddingBytes],
  ["zero_bytes", (row) => row.zeroBytes],
];

/** The table with a line of names. `new_raw_2` and so on are what the second image adds to the first. */
export function reportCsv(report: ProbeReport): string {
  const names = COLUMNS.map(([name]) => name);
  report.images.forEach((_, i) => names.push(`new_raw_${i + 1}`, `new_stored_${i + 1}`));
  const rows = report.schemes.map((row) => [
    ...COLUMNS.map(([, cell]) => cell(row)),
    ...row.newBytes.flatMap(({ raw, stored }) => [raw, stored]),
  ]);
  return [names, ...rows].map((row) => `${row.map(csvCell).join(",")}\n`).join("");
}

/** As RFC 4180 has it; null is empty. */
function csvCell(cell: Cell): string {
  const text = cell === null ? "" : `${cell}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
