/**
 * A probe's report as charts, and the shapes they are drawn with. The documents contain no scripts and no fonts.
 *
 * Rows are distinguished by the shape and fill of their markers, and references by the dashes of their lines, so the
 * charts can be read in black and white. Nothing is written over a line; values have columns of their own.
 *
 * @module
 */
import { shortSize } from "../lib/bytes/arithmetic.ts";
import type { ProbeReport, SchemeReport } from "./report.ts";
import { schemeLabel } from "./schemes.ts";

const WIDTH = 800;
const MARGIN = 16;
const ROW_HEIGHT = 24;
/** Wider than an average character. */
const CHARACTER_WIDTH = 7.4;
const LABEL_WIDTH_MAX = 250;
const VALUE_WIDTH = 66;
const UNITS_WIDTH = 66;
const PADDING_WIDTH = 86;
const AXIS_HEIGHT = 44;
const NAMES_LENGTH_MAX = 112;

interface Style {
  readonly marker: Marker;
  readonly colour: string;
  readonly isHollow: boolean;
}

/** The Okabe and Ito colours, which people with any colour vision can distinguish. */
const STYLES: Readonly<Record<string, Style>> = {
  unaligned: { marker: "circle", colour: "#666666", isHollow: true },
  "start-aligned": { marker: "square", colour: "#666666", isHollow: true },
  "as-is": { marker: "circle", colour: "#0072b2", isHollow: true },
  merge: { marker: "circle", colour: "#0072b2", isHollow: false },
  resync: { marker: "triangle", colour: "#d55e00", isHollow: false },
  tight: { marker: "diamond", colour: "#009e73", isHollow: false },
  fastcdc: { marker: "cross", colour: "#000000", isHollow: false },
  file: { marker: "diamond", colour: "#000000", isHollow: true },
};
const FASTCDC_LINE = { colour: "#000000", width: 1.5, dashes: "7 4" };
const FILE_LINE = { colour: "#000000", width: 1.5, dashes: "1.5 3.5" };

export function reportChart(report: ProbeReport): string {
  const parts: string[] = [];
  let y = heading(parts, report);
  for (const grid of gridsOf(report)) y = storePanel(parts, report, grid, y);
  if (report.images.length > 1) y = newBytesPanel(parts, report, y);
  return svgDocument(WIDTH, Math.ceil(y + MARGIN), parts);
}

function gridsOf({ schemes }: ProbeReport): number[] {
  return [...new Set(schemes.flatMap(({ grid }) => grid ?? []))];
}

function heading(parts: string[], report: ProbeReport): number {
  const measure = report.compress === "none" ? "not compressed" : report.compress;
  const title = `Stored bytes of ${report.images.length} images in one store, ${measure}`;
  parts.push(svgText(MARGIN, 28, title, { size: 17, isBold: true }));
  let y = 48;
  for (const line of namesOf(report)) {
    parts.push(svgText(MARGIN, y, line, { colour: "#444", size: 12 }));
    y += 16;
  }
  return y;
}

/** The names of the first few images, each on its own line. */
function namesOf({ images }: ProbeReport): string[] {
  const names = images.slice(0, 4).map(({ source }, i) =>
    shortened(`${i + 1}  ${source}`, NAMES_LENGTH_MAX)
  );
  const more = images.length - names.length;
  return more > 0 ? [...names, `and ${more} more`] : names;
}

/** The size of all images together, by layout, with the references of that grid. */
function storePanel(
  parts: string[],
  report: ProbeReport,
  grid: number,
  top: number,
): number {
  const rows = report.schemes.filter((row) =>
    row.grid === grid && row.scheme !== "fastcdc" && row.scheme !== "file"
  );
  const fastCdc = report.schemes.find((row) => row.scheme === "fastcdc" && row.grid === grid);
  const file = report.schemes.find((row) => row.scheme === "file");
  const references = [fastCdc, file].filter((row) => row !== undefined);
  const left = MARGIN + labelWidth(rows) + 10;
  const right = WIDTH - MARGIN - VALUE_WIDTH - UNITS_WIDTH - PADDING_WIDTH;
  const values = [...rows, ...references].map(({ union }) => union.stored);
  const axis = axisFor(values, left, right);
  let y = top + 22;
  parts.push(svgText(MARGIN, y, `Cells of ${shortSize(grid)}`, { isBold: true }));
  y = legend(parts, references, axis, y + 20);
  const columns = [right + VALUE_WIDTH, right + VALUE_WIDTH + UNITS_WIDTH, WIDTH - MARGIN];
  [axis.unit.name, "units", "padding"].forEach((name, i) =>
    parts.push(svgText(columns[i]!, y, name, { colour: "#444", anchor: "end", size: 12 }))
  );
  const [plotTop, plotBottom] = [y + 8, y + 8 + rows.length * ROW_HEIGHT];
  parts.push(svgAxis(axis, plotTop, plotBottom));
  references.forEach((row) => {
    const x = axis.xOf(row.union.stored);
    const style = row.scheme === "file" ? FILE_LINE : FASTCDC_LINE;
    parts.push(svgLine([x, plotTop], [x, plotBottom], style));
  });
  rows.forEach((row, i) => {
    const middle = plotTop + (i + 0.5) * ROW_HEIGHT;
    parts.push(...rowParts(row, axis.xOf(row.union.stored), left, middle));
    const cells = [
      sizeIn(row.union.stored, axis.unit),
      row.union.units.toLocaleString("en"),
      `${(row.paddingBytes / 2 ** 20).toFixed(1)} MiB`,
    ];
    cells.forEach((cell, c) =>
      parts.push(svgText(columns[c]!, middle + 4, cell, { anchor: "end" }))
    );
  });
  return plotBottom + AXIS_HEIGHT;
}

/** A row's label, and its marker at `x`, with a line leading to it if it has a start. */
function rowParts(
  row: SchemeReport,
  x: number,
  left: number,
  middle: number,
  lineStart?: number,
): string[] {
  const label = shortened(schemeLabel(row, false), Math.floor(LABEL_WIDTH_MAX / CHARACTER_WIDTH));
  const style = STYLES[row.packing?.split(":")[0] ?? row.scheme]!;
  const line = { colour: style.colour, width: 2 };
  return [
    svgText(left - 10, middle + 4, label, { anchor: "end" }),
    ...lineStart === undefined ? [] : [svgLine([lineStart, middle], [x, middle], line)],
    svgMarker(style.marker, x, middle, style),
  ];
}

/** Explains the lines, with a sample of each. */
function legend(
  parts: string[],
  references: readonly SchemeReport[],
  { unit }: Axis,
  y: number,
): number {
  let x = MARGIN;
  for (const row of references) {
    const style = row.scheme === "file" ? FILE_LINE : FASTCDC_LINE;
    const text = `${schemeLabel(row, false)}: ${sizeIn(row.union.stored, unit)} ${unit.name}, ` +
      `${row.union.units.toLocaleString("en")} units`;
    parts.push(svgLine([x, y - 4], [x + 34, y - 4], style));
    parts.push(svgText(x + 40, y, text, { size: 12 }));
    x += 40 + text.length * CHARACTER_WIDTH * 0.92 + 24;
  }
  return y + 18;
}

/** What each image adds to the previous ones, at the first grid. */
function newBytesPanel(parts: string[], report: ProbeReport, top: number): number {
  const [grid] = gridsOf(report);
  const rows = report.schemes.filter((row) => row.grid === grid || row.grid === null);
  const left = MARGIN + labelWidth(rows) + 10;
  const right = WIDTH - MARGIN - VALUE_WIDTH;
  let y = top + 26;
  const what = `what each image adds to those before it, cells of ${shortSize(grid!)}`;
  parts.push(
    svgText(MARGIN, y, "New stored bytes, image by image", { size: 17, isBold: true }),
    svgText(MARGIN, y + 18, what, { colour: "#444", size: 12 }),
  );
  y += 26;
  // Skip the first image: everything in it is new, and its bar would dwarf the others.
  for (let image = 1; image < report.images.length; image++) {
    y = newBytesRows(parts, rows, image, { left, right, top: y, report });
  }
  return y;
}

function newBytesRows(
  parts: string[],
  rows: readonly SchemeReport[],
  image: number,
  { left, right, top, report }: {
    readonly left: number;
    readonly right: number;
    readonly top: number;
    readonly report: ProbeReport;
  },
): number {
  const axis = axisFor(rows.map(({ newBytes }) => newBytes[image]!.stored), left, right, false);
  const name = shortened(`image ${image + 1}: ${report.images[image]!.source}`, 90);
  parts.push(svgText(MARGIN, top + 18, name, { isBold: true }));
  parts.push(
    svgText(WIDTH - MARGIN, top + 18, axis.unit.name, { colour: "#444", anchor: "end", size: 12 }),
  );
  const [plotTop, plotBottom] = [top + 26, top + 26 + rows.length * ROW_HEIGHT];
  parts.push(svgAxis(axis, plotTop, plotBottom));
  rows.forEach((row, i) => {
    const middle = plotTop + (i + 0.5) * ROW_HEIGHT;
    const bytes = row.newBytes[image]!.stored;
    parts.push(
      ...rowParts(row, axis.xOf(bytes), left, middle, axis.xOf(0)),
      svgText(WIDTH - MARGIN, middle + 4, sizeIn(bytes, axis.unit), { anchor: "end" }),
    );
  });
  return plotBottom + AXIS_HEIGHT - 8;
}

function labelWidth(rows: readonly SchemeReport[]): number {
  const longest = Math.max(0, ...rows.map((row) => schemeLabel(row, false).length));
  return Math.min(LABEL_WIDTH_MAX, longest * CHARACTER_WIDTH);
}

export interface SizeUnit {
  readonly bytes: number;
  readonly name: string;
}

export interface Axis {
  /** Converts a size to a horizontal position. */
  readonly xOf: (bytes: number) => number;
  readonly ticks: readonly number[];
  readonly unit: SizeUnit;
  /** Whether the axis begins above zero. */
  readonly isBroken: boolean;
}

/** A marker's shape, which distinguishes rows without relying on colour. */
export type Marker = "circle" | "square" | "diamond" | "triangle" | "cross";

const KIB = 1024;
const UNITS: readonly SizeUnit[] = [
  { bytes: 1, name: "B" },
  { bytes: KIB, name: "KiB" },
  { bytes: KIB ** 2, name: "MiB" },
  { bytes: KIB ** 3, name: "GiB" },
  { bytes: KIB ** 4, name: "TiB" },
];
/** A unit is used only if the value is at least this many of it. */
const UNIT_COUNT_MIN = 4;
const TICKS_MAX = 7;
/** Below this share, an axis that begins at zero wastes little space. */
const BREAK_SHARE_MIN = 0.4;

export function svgDocument(width: number, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}" font-family="Helvetica, Arial, sans-serif" font-size="13">\n` +
    `<rect width="${width}" height="${height}" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
}

/** Text; `anchor` is the end that is placed at `x`. */
export function svgText(
  x: number,
  y: number,
  content: string,
  { colour = "#111", anchor = "start", size = 13, isBold = false }: {
    readonly colour?: string | undefined;
    readonly anchor?: "start" | "middle" | "end" | undefined;
    readonly size?: number | undefined;
    readonly isBold?: boolean | undefined;
  } = {},
): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" fill="${colour}" text-anchor="${anchor}" ` +
    `font-size="${size}"${isBold ? ' font-weight="bold"' : ""}>${escapeXml(content)}</text>`;
}

/** A line; `dashes` is an SVG dash pattern. */
export function svgLine(
  [x1, y1]: readonly [number, number],
  [x2, y2]: readonly [number, number],
  { colour = "#bbb", width = 1, dashes = "" }: {
    readonly colour?: string | undefined;
    readonly width?: number | undefined;
    readonly dashes?: string | undefined;
  } = {},
): string {
  return `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" ` +
    `y2="${y2.toFixed(1)}" stroke="${colour}" stroke-width="${width}"` +
    `${dashes === "" ? "" : ` stroke-dasharray="${dashes}"`}/>`;
}

function svgMarker(
  kind: Marker,
  x: number,
  y: number,
  { colour, isHollow }: { readonly colour: string; readonly isHollow: boolean },
): string {
  const paint = `fill="${isHollow ? "white" : colour}" stroke="${colour}" stroke-width="2"`;
  const points = (list: readonly (readonly [number, number])[]) =>
    list.map(([dx, dy]) => `${(x + dx).toFixed(1)},${(y + dy).toFixed(1)}`).join(" ");
  switch (kind) {
    case "circle":
      return `<circle cx="${x.toFixed(1)}" cy="${y}" r="5" ${paint}/>`;
    case "square":
      return `<rect x="${(x - 5).toFixed(1)}" y="${y - 5}" width="10" height="10" ${paint}/>`;
    case "diamond":
      return `<polygon points="${points([[0, -6.5], [6.5, 0], [0, 6.5], [-6.5, 0]])}" ${paint}/>`;
    case "triangle":
      return `<polygon points="${points([[0, -6], [6, 5], [-6, 5]])}" ${paint}/>`;
    case "cross":
      return svgLine([x - 5, y - 5], [x + 5, y + 5], { colour, width: 2.5 }) +
        svgLine([x - 5, y + 5], [x + 5, y - 5], { colour, width: 2.5 });
  }
}

/** Escapes markup, and replaces characters that XML 1.0 does not allow. */
export function escapeXml(content: string): string {
  return content
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    // deno-lint-ignore no-control-regex
    .replace(/[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]/g, "?");
}

/** An axis for the values, starting just below the smallest if that shows more detail, otherwise at zero. */
function axisFor(
  values: readonly number[],
  left: number,
  right: number,
  mayBreak = true,
): Axis {
  const [least, most] = [Math.min(...values), Math.max(1, ...values)];
  const unit = [...UNITS].reverse().find(({ bytes }) => most >= UNIT_COUNT_MIN * bytes) ??
    UNITS[0]!;
  const skipsZero = mayBreak && least > BREAK_SHARE_MIN * most;
  const step = niceStep(((skipsZero ? most - least : most) / unit.bytes || 1) / TICKS_MAX) *
    unit.bytes;
  const start = skipsZero ? Math.max(0, (Math.ceil(least / step) - 1) * step) : 0;
  const end = Math.max(Math.ceil(most / step) * step, start + step);
  const count = Math.round((end - start) / step);
  return {
    xOf: (bytes) => left + (bytes - start) / (end - start) * (right - left),
    ticks: Array.from({ length: count + 1 }, (_, i) => start + i * step),
    unit,
    isBroken: start > 0,
  };
}

/** Draws an axis below `[top, bottom]`, with a mark where it is broken. */
function svgAxis({ xOf, ticks, unit, isBroken }: Axis, top: number, bottom: number): string {
  const parts = ticks.map((bytes) => {
    const x = xOf(bytes);
    const label = `${Math.round(bytes / unit.bytes * 1000) / 1000}`;
    return svgLine([x, top], [x, bottom], { colour: "#e2e2e2" }) + "\n" +
      svgText(x, bottom + 16, label, { colour: "#444", anchor: "middle", size: 12 });
  });
  const [first, last] = [xOf(ticks[0]!), xOf(ticks.at(-1)!)];
  parts.push(svgLine([first, bottom], [last, bottom], { colour: "#666" }));
  if (isBroken) {
    for (const dx of [6, 11]) {
      parts.push(
        svgLine([first + dx - 4, bottom + 5], [first + dx + 4, bottom - 5], { colour: "#666" }),
      );
    }
  }
  return parts.join("\n");
}

function sizeIn(bytes: number, unit: SizeUnit): string {
  return (bytes / unit.bytes).toFixed(1);
}

/** Text cut to `length` characters. */
export function shortened(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-9)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999)!;
}
