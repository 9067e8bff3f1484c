/**
 * A picture of how an image lies on a grid: metadata, large files on the grid, runs of small files, and free space. For
 * several images, it shows which cells they share.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { isZero, shortSize } from "../lib/bytes/arithmetic.ts";
import { throwIfAborted } from "../lib/errors.ts";
import { openExt4Image } from "../lib/ext4/read/image.ts";
import { readTree } from "../lib/ext4/read/tree.ts";
import { type RandomReader, readExactly } from "../lib/io/random_reader.ts";
import { BLOCK_SIZE_BYTES, walkTree } from "../lib/model/node.ts";
import { Warnings } from "../lib/warnings.ts";
import { shortened, svgDocument, svgLine, svgText } from "./chart.ts";

export type CellKind = "hole" | "metadata" | "aligned" | "packed";

export interface MappedCell {
  readonly kind: CellKind;
  /** The share of its bytes that are not zero, 0 to 1. */
  readonly filled: number;
  /** SHA-256 of its bytes; undefined for a hole. */
  readonly digest: string | undefined;
  /** The number of the grid-aligned file it belongs to; neighbours differ. */
  readonly file: number;
}

export interface ImageMap {
  readonly name: string;
  readonly gridBytes: number;
  readonly cells: readonly MappedCell[];
}

export interface ImageMapOptions {
  readonly gridBytes: number;
  /** Files of at least this size are shown as grid-aligned. */
  readonly alignThresholdBytes: number;
  readonly signal?: AbortSignal | undefined;
}

const YIELD_AFTER_CELLS = 64;
const WIDTH = 800;
const MARGIN = 16;
const COLUMNS = 96;
const CELL = 8;
/** Four colours that also differ in grey. */
const COLOURS = { metadata: "#222222", aligned: ["#0067a5", "#4d9fd6"], packed: "#ffcb66" };

/** Finds out what each cell of an ext4 image holds. */
export async function mapImage(
  reader: RandomReader,
  name: string,
  { gridBytes, alignThresholdBytes, signal }: ImageMapOptions,
): Promise<ImageMap> {
  const owners = await ownersOf(reader, gridBytes, alignThresholdBytes);
  const cells: MappedCell[] = [];
  const buffer = new Uint8Array(gridBytes);
  for (let index = 0; index * gridBytes < reader.sizeBytes; index++) {
    const cell = buffer.subarray(0, Math.min(gridBytes, reader.sizeBytes - index * gridBytes));
    readExactly(reader, cell, index * gridBytes);
    const filled = filledShare(cell);
    const file = owners.get(index);
    cells.push({
      kind: filled === 0
        ? "hole"
        : file === undefined
        ? "metadata"
        : file < 0
        ? "packed"
        : "aligned",
      filled,
      digest: filled === 0 ? undefined : createHash("sha256").update(cell).digest("hex"),
      file: file ?? 0,
    });
    if (index % YIELD_AFTER_CELLS !== 0) continue;
    await setImmediate();
    throwIfAborted(signal);
  }
  return { name, gridBytes, cells };
}

/** For each cell, the number of the grid-aligned file in it, or -1 for small files. */
async function ownersOf(
  reader: RandomReader,
  gridBytes: number,
  alignThresholdBytes: number,
): Promise<Map<number, number>> {
  const warnings = new Warnings();
  const tree = await readTree(openExt4Image(reader, { warnings }), {
    warnings,
    scanContent: false,
  });
  const owners = new Map<number, number>();
  let fileCount = 0;
  for (const { node } of walkTree(tree)) {
    if (node.kind !== "file") continue;
    const isLarge = node.payload.sizeBytes >= alignThresholdBytes;
    const owner = isLarge ? fileCount++ : -1;
    for (const { storeOffset, lengthBytes } of node.payload.segments) {
      const last = Math.floor((storeOffset + lengthBytes - 1) / gridBytes);
      for (let cell = Math.floor(storeOffset / gridBytes); cell <= last; cell++) {
        if (isLarge || !owners.has(cell)) owners.set(cell, owner);
      }
    }
  }
  return owners;
}

function filledShare(cell: Uint8Array): number {
  let blocks = 0;
  for (let at = 0; at < cell.length; at += BLOCK_SIZE_BYTES) {
    if (!isZero(cell, at, Math.min(at + BLOCK_SIZE_BYTES, cell.length))) blocks++;
  }
  return blocks / Math.ceil(cell.length / BLOCK_SIZE_BYTES);
}

/** An SVG document with rows of cells. With several images, cells that another image also has are framed. */
export function mapPicture(maps: readonly ImageMap[]): string {
  const parts: string[] = [];
  const grid = maps[0]!.gridBytes;
  parts.push(
    svgText(MARGIN, 28, `Cells of ${shortSize(grid)}, row by row`, { size: 17, isBold: true }),
  );
  let y = legend(parts, maps.length > 1, 50);
  const holders = new Map<string, number>();
  for (const { cells } of maps) {
    for (const digest of new Set(cells.map(({ digest }) => digest))) {
      if (digest !== undefined) holders.set(digest, (holders.get(digest) ?? 0) + 1);
    }
  }
  for (const map of maps) y = imageCells(parts, map, holders, y);
  return svgDocument(WIDTH, Math.ceil(y + MARGIN), parts);
}

function legend(parts: string[], hasShared: boolean, y: number): number {
  const [even, odd] = COLOURS.aligned as [string, string];
  const items: [colours: readonly string[], text: string][] = [
    [[COLOURS.metadata], "metadata"],
    [[even, odd], "files on the grid, in two shades"],
    [[COLOURS.packed], "runs of small files"],
    [[], "free: holes and padding"],
  ];
  let x = MARGIN;
  for (const [colours, text] of items) {
    if (colours.length === 0) parts.push(box(x, y - 9, "none", "#bbb"));
    for (const colour of colours) {
      parts.push(box(x, y - 9, colour, "none"));
      x += CELL + 2;
    }
    if (colours.length === 0) x += CELL + 2;
    parts.push(svgText(x + 3, y, text, { size: 12 }));
    x += text.length * 6.4 + 24;
  }
  if (!hasShared) return y + 14;
  parts.push(sharedMark(MARGIN, y + 9));
  parts.push(svgText(MARGIN + CELL + 5, y + 18, "a cell that another image has too", { size: 12 }));
  return y + 32;
}

function imageCells(
  parts: string[],
  { name, cells }: ImageMap,
  holders: ReadonlyMap<string, number>,
  top: number,
): number {
  const used = cells.filter(({ kind }) => kind !== "hole");
  const shared = used.filter(({ digest }) => holders.get(digest!)! > 1).length;
  const text = `${shortened(name, 60)}: ${used.length.toLocaleString("en")} cells in use of ` +
    `${cells.length.toLocaleString("en")}` +
    (shared > 0 ? `, ${shared.toLocaleString("en")} of them in another image too` : "");
  parts.push(svgText(MARGIN, top + 18, text, { isBold: true }));
  const y = top + 28;
  cells.forEach((cell, index) => {
    if (cell.kind === "hole") return;
    const [cx, cy] = [MARGIN + index % COLUMNS * CELL, y + Math.floor(index / COLUMNS) * CELL];
    const colour = cell.kind === "aligned" ? COLOURS.aligned[cell.file % 2]! : COLOURS[cell.kind];
    // The free part of a cell is left white, above the used part.
    const height = Math.max(1, (CELL - 1) * cell.filled);
    parts.push(
      `<rect x="${cx}" y="${(cy + CELL - 1 - height).toFixed(1)}" width="${CELL - 1}" ` +
        `height="${height.toFixed(1)}" fill="${colour}"/>`,
    );
    if (holders.get(cell.digest!)! > 1) parts.push(sharedMark(cx, cy));
  });
  const bottom = y + Math.ceil(cells.length / COLUMNS) * CELL;
  parts.push(svgLine([MARGIN, bottom + 2], [MARGIN + COLUMNS * CELL, bottom + 2], {}));
  return bottom + 10;
}

function box(x: number, y: number, fill: string, stroke: string): string {
  return `<rect x="${x}" y="${y}" width="${CELL}" height="${CELL}" fill="${fill}" stroke="${stroke}"/>`;
}

/** A light dot on dark. */
function sharedMark(x: number, y: number): string {
  const middle = (CELL - 1) / 2;
  return `<circle cx="${x + middle}" cy="${
    y + middle
  }" r="1.7" fill="white" stroke="black" stroke-width="0.7"/>`;
}
