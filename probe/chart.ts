/**
 * The sweep as a picture: what all images take in one store, by scheme, against the lines of FastCDC and whole files.
 *
 * @module
 */
import type { ProbeReport, SchemeReport } from "./report.ts";
import { schemeLabel } from "./labels.ts";

const WIDTH = 900;
const LABEL_WIDTH_LEAST = 120;
/** More than a character of the label's font is wide on average, so that none is cut off. */
const CHARACTER_WIDTH = 7.6;
const VALUE_WIDTH = 90;
const BAR_HEIGHT = 22;
const ROW_HEIGHT = 32;
const TOP = 92;
const BOTTOM = 58;
const TICKS_MOST = 6;
const KIB = 1024;
const MIB = 1024 * KIB;
/** Below it sizes are KiB. */
const MIB_LEAST = 4 * MIB;

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
  const rows = report.schemes.filter(({ scheme }) => scheme !== "fastcdc" && scheme !== "file");
  const bars = rows.map((row) => ({ row, label: schemeLabel(row, several) }));
  const longest = Math.max(...bars.map(({ label }) => label.length));
  const left = Math.max(LABEL_WIDTH_LEAST, Math.ceil(longest * CHARACTER_WIDTH) + 20);
  const most = Math.max(1, ...report.schemes.map(({ union }) => union.stored));
  const unit = most < MIB_LEAST ? { bytes: KIB, name: "KiB" } : { bytes: MIB, name: "MiB" };
  const step = niceStep(most / unit.bytes / TICKS_MOST) * unit.bytes;
  const plotWidth = WIDTH - left - VALUE_WIDTH;
  const scale: Scale = {
    unitBytes: unit.bytes,
    xOf: (bytes) => left + bytes / most * plotWidth,
  };
  const height = TOP + bars.length * ROW_HEIGHT + BOTTOM;
  const plotEnd = height - BOTTOM;
  const parts = [
    heading(report),
    ...ticks(most, step).map((bytes) => tick(bytes, scale, plotEnd)),
    ...bars.map(({ row, label }, i) => bar(row, label, TOP + i * ROW_HEIGHT, scale)),
    ...report.schemes.flatMap((row) => referenceLine(row, scale, plotEnd, report.grid)),
    ...rows.map((row, i) => value(row, TOP + i * ROW_HEIGHT, scale)),
    text(left, height - 14, `stored bytes of all images in one store, ${unit.name}`, "#555"),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
    `viewBox="0 0 ${WIDTH} ${height}" font-family="Helvetica, Arial, sans-serif" font-size="13">\n` +
    `<rect width="${WIDTH}" height="${height}" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
}

/** Where sizes lie, and what they are told in. */
interface Scale {
  readonly unitBytes: number;
  readonly xOf: (bytes: number) => number;
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

function tick(bytes: number, { xOf, unitBytes }: Scale, plotEnd: number): string {
  const x = xOf(bytes);
  return `<line x1="${x.toFixed(1)}" y1="${TOP - 6}" x2="${x.toFixed(1)}" y2="${plotEnd}" ` +
    `stroke="#e4e4e4"/>\n` +
    text(x, plotEnd + 18, `${bytes / unitBytes}`, "#555", "middle");
}

function bar(
  row: SchemeReport,
  label: string,
  y: number,
  { xOf }: Scale,
): string {
  const kind = row.packing?.split(":")[0] ?? row.scheme;
  const colour = BAR_COLOURS[kind as keyof typeof BAR_COLOURS];
  const left = xOf(0);
  const width = xOf(row.union.stored) - left;
  return [
    text(left - 10, y + 16, label, "#111", "end"),
    `<rect x="${left}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" ` +
    `fill="${colour}"/>`,
  ].join("\n");
}

/** Over the lines, on white, so that it can be read where one goes through it. */
function value(row: SchemeReport, y: number, { xOf, unitBytes }: Scale): string {
  const { stored } = row.union;
  const shown = (stored / unitBytes).toFixed(1);
  const x = xOf(stored) + 4;
  return `<rect x="${x.toFixed(1)}" y="${y + 3}" width="${shown.length * CHARACTER_WIDTH + 2}" ` +
    `height="${BAR_HEIGHT - 6}" fill="white"/>\n` + text(x + 2, y + 16, shown, "#111");
}

/** The lines are those of the first grid. */
function referenceLine(
  row: SchemeReport,
  { xOf, unitBytes }: Scale,
  plotEnd: number,
  grid: number,
): string[] {
  const isFile = row.scheme === "file";
  if (!isFile && (row.scheme !== "fastcdc" || row.grid !== grid)) return [];
  const colour = isFile ? LINE_COLOURS.file : LINE_COLOURS.fastcdc;
  const x = xOf(row.union.stored).toFixed(1);
  const label = `${schemeLabel(row, false)}: ${(row.union.stored / unitBytes).toFixed(1)}`;
  const halfWidth = label.length * CHARACTER_WIDTH / 2;
  return [
    `<line x1="${x}" y1="${TOP - 8}" x2="${x}" y2="${plotEnd}" stroke="${colour}" ` +
    `stroke-width="1.5" stroke-dasharray="6 4"/>`,
    // One above the other, so that lines that are close together can be told apart.
    text(
      Math.min(Number(x), WIDTH - halfWidth),
      TOP - (isFile ? 28 : 13),
      label,
      colour,
      "middle",
    ),
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
