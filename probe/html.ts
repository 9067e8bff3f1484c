/**
 * The answer of a probe as one page that stands alone: pictures, tables, what the words mean. It has no scripts and loads
 * nothing.
 *
 * @module
 */
import { shortSize } from "../lib/bytes/arithmetic.ts";
import { reportChart } from "./chart.ts";
import type { ProbeReport, SchemeReport } from "./report.ts";
import { SCHEME_KINDS, schemeLabel } from "./schemes.ts";
import { escapeXml } from "./svg.ts";

const STYLE = `
body { font: 15px/1.45 Helvetica, Arial, sans-serif; color: #111; max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em } p, li { max-width: 46em }
table { border-collapse: collapse; margin: .6em 0; font-variant-numeric: tabular-nums }
th, td { padding: .25em .55em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th { font-weight: 600; border-bottom: 2px solid #888; white-space: normal; vertical-align: bottom }
th:first-child, td:first-child, td:has(.text) { text-align: left } tr.main td { font-weight: 600 }
.wide { overflow-x: auto; font-size: .9em } .heat td { border: 1px solid #fff } svg { max-width: 100%; height: auto }
small { color: inherit }
@media print { body { margin: 0 } h2 { break-after: avoid } }`;

type Cell = string | { readonly html: string; readonly style?: string };

/** An HTML document. */
export function reportHtml(report: ProbeReport): string {
  const title = `Dedup of ${report.images.length} images`;
  const parts = [
    `<h1>${escapeXml(title)}</h1>`,
    lead(report),
    section("The images", imagesTable(report)),
    section("One store for all images", reportChart(report).trim(), schemesTable(report)),
    section("What each image adds to those before it", newBytesTable(report)),
    section(
      `Units by the number of images that have them: ${mainLabel(report)}`,
      histogramTable(report),
    ),
    ...pairwiseSection(report),
    ...explainSection(report),
    section("What the words mean", glossary(report)),
  ];
  return "<!doctype html>\n" +
    `<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>${escapeXml(title)}</title>\n` +
    `<meta name="viewport" content="width=device-width">\n<style>${STYLE}\n</style>\n</head>\n` +
    `<body>\n${parts.join("\n")}\n</body>\n</html>\n`;
}

function section(title: string, ...content: readonly string[]): string {
  return `<section>\n<h2>${escapeXml(title)}</h2>\n${content.join("\n")}\n</section>`;
}

/** The answer in one paragraph. */
function lead(report: ProbeReport): string {
  const main = mainRow(report);
  const { each, union, crossImageDedup } = main;
  const last = main.newBytes.at(-1)!;
  const text =
    `In cells of ${shortSize(report.grid)}, laid out as “${mainLabel(report)}”, the images ` +
    `take ${size(union.stored)} in one store instead of ${
      size(each.stored)
    } in stores of their own: ` +
    `${percent(crossImageDedup.stored)} less. The last image adds ${size(last.stored)} to those ` +
    `before it.`;
  return `<p>${escapeXml(text)}</p>`;
}

function imagesTable({ images }: ProbeReport): string {
  return table(
    ["", "image", "platform", "manifest"],
    images.map(({ source, platform, manifestDigest }, i) => [
      `${i + 1}`,
      { html: `<span class="text">${escapeXml(source)}</span>` },
      platform ?? "",
      manifestDigest?.slice(0, 19) ?? "",
    ]),
  );
}

function schemesTable(report: ProbeReport): string {
  const header = [
    "layout",
    "stored",
    "shared of stored",
    "of FastCDC's saving",
    "raw",
    "shared of raw",
    "units",
    "mean unit",
    "padding",
  ];
  return table(
    header,
    report.schemes.map((row) => [
      schemeLabel(row, true),
      size(row.union.stored),
      percent(row.crossImageDedup.stored),
      percent(row.captured?.stored ?? null),
      size(row.union.raw),
      percent(row.crossImageDedup.raw),
      count(row.union.units),
      size(row.meanUnitBytes),
      size(row.paddingBytes),
    ]),
    report.mainScheme,
  );
}

function newBytesTable(report: ProbeReport): string {
  return table(
    ["layout", ...report.images.map((_, i) => `image ${i + 1}`)],
    report.schemes.map((row) => [
      schemeLabel(row, true),
      ...row.newBytes.map(({ stored }) => size(stored)),
    ]),
    report.mainScheme,
  );
}

function histogramTable(report: ProbeReport): string {
  return table(
    ["images", "units", "stored", "raw"],
    mainRow(report).histogram.map(({ images, units, stored, raw }) => [
      `${images}`,
      count(units),
      size(stored),
      size(raw),
    ]),
  );
}

/** How much of each image each other one has, darker where it is more; the shares stand there too. */
function pairwiseSection(report: ProbeReport): string[] {
  const { pairwise, images } = report;
  if (pairwise === undefined) return [];
  const rows = pairwise.map((row, i): Cell[] => [
    `image ${i + 1}`,
    ...row.map(({ shared, containment }): Cell => {
      const share = containment.stored;
      const paint = `background:hsl(205 70% ${(97 - 62 * share).toFixed(0)}%);` +
        `color:${share > 0.8 ? "#fff" : "#111"}`;
      return { html: `${percent(share)}<br><small>${size(shared.stored)}</small>`, style: paint };
    }),
  ]);
  const text = "Of the stored bytes of the row's image, the share that the column's image has too.";
  return [section(
    `What images share, two by two: ${mainLabel(report)}`,
    `<p>${text}</p>`,
    table(["", ...images.map((_, i) => `image ${i + 1}`)], rows, undefined, "heat"),
  )];
}

function explainSection(report: ProbeReport): string[] {
  const { explain } = report;
  if (explain === undefined) return [];
  const text =
    "Files that an earlier image has, too, and that lie in part in cells that it has not.";
  const rows = explain.map(({ lostBytes, sizeBytes, images, path }): Cell[] => [
    { html: `<span class="text">${escapeXml(path)}</span>` },
    size(lostBytes),
    size(sizeBytes),
    images.map((index) => index + 1).join(" and "),
  ]);
  return [section(
    `Where the layout loses: ${mainLabel(report)}`,
    `<p>${text}</p>`,
    rows.length === 0 ? "<p>Nowhere.</p>" : table(["file", "lost", "size", "images"], rows),
  )];
}

function glossary(report: ProbeReport): string {
  const kinds = [...new Set(report.schemes.map(({ scheme }) => scheme))];
  const measure = report.compress === "none" ? "as it is" : `compressed by ${report.compress}`;
  const terms: readonly (readonly [string, string])[] = [
    ...kinds.map((kind) => [kind === "file" ? "whole files" : kind, SCHEME_KINDS[kind]] as const),
    ["unit", "a cell of the grid, a chunk or a file: what a store keeps once; zeros are free"],
    ["raw", "bytes of different units, without blocks of zeros of 4 KiB"],
    ["stored", `the same units, each ${measure}`],
    ["shared", "what one store saves over a store for each image"],
    [
      "of FastCDC's saving",
      "what a layout saves over unaligned as a share of what FastCDC saves over it; empty where that is under 2 %",
    ],
    [
      "padding",
      "free space that a layout leaves so that files start on the grid; it takes no room in a store",
    ],
  ];
  const items = terms.map(([term, text]) =>
    `<li><b>${escapeXml(term)}</b>: ${escapeXml(text.replace(/^whole files: /, ""))}</li>`
  );
  return `<ul>\n${items.join("\n")}\n</ul>`;
}

function table(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  mainIndex?: number,
  className = "",
): string {
  const head = header.map((cell) => `<th>${escapeXml(cell)}</th>`).join("");
  const body = rows.map((row, i) => {
    const cells = row.map((cell) =>
      typeof cell === "string"
        ? `<td>${escapeXml(cell)}</td>`
        : `<td${cell.style === undefined ? "" : ` style="${cell.style}"`}>${cell.html}</td>`
    );
    return `<tr${i === mainIndex ? ' class="main"' : ""}>${cells.join("")}</tr>`;
  });
  return `<div class="wide"><table${className === "" ? "" : ` class="${className}"`}>\n` +
    `<tr>${head}</tr>\n${body.join("\n")}\n</table></div>`;
}

function mainRow(report: ProbeReport): SchemeReport {
  return report.schemes[report.mainScheme]!;
}

function mainLabel(report: ProbeReport): string {
  return schemeLabel(mainRow(report), true);
}

function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${Math.round(value)} B` : `${value.toFixed(1)} ${units[unit]}`;
}

function count(value: number): string {
  return value.toLocaleString("en");
}

function percent(share: number | null): string {
  return share === null ? "" : `${(share * 100).toFixed(1)} %`;
}
