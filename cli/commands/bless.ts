/**
 * `blessfs bless`: one image per source or one per layer, written to files, standard output and chunk stores.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { parseAdditions } from "./additions.ts";
import {
  indexSink,
  openChunks,
  type OpenedChunks,
  openUploader,
  type StoreReport,
  storeReport,
  storeRows,
} from "./chunk.ts";
import { envelopeRows, layeredEnvelope, openEnvelope, writeRootHashBeside } from "./envelope.ts";
import {
  countsText,
  exactSize,
  type OutputNames,
  Outputs,
  refuseSameDevice,
  refuseTerminal,
  stdoutSink,
} from "./outputs.ts";
import { parseLayout, parseSourceOptions, sourceDateEpoch } from "./sources.ts";
import { safeLine } from "../errors.ts";
import type { Rows } from "../text.ts";
import { formatCount, formatDuration, formatSize } from "../values.ts";
import { fillingBytes } from "../../lib/bless/envelope.ts";
import type { HotFiles, HotOptions } from "../../lib/bless/hot.ts";
import { blessLayered, type LayeredReport } from "../../lib/bless/layered.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { LAYERED_DEFAULTS, type LayoutOptions, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import type { LikeOptions, LikeReport } from "../../lib/bless/previous_image.ts";
import type { BlessReport, SourceReport } from "../../lib/bless/report.ts";
import type { ChunkDigest } from "../../lib/chunk/chunk.ts";
import { createIndexSink } from "../../lib/chunk/chunk_sink.ts";
import { SECTOR_BYTES } from "../../lib/disk/gpt.ts";
import { UsageError } from "../../lib/errors.ts";
import { deviceFacts, isBlockDevice } from "../../lib/io/block_device.ts";
import { createDeviceSink, type DeviceSink, type ZeroedBy } from "../../lib/io/device_sink.ts";
import { openInputFile, SharedDescriptor } from "../../lib/io/random_reader.ts";
import { type ImageSink, teeSink, writeWhole } from "../../lib/io/sink.ts";
import { parseHotList } from "../../lib/source/hot_list.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import { parseImageName } from "../../lib/source/source_name.ts";

/** For an image that goes only to a chunk store. */
const NO_IMAGE = "none";

interface SharedWork extends Pick<SourceOptions, "jobs" | "layerCache"> {
  /** The outputs of all lines. */
  readonly names?: OutputNames;
  readonly line?: number;
}

export interface MadeImage {
  readonly report: BlessReport;
  readonly document: Record<string, unknown>;
  readonly rows: Rows;
  readonly index: string | null | undefined;
  readonly elapsedMs: number;
}

export async function runMerged(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.text("output");
  if (args.positional("SOURCE") === "-") {
    const example = "`blessfs bless - -o IMAGE < root.tar`";
    refuseTerminal("SOURCE", io, `redirect a tar or an archive into it: ${example}`);
  }
  const { report, document, rows, index, elapsedMs } = await makeMerged(args, io);
  io.warn(report.warnings);
  if (image === "-" && index === undefined) return reportStreamed(report, elapsedMs, io);
  await io.answer(document, rows, [image, index, args.value("config")]);
}

function reportStreamed(report: BlessReport, elapsedMs: number, io: CommandIo): void {
  if (io.quiet) return;
  const size = formatSize(report.outputBytes ?? report.sizeBytes);
  const files = formatCount(report.files);
  io.stderr.write(`blessfs: streamed ${size}, ${files} files in ${formatDuration(elapsedMs)}\n`);
  const { verity } = report;
  if (verity !== undefined) io.stderr.write(`blessfs: root hash ${verity.rootHash}\n`);
}

export async function makeMerged(
  args: ParsedArguments,
  io: CommandIo,
  { names, line, ...shared }: SharedWork = {},
): Promise<MadeImage> {
  const started = io.now();
  const source = args.positional("SOURCE");
  const image = args.text("output");
  const isFile = image !== "-" && image !== NO_IMAGE;
  const layout = parseLayout(args, withoutJournal(args, MERGED_DEFAULTS), fillBytesOf(args, image));
  const sourceOptions = parseSourceOptions(args, io, [source], args.value("store"));
  const additions = parseAdditions(args, io, [source]);
  const inputs = { sources: [source], added: additions.paths };
  const outputs = new Outputs(args, io, inputs, { ...names && { names }, ...line && { line } });
  const device = openDevice(image, outputs, args, io);
  const file = image === "-"
    ? stdoutSink("image", io)
    : device ?? (isFile ? outputs.file(image, "the image") : undefined);
  const index = openIndex(outputs, args, io);
  const hot = parseHot(args);
  const prefetch = prefetchSink(args, outputs);
  const configSink = outputs.config(previousPaths(args));
  const around = openEnvelope(args, outputs, isFile && !device ? image : undefined);
  let chunks: OpenedChunks | undefined;
  let report: BlessReport;
  try {
    const unused = { others: ["index"], source };
    chunks = await openChunks(args, io, layout.gridBytes, unused);
    report = await blessMerged({
      ...sourceOptions,
      ...additions.options,
      ...shared,
      source,
      layout,
      envelope: around.envelope,
      timestamp: sourceDateEpoch(io),
      sink: sinkOf(file, chunks, index),
      configSink,
      ...parseLike(args),
      ...hot,
    });
  } finally {
    around.close();
    await chunks?.close();
  }
  await around.finish(report);
  if (prefetch !== undefined) await writePrefetch(prefetch, report);
  const elapsedMs = Math.round(io.now() - started);
  const indexName = args.flag("dry-run") ? null : args.value("index") ?? null;
  const made = {
    image: image === NO_IMAGE || chunks?.dryRun ? null : image,
    device: chunks?.dryRun
      ? undefined
      : device && { sizeBytes: device.sizeBytes, zeroedBy: device.zeroedBy },
    chunkStore: chunks && { index: indexName, ...chunks.report() },
    elapsedMs,
  };
  return {
    report,
    document: documentOf(report, made),
    rows: mergedRows(report, made),
    index: chunks && indexName,
    elapsedMs,
  };
}

/**
 * Writes the chunks first, then the image, and the index last: whoever sees the index finds everything in the store.
 */
function sinkOf(
  file: ImageSink | undefined,
  chunks: OpenedChunks | undefined,
  index: ImageSink | undefined,
): ImageSink {
  if (chunks === undefined) {
    if (file !== undefined) return file;
    throw new UsageError("--output", "`none` without --store would make nothing", {
      hint: "write ./none for a file of that name",
    });
  }
  if (chunks.dryRun) return chunks.sink;
  const rest = [file, index && createIndexSink(chunks.sink, index)];
  return teeSink(chunks.sink, ...rest.filter((sink) => sink !== undefined));
}

/** The device that an image goes to; undefined if the output is not a device. */
function openDevice(
  image: string,
  outputs: Outputs,
  args: ParsedArguments,
  io: CommandIo,
): DeviceSink | undefined {
  const assumeZeroed = args.flag("assume-zeroed");
  if (image === "-" || image === NO_IMAGE || !isBlockDevice(image)) {
    if (!assumeZeroed) return undefined;
    throw new UsageError(
      "--assume-zeroed",
      "has no effect on an output that is not a block device",
      {
        hint: "leave it out",
      },
    );
  }
  outputs.take(image, "the image");
  // Overwriting the previous image would leave nothing to compare the new one with.
  const read = [...outputs.sourcePaths, ...previousPaths(args), args.value("esp") ?? ""];
  refuseSameDevice(image, read);
  const device = createDeviceSink(image, { assumeZeroed, signal: io.signal });
  if (args.value("disk") === undefined || device.sectorBytes === SECTOR_BYTES) return device;
  throw new UsageError(
    safeLine(image),
    `has sectors of ${device.sectorBytes} bytes: partition tables are made for ${SECTOR_BYTES}`,
    { hint: "leave out --disk, or name a device with sectors of 512 bytes" },
  );
}

function openIndex(
  outputs: Outputs,
  args: ParsedArguments,
  io: CommandIo,
): ImageSink | undefined {
  const index = args.value("index");
  if (index === "-" && args.text("output") === "-") {
    throw new UsageError("--index", "the image takes standard output, so the index cannot");
  }
  if (index !== undefined) return indexSink(index, outputs, args, io, previousPaths(args));
  if (args.value("store") === undefined || args.flag("dry-run")) return undefined;
  throw new UsageError("--store", "there is no name for the index of the chunks", {
    hint: "name one with --index FILE.caibx, or ask only what would be new with --dry-run",
  });
}

function parseLike(args: ParsedArguments): LikeOptions {
  return { like: args.value("like"), keepStale: args.flag("keep-stale") };
}

/**
 * The local path of the previous image; the new image may replace it, because it is only renamed into place when
 * complete.
 */
function previousPaths(args: ParsedArguments): string[] {
  const like = args.value("like") ?? "";
  return like === "" ? [] : [parseImageName(like, existsSync).path];
}

/** An image with a hash tree has no journal unless the user asks for one. */
function withoutJournal(args: ParsedArguments, defaults: LayoutOptions): LayoutOptions {
  return args.value("verity") === undefined ? defaults : { ...defaults, journalBytes: 0 };
}

/**
 * `storedBytes` is the former name of `cellBytes`; "stored" now only means the size after compression, as in a probe.
 */
function withFormerName<T extends { readonly cellBytes: number }>(
  report: T,
): T & { readonly storedBytes: number } {
  return { ...report, storedBytes: report.cellBytes };
}

/** The size that `--size fill` stands for; undefined when the output is not a device. */
function fillBytesOf(args: ParsedArguments, image: string): (() => number) | undefined {
  if (!isBlockDevice(image)) return undefined;
  return () =>
    fillingBytes(deviceFacts(image).sizeBytes, {
      ...args.value("verity") === "append" ? { verity: { salt: new Uint8Array(0) } } : {},
      ...args.value("disk") === undefined ? {} : { disk: {} },
      vhd: args.flag("vhd"),
    });
}

interface Made {
  /** Null when no image was made. */
  readonly image: string | null;
  /** How the image's holes were zeroed on a device. */
  readonly device: { readonly sizeBytes: number; readonly zeroedBy: ZeroedBy } | undefined;
  readonly chunkStore: (StoreReport & { readonly index: string | null }) | undefined;
  readonly elapsedMs: number;
}

function documentOf(report: BlessReport, made: Made): Record<string, unknown> {
  const { mode, source, manifestDigest, ...rest } = withFormerName(report);
  const { image, ...more } = made;
  return { mode, source, manifestDigest, image, ...rest, ...more };
}

const ZEROED_TEXTS: Readonly<Record<ZeroedBy, string>> = {
  device: "zeroed by itself",
  writing: "zeros written",
  nothing: "taken for zeroed",
};

function mergedRows(report: BlessReport, { image, device, chunkStore, elapsedMs }: Made): Rows {
  const { index } = chunkStore ?? {};
  return [
    ["image", image === null ? "none" : safeLine(image)],
    ["source", safeLine(report.source)],
    ["manifest", report.manifestDigest ?? undefined],
    ["uuid", report.uuid],
    ["size", exactSize(report.sizeBytes)],
    ["used", formatSize(report.usedBytes)],
    ["cells", cellsText(report)],
    [
      "content",
      countsText([
        [report.files, "files"],
        [report.directories, "directories"],
        [report.symlinks, "symlinks"],
        [report.specialFiles, "special files"],
      ]),
    ],
    [
      "layout",
      `${formatCount(report.alignedFiles)} files on the grid, ` +
      `${formatSize(report.paddingBytes)} of padding`,
    ],
    ["layers", formatCount(report.layers.length)],
    ...hotRows(report),
    ["like", report.like && likeText(report.like)],
    ["additions", additionsText(report)],
    ...envelopeRows(report),
    ["device", device && `${exactSize(device.sizeBytes)}, ${ZEROED_TEXTS[device.zeroedBy]}`],
    ["index", index === null ? "none: a dry run" : index && safeLine(index)],
    ...chunkStore === undefined ? [] : storeRows(chunkStore),
    ["time", formatDuration(elapsedMs)],
  ];
}

function cellsText({ cellBytes, grid }: { readonly cellBytes: number; readonly grid: number }) {
  return `${formatSize(cellBytes)} in use, of ${formatSize(grid)} each`;
}

function additionsText({ additions }: SourceReport): string | undefined {
  if (additions === undefined) return undefined;
  const { entries, sizeBytes, digest, excludedNames, differingCells } = additions;
  const left = excludedNames === 0 ? "" : `, ${formatCount(excludedNames)} names left out`;
  const cells = differingCells === null ? "" : `, ${formatCount(differingCells)} cells differ`;
  return `${formatCount(entries)} entries, ${formatSize(sizeBytes)}${left}${cells}, ${digest}`;
}

function likeText({ previous, afresh, staleCleared, cells, staleBytes }: LikeReport): string {
  const counts = countsText([
    [cells.kept, "cells kept"],
    [cells.changed, "changed"],
    [cells.new, "new"],
  ]);
  const stale = staleBytes === 0
    ? ""
    : `; ${formatSize(staleBytes)} of removed content stays readable on the raw device`;
  const cleared = staleCleared === null ? "" : `; removed content was cleared: ${staleCleared}`;
  const how = afresh === null ? cleared : `; laid out afresh: ${afresh}`;
  return `${safeLine(previous)}: ${counts}${stale}${how}`;
}

const SHOWN_HEX_DIGITS = 12;

export async function runLayered(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const outputDir = args.text("output");
  const source = args.positional("SOURCE");
  const additions = parseAdditions(args, io, [source]);
  const outputs = new Outputs(args, io, { sources: [source], added: additions.paths });
  outputs.take(outputDir, "the output");
  const layout = parseLayout(args, LAYERED_DEFAULTS);
  const sourceOptions = parseSourceOptions(args, io, [source], args.value("store"));
  const configSink = outputs.config();
  const opened = await openUploader(args, io, { source });
  const { chunks, ...report } = await blessLayered({
    ...sourceOptions,
    ...additions.options,
    source,
    layout,
    envelope: layeredEnvelope(args),
    timestamp: sourceDateEpoch(io),
    outputDir,
    force: args.flag("force"),
    chunks: opened,
    dryRun: opened?.dryRun ?? false,
    configSink,
    ...parseLike(args),
  }).finally(opened?.close);
  if (args.flag("roothash") && !opened?.dryRun) {
    for (const { file, verity } of report.layers) {
      await writeRootHashBeside(join(outputDir, file), verity!, io);
    }
  }
  const elapsedMs = Math.round(io.now() - started);
  io.warn(report.warnings);
  const { mode, source: _source, manifestDigest, ...rest } = withFormerName(report);
  const chunkStore = opened && storeReport(opened, layout.gridBytes, chunks!);
  const head = { mode, source, manifestDigest, directory: outputDir };
  await io.answer(
    { ...head, ...rest, chunkStore, elapsedMs },
    layeredRows(report, outputDir, { chunkStore, elapsedMs }),
    [args.value("config")],
  );
}

function layeredRows(
  report: LayeredReport,
  directory: string,
  { chunkStore, elapsedMs }: Pick<Made, "elapsedMs"> & {
    readonly chunkStore: StoreReport | undefined;
  },
): Rows {
  const { layers, reusedLayers, disk } = report;
  const dryRun = chunkStore?.dryRun ?? false;
  return [
    ["directory", dryRun ? "none: a dry run" : safeLine(directory)],
    ["source", safeLine(report.source)],
    ["manifest", report.manifestDigest ?? undefined],
    ["layers", `${formatCount(layers.length)}, ${formatCount(reusedLayers)} of them used again`],
    ...layers.map((layer, i) => [`layer ${i + 1}`, layerText(layer, dryRun)] as const),
    ["additions", additionsText(report)],
    ["size", formatSize(report.sizeBytes)],
    ["cells", cellsText(report)],
    [
      "disk",
      disk && `${safeLine(disk.file)}, ${formatSize(disk.sizeBytes)}, ` +
        `${formatCount(disk.partitions.length)} partitions`,
    ],
    ...chunkStore === undefined ? [] : storeRows(chunkStore),
    ["time", formatDuration(elapsedMs)],
  ];
}

function layerText(
  { diffId, image, isReused }: LayeredReport["layers"][number],
  dryRun: boolean,
): string {
  const hex = diffId.slice(diffId.indexOf(":") + 1).slice(0, SHOWN_HEX_DIGITS);
  const how = isReused ? "used again" : dryRun ? "would be made" : "made";
  return `${hex}, ${formatSize(image.sizeBytes)}, ${formatCount(image.files)} files, ${how}`;
}

/** Names the files the entry point reads, instead of a list. To use a list with this name, write ./entrypoint. */
const ENTRYPOINT = "entrypoint";

function parseHot(args: ParsedArguments): HotOptions {
  const named = args.value("hot");
  return {
    hot: named === undefined ? undefined : hotFiles(named),
    hotDigest: args.text("digest") as ChunkDigest,
  };
}

function hotFiles(named: string): HotFiles {
  if (named === ENTRYPOINT) return { kind: "entrypoint" };
  const { descriptor, sizeBytes } = openInputFile(named, { what: "a list of files" });
  const file = new SharedDescriptor(descriptor);
  const reader = file.reader(safeLine(named), 0, sizeBytes);
  try {
    const bytes = new Uint8Array(sizeBytes);
    const count = reader.readAt(bytes, 0);
    const name = safeLine(named);
    return { kind: "list", name, list: parseHotList(bytes.subarray(0, count), name) };
  } finally {
    reader.close();
  }
}

/** The sink of `--prefetch`; undefined without it. Checked before any image is made. */
function prefetchSink(args: ParsedArguments, outputs: Outputs): ImageSink | undefined {
  const path = args.value("prefetch");
  if (path === undefined) return undefined;
  if (args.value("hot") !== undefined) return outputs.file(path, "--prefetch");
  throw new UsageError("--prefetch", "nothing is hot without --hot", {
    hint: "name the files that a boot reads with --hot FILE, or --hot entrypoint",
  });
}

/** Writes what a store or a server needs to prefetch the cells. */
async function writePrefetch(sink: ImageSink, report: BlessReport): Promise<void> {
  const { uuid, grid, prefetch } = report;
  const none = { offset: 0, length: 0, digest: null, cells: [] };
  const document = { version: 1, uuid, grid, ...prefetch ?? none };
  await writeWhole(sink, new TextEncoder().encode(`${JSON.stringify(document, undefined, 2)}\n`));
}

function hotRows({ hot, prefetch }: BlessReport): Rows {
  if (hot === undefined) return [];
  const missing = hot.missing === 0 ? "" : `, ${formatCount(hot.missing)} paths not found`;
  const placed = prefetch === undefined
    ? "nothing: they have no blocks"
    : `${formatSize(prefetch.length)} at ${formatSize(prefetch.offset)}, ` +
      `${formatCount(prefetch.cells.length)} cells`;
  return [
    ["hot", `${formatCount(hot.files)} files, ${formatSize(hot.bytes)}${missing}`],
    ["prefetch", placed],
  ];
}
