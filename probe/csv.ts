/**
 * The answer of a probe as comma-separated values: one line a figure, and an image where the figure is of one.
 *
 * @module
 */
import type { ProbeReport, SchemeReport } from "./report.ts";
import { schemeLabel } from "./schemes.ts";

type Cell = string | number | null;

const COLUMNS = [
  "layout",
  "scheme",
  "grid",
  "threshold",
  "packing",
  "cdc",
  "image_number",
  "image",
  "figure",
  "value",
];

/** The table with a line of names. Figures of all images together have neither number nor image; images count from 1. */
export function reportCsv(report: ProbeReport): string {
  const lines: Cell[][] = [COLUMNS];
  for (const row of report.schemes) {
    const { scheme, grid, threshold, packing, cdc } = row;
    const layout = [schemeLabel(row, true), scheme, grid, threshold, packing, cdc];
    for (const [figure, value] of figuresOf(row)) {
      lines.push([...layout, null, null, figure, value]);
    }
    row.perImage.forEach((_, i) => {
      const image = [i + 1, report.images[i]!.source];
      for (const [figure, value] of imageFiguresOf(row, i)) {
        lines.push([...layout, ...image, figure, value]);
      }
    });
  }
  return lines.map((line) => `${line.map(csvCell).join(",")}\n`).join("");
}

type Figures = readonly (readonly [name: string, value: number | null])[];

function figuresOf(row: SchemeReport): Figures {
  const { each, union, crossImageDedup, captured } = row;
  return [
    ["each_raw", each.raw],
    ["each_stored", each.stored],
    ["each_units", each.units],
    ["each_unit_bytes", each.unitBytes],
    ["union_raw", union.raw],
    ["union_stored", union.stored],
    ["union_units", union.units],
    ["union_unit_bytes", union.unitBytes],
    ["cross_raw", crossImageDedup.raw],
    ["cross_stored", crossImageDedup.stored],
    ["captured_raw", captured?.raw ?? null],
    ["captured_stored", captured?.stored ?? null],
    ["mean_unit_bytes", row.meanUnitBytes],
    ["padding_bytes", row.paddingBytes],
    ["zero_bytes", row.zeroBytes],
  ];
}

function imageFiguresOf(row: SchemeReport, i: number): Figures {
  const [image, added] = [row.perImage[i]!, row.newBytes[i]!];
  return [
    ["raw", image.raw],
    ["stored", image.stored],
    ["units", image.units],
    ["new_raw", added.raw],
    ["new_stored", added.stored],
    ["new_units", added.units],
    ["only_raw", image.only.raw],
    ["only_stored", image.only.stored],
    ["logical_bytes", image.logicalBytes],
    ["zero_bytes", image.zeroBytes],
  ];
}

/** As RFC 4180 has it; null is empty. */
function csvCell(cell: Cell): string {
  const text = cell === null ? "" : `${cell}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
