/**
 * A probe's report as one self-contained page: charts, tables and explanations. It has no scripts and loads nothing.
 *
 * @module
 */
import { formatSize, shortSize } from "../lib/bytes/arithmetic.ts";
import { escapeXml, reportChart } from "./chart.ts";
import type { ProbeReport } from "./report.ts";
import { SCHEME_KINDS, schemeLabel } from "./schemes.ts";
import { mainRow, percentText, type ReportTable, reportTables } from "./tables.ts";

const STYLE = `
body { font: 15px/1.45 Helvetica, Arial, sans-serif; color: #111; max-width: 1000px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em } p, li { max-width: 46em }
table { border-collapse: collapse; margin: .6em 0; font-variant-numeric: tabular-nums }
th, td { padding: .25em .55em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th { font-weight: 600; border-bottom: 2px solid #888; white-space: normal; vertical-align: bottom }
th:first-child, td:first-child, td.text { text-align: left } tr.main td { font-weight: 600 }
.wide { overflow-x: auto; font-size: .9em } .heat td { border: 1px solid #fff } svg { max-width: 100%; height: auto }
@media print { body { margin: 0 } h2 { break-after: avoid } }`;

const INTRODUCTIONS: Partial<Readonly<Record<ReportTable["name"], string>>> = {
  pairs:
    "Stored bytes that both have, their Jaccard index, and the share of the row's image that the column's " +
    "image has too.",
  lost: "Files that an earlier image also has, but that are partly in cells that it does not have.",
};

export function reportHtml(report: ProbeReport): string {
  const title = `Dedup of ${report.images.length} images`;
  const parts = [
    `<h1>${escapeXml(title)}</h1>`,
    lead(report),
    ...reportTables(report).map((table) => {
      const introduction = INTRODUCTIONS[table.name];
      return section(
        table.title,
        ...introduction === undefined ? [] : [`<p>${introduction}</p>`],
        ...table.name === "schemes" ? [reportChart(report).trim()] : [],
        table.rows.length === 0 ? "<p>Nowhere.</p>" : tableHtml(table),
      );
    }),
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

function lead(report: ProbeReport): string {
  const main = mainRow(report);
  const { each, union, crossImageDedup } = main;
  const last = main.newBytes.at(-1)!;
  const text =
    `In cells of ${shortSize(report.grid)}, laid out as “${schemeLabel(main, true)}”, the images ` +
    `take ${formatSize(union.stored)} in one store instead of ${formatSize(each.stored)} in ` +
    `stores of their own: ${percentText(crossImageDedup.stored)} less. The last image adds ` +
    `${formatSize(last.stored)} to those before it.`;
  return `<p>${escapeXml(text)}</p>`;
}

function glossary(report: ProbeReport): string {
  const kinds = [...new Set(report.schemes.map(({ scheme }) => scheme))];
  const measure = report.compress === "none" ? "as it is" : `compressed by ${report.compress}`;
  const terms: readonly (readonly [string, string])[] = [
    ...kinds.map((kind) => [kind === "file" ? "whole files" : kind, SCHEME_KINDS[kind]] as const),
    ["unit", "a cell of the grid, a chunk or a file: what a store keeps once; zeros are free"],
    ["raw", "bytes of different units, without blocks of zeros of 4 KiB"],
    ["stored", `the same units, each ${measure}`],
    ["cross", "what one store saves over a store for each image"],
    [
      "captured",
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

/** Cells with a share are darker the larger the share. */
function tableHtml({ name, header, rows, mainRow }: ReportTable): string {
  const isText = (column: number) => name === "images" || header[column] === "file";
  const head = header.map((cell) => `<th>${escapeXml(cell)}</th>`).join("");
  const body = rows.map((row, i) => {
    const cells = row.map((cell, column) => {
      if (typeof cell !== "string") {
        const { share, text } = cell;
        const colours = `background:hsl(205 70% ${(97 - 62 * share).toFixed(0)}%);` +
          `color:${share > 0.8 ? "#fff" : "#111"}`;
        return `<td style="${colours}">${escapeXml(text)}</td>`;
      }
      return `<td${isText(column) ? ' class="text"' : ""}>${escapeXml(cell)}</td>`;
    });
    return `<tr${i === mainRow ? ' class="main"' : ""}>${cells.join("")}</tr>`;
  });
  return `<div class="wide"><table${name === "pairs" ? ' class="heat"' : ""}>\n` +
    `<tr>${head}</tr>\n${body.join("\n")}\n</table></div>`;
}
