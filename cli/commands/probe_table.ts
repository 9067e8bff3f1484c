/**
 * A probe's answer for people.
 *
 * @module
 */
import { schemeLabel } from "../../probe/schemes.ts";
import { shortSize } from "../../lib/bytes/arithmetic.ts";
import type { ProbeReport, SchemeReport } from "../../probe/report.ts";
import { safeLine } from "../errors.ts";
import { formatCount, formatSize } from "../values.ts";

type Row = readonly string[];

/** The tables that were asked for, each with a line that says what it is. */
export function probeText(report: ProbeReport): string {
  const sections = [
    ["", imagesTable(report)],
    [
      "one store for all images (cross: saved across images; captured: saved over unaligned, as a share of what FastCDC saves)",
      schemesTable(report),
    ],
    ["stored bytes that each image adds to those before it", newBytesTable(report)],
    [`${mainLabel(report)}: units by the number of images that have them`, histogram(report)],
    ...optionalSections(report),
  ] as const;
  return sections
    .map(([title, rows]) => `${title === "" ? "" : `\n${title}\n`}${columns(rows)}`)
    .join("");
}

function optionalSections(report: ProbeReport): [title: string, rows: readonly Row[]][] {
  const sections: [string, readonly Row[]][] = [];
  const label = mainLabel(report);
  if (report.selfShift !== undefined) {
    sections.push([
      `${label}: the first image against itself, shifted`,
      report.selfShift.map(({ shiftBytes, shared }) => [shortSize(shiftBytes), percent(shared)]),
    ]);
  }
  if (report.pairwise !== undefined) {
    sections.push([
      `${label}: stored bytes shared by two images, their Jaccard index, and the row's share that ` +
      "the column has",
      pairwiseTable(report),
    ]);
  }
  if (report.explain !== undefined) {
    sections.push([
      `${label}: files that an earlier image has, in cells that none of them has`,
      report.explain.length === 0 ? [["none"]] : [
        ["lost", "size", "images", "file"],
        ...report.explain.map(({ lostBytes, sizeBytes, images, path }) => [
          formatSize(lostBytes),
          formatSize(sizeBytes),
          images.map((index) => index + 1).join(" and "),
          path,
        ]),
      ],
    ]);
  }
  return sections;
}

function imagesTable({ images }: ProbeReport): Row[] {
  return images.map(({ source, platform, manifestDigest }, i) => [
    `image ${i + 1}`,
    safeLine(source),
    platform ?? "",
    manifestDigest?.slice(0, 19) ?? "",
  ]);
}

function schemesTable(report: ProbeReport): Row[] {
  const showsGrid = new Set(report.schemes.flatMap(({ grid }) => grid ?? [])).size > 1;
  const header = [
    "scheme",
    "stored",
    "cross",
    "captured",
    "raw",
    "cross",
    "captured",
    "units",
    "mean unit",
    "padding",
  ];
  return [
    header,
    ...report.schemes.map((row) => [
      schemeLabel(row, showsGrid),
      formatSize(row.union.stored),
      percent(row.crossImageDedup.stored),
      percent(row.captured?.stored ?? null),
      formatSize(row.union.raw),
      percent(row.crossImageDedup.raw),
      percent(row.captured?.raw ?? null),
      formatCount(row.union.units),
      formatSize(row.meanUnitBytes),
      formatSize(row.paddingBytes),
    ]),
  ];
}

function newBytesTable(report: ProbeReport): Row[] {
  const showsGrid = new Set(report.schemes.flatMap(({ grid }) => grid ?? [])).size > 1;
  return [
    ["scheme", ...report.images.map((_, i) => `image ${i + 1}`)],
    ...report.schemes.map((row) => [
      schemeLabel(row, showsGrid),
      ...row.newBytes.map(({ stored }) => formatSize(stored)),
    ]),
  ];
}

function histogram(report: ProbeReport): Row[] {
  return [
    ["images", "units", "stored", "raw"],
    ...mainRow(report).histogram.map(({ images, units, stored, raw }) => [
      `${images}`,
      formatCount(units),
      formatSize(stored),
      formatSize(raw),
    ]),
  ];
}

function pairwiseTable({ images, pairwise }: ProbeReport): Row[] {
  return [
    ["", ...images.map((_, i) => `image ${i + 1}`)],
    ...pairwise!.map((row, i) => [
      `image ${i + 1}`,
      ...row.map(({ shared, jaccard, containment }) =>
        `${formatSize(shared.stored)} ${jaccard.stored.toFixed(3)} ${percent(containment.stored)}`
      ),
    ]),
  ];
}

function mainRow(report: ProbeReport): SchemeReport {
  return report.schemes[report.mainScheme]!;
}

function mainLabel(report: ProbeReport): string {
  return schemeLabel(mainRow(report), true);
}

function percent(share: number | null): string {
  return share === null ? "-" : `${(share * 100).toFixed(1)}%`;
}

/** The first column to the left, the others to the right but for the last of texts. */
function columns(rows: readonly Row[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const isText = widths.map((_, i) =>
    i === 0 || rows.every((row, r) => !/^-?[\d.,]/.test(row[i]!) || (r === 0 && rows.length > 1))
  );
  return rows.map((row) => {
    const cells = row.map((cell, i) =>
      isText[i] ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)
    );
    return `${cells.join("  ").trimEnd()}\n`;
  }).join("");
}
