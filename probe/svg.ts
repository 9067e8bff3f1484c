/**
 * The few shapes that the pictures of this program are drawn with. Documents have neither scripts nor fonts of their own.
 *
 * @module
 */

/** A size's unit on an axis. */
export interface SizeUnit {
  readonly bytes: number;
  readonly name: string;
}

/** A straight axis. */
export interface Axis {
  /** Where sizes lie. */
  readonly xOf: (bytes: number) => number;
  readonly ticks: readonly number[];
  readonly unit: SizeUnit;
  /** Whether it begins above zero. */
  readonly isBroken: boolean;
}

/** How a marker looks: told apart by shape and filling, so that colour is not needed. */
export type Marker = "circle" | "square" | "diamond" | "triangle" | "cross";

const KIB = 1024;
const UNITS: readonly SizeUnit[] = [
  { bytes: 1, name: "B" },
  { bytes: KIB, name: "KiB" },
  { bytes: KIB ** 2, name: "MiB" },
  { bytes: KIB ** 3, name: "GiB" },
  { bytes: KIB ** 4, name: "TiB" },
];
/** So many of a unit at least. */
const UNIT_COUNT_MIN = 4;
const TICKS_MAX = 7;
/** Below it an axis that begins at zero wastes little. */
const BREAK_SHARE_MIN = 0.4;

/** A document on white. */
export function svgDocument(width: number, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}" font-family="Helvetica, Arial, sans-serif" font-size="13">\n` +
    `<rect width="${width}" height="${height}" fill="white"/>\n${parts.join("\n")}\n</svg>\n`;
}

/** Text; `anchor` is the end that lies at `x`. */
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

/** A line; `dashes` as SVG has them. */
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

/** A marker around a point. */
export function svgMarker(
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

/** Markup and the characters that XML 1.0 does not have are replaced. */
export function escapeXml(content: string): string {
  return content
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    // deno-lint-ignore no-control-regex
    .replace(/[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]/g, "?");
}

/** An axis over values: from just below the smallest where that shows more, else from zero. */
export function axisFor(
  values: readonly number[],
  left: number,
  right: number,
  mayBreak = true,
): Axis {
  const [least, most] = [Math.min(...values), Math.max(1, ...values)];
  const unit = [...UNITS].reverse().find(({ bytes }) => most >= UNIT_COUNT_MIN * bytes) ??
    UNITS[0]!;
  const wants = mayBreak && least > BREAK_SHARE_MIN * most;
  const step = niceStep(((wants ? most - least : most) / unit.bytes || 1) / TICKS_MAX) * unit.bytes;
  const start = wants ? Math.max(0, (Math.ceil(least / step) - 1) * step) : 0;
  const end = Math.max(Math.ceil(most / step) * step, start + step);
  const count = Math.round((end - start) / step);
  return {
    xOf: (bytes) => left + (bytes - start) / (end - start) * (right - left),
    ticks: Array.from({ length: count + 1 }, (_, i) => start + i * step),
    unit,
    isBroken: start > 0,
  };
}

/** Draws an axis under `[top, bottom]`, with a mark where it is broken. */
export function svgAxis({ xOf, ticks, unit, isBroken }: Axis, top: number, bottom: number): string {
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

/** A size in a unit, with one digit behind the point. */
export function sizeIn(bytes: number, unit: SizeUnit): string {
  return (bytes / unit.bytes).toFixed(1);
}

/** Text cut to a number of characters. */
export function shortened(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-9)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999)!;
}
