/**
 * A probe's report as tables, for people and programs: text, and comma-separated values. html.ts shows the same tables
 * in a page.
 *
 * @module
 */
import { formatSize, shortSize } from "../lib/bytes/arithmetic.ts";
import { byteStringFromText, displayName } from "../lib/bytes/byte_string.ts";
import type { ProbeReport, SchemeReport } from "./report.ts";
import { schemeLabel } from "./schemes.ts";

/** A cell; in a matrix of shares, it also has its share, 0 to 1. */
export type TableCell = string | { readonly text: string; readonly share: number };

export interface ReportTable {
  readonly name: "images" | "schemes" | "newBytes" | "histogram" | "shifts" | "pairs" | "lost";
  /** What the table shows, as a heading. */
  readonly title: string;
  /** The same as a line above the text; the first table needs none. */
  readonly line?: string;
  /** In some tables, the last columns are text. */
  readonly header: readonly string[];
  readonly rows: readonly (readonly TableCell[])[];
  readonly mainRow?: number;
}

/** The requested tables, in the order of the report. */
export function reportTables(report: ProbeReport): ReportTable[] {
  const { images, schemes, mainScheme } = report;
  const main = mainRow(report);
  const label = schemeLabel(main, true);
  const showsGrid = new Set(schemes.flatMap(({ grid }) => grid ?? [])).size > 1;
  const numbers = images.map((_, i) => `image ${i + 1}`);
  return [
    {
      name: "images",
      title: "The images",
      header: ["", "source", "platform", "manifest"],
      rows: images.map(({ source, platform, manifestDigest }, i) => [
        numbers[i]!,
        displayName(byteStringFromText(source)),
        platform ?? "",
        manifestDigest?.slice(0, 19) ?? "",
      ]),
    },
    {
      name: "schemes",
      title: "One store for all images",
      line:
        "one store for all images (cross: saved across images; captured: saved over unaligned, as a share of what FastCDC saves)",
      header: SCHEME_COLUMNS.map(([name]) => name),
      rows: schemes.map((row) => [
        schemeLabel(row, showsGrid),
        ...SCHEME_COLUMNS.slice(1).map(([, valueOf]) => valueOf(row)),
      ]),
      mainRow: mainScheme,
    },
    {
      name: "newBytes",
      title: "What each image adds to those before it",
      line: "stored bytes that each image adds to those before it",
      header: ["scheme", ...numbers],
      rows: schemes.map((row) => [
        schemeLabel(row, showsGrid),
        ...row.newBytes.map(({ stored }) => formatSize(stored)),
      ]),
      mainRow: mainScheme,
    },
    {
      name: "histogram",
      title: `Units by the number of images that have them: ${label}`,
      line: `${label}: units by the number of images that have them`,
      header: ["images", "units", "stored", "raw"],
      rows: main.histogram.map(({ images, units, stored, raw }) => [
        `${images}`,
        countText(units),
        formatSize(stored),
        formatSize(raw),
      ]),
    },
    ...detailTables(report, label, numbers),
  ];
}

const SCHEME_COLUMNS: readonly (readonly [name: string, valueOf: (row: SchemeReport) => string])[] =
  [
    ["scheme", () => ""],
    ["stored", ({ union }) => formatSize(union.stored)],
    ["cross", ({ crossImageDedup }) => percentText(crossImageDedup.stored)],
    ["captured", ({ captured }) => percentText(captured?.stored ?? null)],
    ["raw", ({ union }) => formatSize(union.raw)],
    ["cross", ({ crossImageDedup }) => percentText(crossImageDedup.raw)],
    ["captured", ({ captured }) => percentText(captured?.raw ?? null)],
    ["units", ({ union }) => countText(union.units)],
    ["mean unit", ({ meanUnitBytes }) => formatSize(meanUnitBytes)],
    ["padding", ({ paddingBytes }) => formatSize(paddingBytes)],
  ];

function detailTables(
  { selfShift, pairwise, explain }: ProbeReport,
  label: string,
  numbers: readonly string[],
): ReportTable[] {
  const tables: ReportTable[] = [];
  if (selfShift !== undefined) {
    tables.push({
      name: "shifts",
      title: `The first image against itself, shifted: ${label}`,
      line: `${label}: the first image against itself, shifted`,
      header: ["shift", "shared"],
      rows: selfShift.map(({ shiftBytes, shared }) => [shortSize(shiftBytes), percentText(shared)]),
    });
  }
  if (pairwise !== undefined) {
    tables.push({
      name: "pairs",
      title: `What images share, two by two: ${label}`,
      line:
        `${label}: stored bytes shared by two images, their Jaccard index, and the row's share that ` +
        "the column has",
      header: ["", ...numbers],
      rows: pairwise.map((row, i) => [
        numbers[i]!,
        ...row.map(({ shared, jaccard, containment }) => ({
          share: containment.stored,
          text: `${formatSize(shared.stored)} ${jaccard.stored.toFixed(3)} ` +
            percentText(containment.stored),
        })),
      ]),
    });
  }
  if (explain !== undefined) {
    tables.push({
      name: "lost",
      title: `Where the layout loses: ${label}`,
      line: `${label}: files that an earlier image has, in cells that none of them has`,
      header: ["lost", "size", "images", "file"],
      rows: explain.map(({ lostBytes, sizeBytes, images, path }) => [
        formatSize(lostBytes),
        formatSize(sizeBytes),
        images.map((index) => index + 1).join(" and "),
        path,
      ]),
    });
  }
  return tables;
}

export function mainRow({ schemes, mainScheme }: ProbeReport): SchemeReport {
  return schemes[mainScheme]!;
}

export function reportText(report: ProbeReport): string {
  return reportTables(report).map(({ name, line, header, rows }) => {
    const isBare = name === "images" || name === "shifts";
    const shown = name === "lost" && rows.length === 0
      ? [["none"]]
      : isBare
      ? rows
      : [header, ...rows];
    return `${line === undefined ? "" : `\n${line}\n`}${columnsText(shown)}`;
  }).join("");
}

/** Aligns the first column and trailing text columns to the left, and the others to the right. */
function columnsText(cells: readonly (readonly TableCell[])[]): string {
  const rows = cells.map((row) => row.map((cell) => typeof cell === "string" ? cell : cell.text));
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const isText = widths.map((_, i) =>
    i === 0 || rows.every((row, r) => !/^-?[\d.,]/.test(row[i]!) || (r === 0 && rows.length > 1))
  );
  return rows.map((row) => {
    const padded = row.map((cell, i) =>
      isText[i] ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)
    );
    return `${padded.join("  ").trimEnd()}\n`;
  }).join("");
}

/** A share of 0 to 1 as a percentage; `-` for null. */
export function percentText(share: number | null): string {
  return share === null ? "-" : `${(share * 100).toFixed(1)}%`;
}

function countText(count: number): string {
  return count.toLocaleString("en");
}

const CSV_COLUMNS = "layout,scheme,grid,threshold,packing,cdc,image_number,image,figure,value"
  .split(",");

/**
 * A header, then one line per figure, and per image for figures about an image. Figures about all images have neither
 * number nor image; images are counted from 1.
 */
export function reportCsv(report: ProbeReport): string {
  const lines: (string | number | null)[][] = [CSV_COLUMNS];
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

/** A field as in RFC 4180; null becomes empty. */
function csvCell(cell: string | number | null): string {
  const text = cell === null ? "" : `${cell}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
