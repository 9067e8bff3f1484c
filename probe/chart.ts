/**
 * The sweep as a picture: what all images take in one store, by scheme, against the lines of FastCDC and whole files.
 *
 * @module
 */
import type { ProbeReport, SchemeReport } from "./report.ts";
import { schemeLabel } from "./labels.ts";

const WIDTH = 900;
const LABEL_WIDTH = 250;
const VALUE_WIDTH = 90;
const BAR_HEIGHT = 22;
const ROW_HEIGHT = 32;
const TOP = 92;
const BOTTOM = 58;
const TICKS_MOST = 6;
const MIB = 1024 * 1024;

const BAR_COLOURS = {
  unaligned: "#9aa0a6",
  "as-is": "#9aa0a6",
  resync: "#1a73a8",
  tight: "#7fb3d3",
};
const LINE_COLOURS = { fastcdc: "#c5372c", file: "#2b7d3f" };

/** An SVG document without scripts or fonts of its own. */
export function reportChart(report: ProbeReport): string {
  const several = new Set(report.schemes.map(({ grid }) => grid ?? 0)).size > 2;
  const bars = report.schemes.filter(({ scheme }) => scheme !== "fastcdc" && scheme !== "file");
  const most = Math.max(1, ...report.schemes.map(({ union }) => union.stored));
  const step = niceStep(most / MIB / TICKS_MOST) * MIB;
  const plotWidth = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
  const xOf = (bytes: number) => LABEL_WIDTH + bytes / most * plotWidth;
  const height = TOP + bars.length * ROW_HEIGHT + BOTTOM;
  const plotEnd = height - BOTTOM;
  const parts = [
    heading(report),
    ...ticks(most, step).map((bytes) => tick(xOf(bytes), bytes, plotEnd)),
    ...bars.map((row, i) => bar(row, TOP + i * ROW_HEIGHT, xOf, several)),
    ...report.schemes.flatMap((row) => referenceLine(row, xOf, plotEnd, report.grid)),
    text(LABEL_WIDTH, height - 14, "stored bytes of all images in one store, MiB", "#555"),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
    `viewBox="0 0 ${WIDTH} ${height}" font-family="Helvetica, Arial, sans-serif" font-size="13">\n` +
    `<rect width="${WIDTH}" height="${height}" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
}

function heading(report: ProbeReport): string {
  const names = report.images.map(({ source }) => source).join(", ");
  const shown = names.length > 110 ? `${report.images.length} images` : names;
  const measure = report.compress === "none" ? "without compression" : report.compress;
  return [
    `<text x="16" y="28" font-size="17" font-weight="bold">Stored bytes by layout, ${measure}` +
    `</text>`,
    text(16, 48, shown, "#555"),
  ].join("\n");
}

function tick(x: number, bytes: number, plotEnd: number): string {
  return `<line x1="${x.toFixed(1)}" y1="${TOP - 6}" x2="${x.toFixed(1)}" y2="${plotEnd}" ` +
    `stroke="#e4e4e4"/>\n` +
    text(x, plotEnd + 18, (bytes / MIB).toFixed(0), "#555", "middle");
}

function bar(
  row: SchemeReport,
  y: number,
  xOf: (bytes: number) => number,
  showsGrid: boolean,
): string {
  const { stored } = row.union;
  const kind = row.packing?.split(":")[0] ?? row.scheme;
  const colour = BAR_COLOURS[kind as keyof typeof BAR_COLOURS];
  const width = xOf(stored) - LABEL_WIDTH;
  return [
    text(LABEL_WIDTH - 10, y + 16, schemeLabel(row, showsGrid), "#111", "end"),
    `<rect x="${LABEL_WIDTH}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" ` +
    `fill="${colour}"/>`,
    text(xOf(stored) + 6, y + 16, (stored / MIB).toFixed(1), "#111"),
  ].join("\n");
}

/** The lines are those of the first grid. */
function referenceLine(
  row: SchemeReport,
  xOf: (bytes: number) => number,
  plotEnd: number,
  grid: number,
): string[] {
  const isFile = row.scheme === "file";
  if (!isFile && (row.scheme !== "fastcdc" || row.grid !== grid)) return [];
  const colour = isFile ? LINE_COLOURS.file : LINE_COLOURS.fastcdc;
  const x = xOf(row.union.stored).toFixed(1);
  const label = `${schemeLabel(row, false)}: ${(row.union.stored / MIB).toFixed(1)}`;
  return [
    `<line x1="${x}" y1="${TOP - 8}" x2="${x}" y2="${plotEnd}" stroke="${colour}" ` +
    `stroke-width="1.5" stroke-dasharray="6 4"/>`,
    // One above the other, so that lines that are close together can be told apart.
    text(Number(x), TOP - (isFile ? 28 : 13), label, colour, "middle"),
  ];
}

function text(x: number, y: number, content: string, colour: string, anchor = "start"): string {
  return `<text x="${x.toFixed(1)}" y="${y}" fill="${colour}" text-anchor="${anchor}">` +
    `${escapeXml(content)}</text>`;
}

/** Markup and the characters that XML 1.0 does not have are replaced. */
function escapeXml(content: string): string {
  return content
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    // deno-lint-ignore no-control-regex
    .replace(/[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]/g, "?");
}

function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-6)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least)!;
}

function ticks(most: number, step: number): number[] {
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}
