/**
 * `blessfs bless`: one image of a source, or one a layer, in files, on standard output and in chunk stores.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { blessLayered, type LayeredReport } from "../../lib/bless/layered.ts";
import { fillingBytes } from "../../lib/bless/envelope.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import { LAYERED_DEFAULTS, type LayoutOptions, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import type { LikeOptions, LikeReport } from "../../lib/bless/previous_image.ts";
import type { BlessReport, SourceReport } from "../../lib/bless/report.ts";
import { ChunkSink, createIndexSink } from "../../lib/chunk/chunk_sink.ts";
import { SECTOR_BYTES } from "../../lib/disk/gpt.ts";
import { UsageError } from "../../lib/errors.ts";
import { deviceFacts, isBlockDevice } from "../../lib/io/block_device.ts";
import { createDeviceSink, type DeviceSink, type ZeroedBy } from "../../lib/io/device_sink.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { type ImageSink, teeSink } from "../../lib/io/sink.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import { parseImageName } from "../../lib/source/source_name.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { aligned } from "../text.ts";
import { formatCount, formatDuration, formatSize } from "../values.ts";
import {
  NO_ADDITIONS,
  parseAdditions,
  type ParsedAdditions,
  refuseInsideAdditions,
} from "./additions.ts";
import { envelopeRows, layeredEnvelope, openEnvelope, writeRootHashBeside } from "./envelope.ts";
import { hotRows, parseHot, prefetchSink, writePrefetch } from "./hot.ts";
import {
  configSink,
  countsText,
  exactSize,
  localPaths,
  refuseInsideSource,
  refuseSameDevice,
  refuseTerminal,
  stdoutSink,
} from "./outputs.ts";
import { parseLayout, parseSourceOptions, sourceDateEpoch } from "./sources.ts";
import {
  cutOptions,
  indexTarget,
  openUploader,
  type StoreReport,
  storeReport,
  storeRows,
} from "./store.ts";

/** `blessfs bless [merged] SOURCE -o IMAGE`. */
export async function runMerged(args: ParsedArguments, io: CommandIo): Promise<void> {
  const image = args.value("output")!;
  if (args.positional("SOURCE") === "-") {
    const example = "`blessfs bless - -o IMAGE < root.tar`";
    refuseTerminal("SOURCE", io, `redirect a tar or an archive into it: ${example}`);
  }
  const { report, made } = await makeMerged(args, io);
  const { stored, elapsedMs } = made;
  io.warn(report.warnings);
  if (io.json) await io.writeReport(document(report, made));
  else if (image === "-" && stored === undefined) tellStreamed(report, elapsedMs, io);
  else if (!io.quiet) {
    const text = mergedText(report, made);
    const isTaken = [image, stored?.index, args.value("config")].includes("-");
    if (isTaken) io.stderr.write(text);
    else await io.stdout.write(text);
  }
}

/**
 * Makes one image as the arguments say.
 *
 * @param shared what it has in common with other images that are made
 */
export async function makeMerged(
  args: ParsedArguments,
  io: CommandIo,
  shared: Pick<SourceOptions, "jobs" | "layerCache"> = {},
): Promise<{ readonly report: BlessReport; readonly made: MadeImage }> {
  const started = io.now();
  const source = args.positional("SOURCE");
  const image = args.value("output")!;
  const defaults = withoutJournal(args, MERGED_DEFAULTS);
  const layout = parseLayout(args, defaults, fillBytesOf(args, image));
  const sourceOptions = parseSourceOptions(args, io, [source], args.value("store"));
  const additions = parseAdditions(args, io, [source]);
  const timestamp = sourceDateEpoch(io);
  const hot = parseHot(args);
  const prefetch = prefetchSink(args, io);
  const config = configSink(args, io, {
    image: image === "-" || image === NO_IMAGE ? undefined : image,
    sourcePaths: [...localPaths([source]), ...additions.paths, ...previousPaths(args)],
  });
  const outputs = await openOutputs(args, io, layout.gridBytes, additions);
  const opened = openEnvelope(args, io, {
    source,
    image: image === "-" || image === NO_IMAGE || outputs.device ? undefined : image,
    dryRun: args.flag("dry-run"),
  });
  const { envelope } = opened;
  let report: BlessReport;
  try {
    const { sink } = outputs;
    report = await blessMerged({
      ...sourceOptions,
      ...additions.options,
      ...shared,
      source,
      layout,
      envelope,
      timestamp,
      sink,
      configSink: config,
      ...parseLike(args),
      ...hot,
    });
  } finally {
    opened.close();
    await outputs.close();
  }
  await opened.finish(report);
  if (prefetch !== undefined) await writePrefetch(prefetch, report);
  const elapsedMs = Math.round(io.now() - started);
  const stored = outputs.storeReport();
  return { report, made: { image, stored, device: deviceReport(outputs), elapsedMs } };
}

/** The previous image, and what becomes of its bytes. */
function parseLike(args: ParsedArguments): LikeOptions {
  return { like: args.value("like"), keepStale: args.flag("keep-stale") };
}

/** The previous image as a path of this machine; the image itself may replace it, for it is whole first. */
function previousPaths(args: ParsedArguments): string[] {
  const like = args.value("like");
  return like === undefined || like === "" ? [] : [parseImageName(like, existsSync).path];
}

/** An image with a hash tree has no journal unless one is asked for. */
function withoutJournal(args: ParsedArguments, defaults: LayoutOptions): LayoutOptions {
  return args.value("verity") === undefined ? defaults : { ...defaults, journalBytes: 0 };
}

/** `storedBytes` is the former name of `cellBytes`; stored is now only what compression leaves, as in a probe. */
function withFormerName<T extends { readonly cellBytes: number }>(
  report: T,
): T & { readonly storedBytes: number } {
  return { ...report, storedBytes: report.cellBytes };
}

/** What `--size fill` stands for; undefined when the output is no device. */
function fillBytesOf(args: ParsedArguments, image: string): (() => number) | undefined {
  if (!isBlockDevice(image)) return undefined;
  return () =>
    fillingBytes(deviceFacts(image).sizeBytes, {
      ...args.value("verity") === "append" ? { verity: { salt: new Uint8Array(0) } } : {},
      ...args.value("disk") === undefined ? {} : { disk: {} },
      vhd: args.flag("vhd"),
    });
}

/** What is said of a device that was written. */
export interface DeviceReport {
  readonly sizeBytes: number;
  /** How the holes of the image became zeros. */
  readonly zeroedBy: ZeroedBy;
}

function deviceReport({ device }: Outputs): DeviceReport | undefined {
  return device && { sizeBytes: device.sizeBytes, zeroedBy: device.zeroedBy };
}

/** What was made of a plan. */
export interface MadeImage {
  readonly image: string;
  readonly stored: StoredReport | undefined;
  readonly device: DeviceReport | undefined;
  readonly elapsedMs: number;
}

/** The report as a document. */
export function document(
  report: BlessReport,
  { image, stored, device, elapsedMs }: MadeImage,
): Record<string, unknown> {
  const { mode, source, manifestDigest, ...rest } = withFormerName(report);
  return {
    mode,
    source,
    manifestDigest,
    image: image === NO_IMAGE || stored?.dryRun ? null : image,
    ...rest,
    ...device === undefined ? {} : { device },
    ...stored === undefined ? {} : { chunkStore: stored },
    elapsedMs,
  };
}

const ZEROED_TEXTS: Readonly<Record<ZeroedBy, string>> = {
  device: "zeroed by itself",
  writing: "zeros written",
  nothing: "taken for zeroed",
};

/** What was put on top. */
function additionRows({ additions }: SourceReport): (readonly [string, string])[] {
  if (additions === undefined) return [];
  const { entries, sizeBytes, digest, excludedNames, differingCells } = additions;
  const left = excludedNames === 0 ? "" : `, ${formatCount(excludedNames)} names left out`;
  const cells = differingCells === null ? "" : `, ${formatCount(differingCells)} cells differ`;
  const counts = `${formatCount(entries)} entries, ${formatSize(sizeBytes)}${left}${cells}`;
  return [["additions", `${counts}, ${digest}`]];
}

function tellStreamed(report: BlessReport, elapsedMs: number, io: CommandIo): void {
  if (io.quiet) return;
  const size = formatSize(report.outputBytes ?? report.sizeBytes);
  const files = formatCount(report.files);
  io.stderr.write(`blessfs: streamed ${size}, ${files} files in ${formatDuration(elapsedMs)}\n`);
  const { verity } = report;
  if (verity !== undefined) io.stderr.write(`blessfs: root hash ${verity.rootHash}\n`);
}

function mergedText(
  report: BlessReport,
  { image, stored, device, elapsedMs }: MadeImage,
): string {
  const cells = `${formatSize(report.cellBytes)} in use, of ${formatSize(report.grid)} each`;
  const aligns = `${formatCount(report.alignedFiles)} files on the grid, ${
    formatSize(report.paddingBytes)
  } of padding`;
  const content = countsText([
    [report.files, "files"],
    [report.directories, "directories"],
    [report.symlinks, "symlinks"],
    [report.specialFiles, "special files"],
  ]);
  return aligned([
    ["image", image === NO_IMAGE || stored?.dryRun ? "none" : safeLine(image)],
    ["source", safeLine(report.source)],
    ...report.manifestDigest === null ? [] : [["manifest", report.manifestDigest] as const],
    ["uuid", report.uuid],
    ["size", exactSize(report.sizeBytes)],
    ["used", formatSize(report.usedBytes)],
    ["cells", cells],
    ["content", content],
    ["layout", aligns],
    ["layers", formatCount(report.layers.length)],
    ...hotRows(report),
    ...report.like === undefined ? [] : [["like", likeText(report.like)] as const],
    ...additionRows(report),
    ...envelopeRows(report),
    ...device === undefined ? [] : [
      [
        "device",
        `${exactSize(device.sizeBytes)}, ${ZEROED_TEXTS[device.zeroedBy]}`,
      ] as const,
    ],
    ...stored === undefined ? [] : [
      ["index", stored.index === null ? "none: a dry run" : safeLine(stored.index)] as const,
      ...storeRows(stored),
    ],
    ["time", formatDuration(elapsedMs)],
  ]);
}

/** What was kept of the previous image, in one line. */
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

/** For an image that only goes to a chunk store. */
export const NO_IMAGE = "none";

/** What is said of the store, and which index was written. */
export type StoredReport = StoreReport & { readonly index: string | null };

/** Where the image goes. */
export interface Outputs {
  readonly sink: ImageSink;
  /** The block device that it goes to, if it does. */
  readonly device?: DeviceSink | undefined;
  /** Once the image is there; undefined when it went to no store. */
  storeReport(): StoredReport | undefined;
  /** To be called in the end, whatever happened. */
  close(): Promise<void>;
}

/** The chunks first, then the image, and the index last: who sees it finds everything in the store. */
export async function openOutputs(
  args: ParsedArguments,
  io: CommandIo,
  gridBytes: number,
  additions: ParsedAdditions = NO_ADDITIONS,
): Promise<Outputs> {
  const source = args.positional("SOURCE");
  const image = args.value("output")!;
  const index = args.value("index");
  for (const output of [image, index ?? "-"]) {
    if (output !== "-" && output !== NO_IMAGE) refuseInsideAdditions(output, additions);
  }
  const sourcePaths = [...localPaths([source]), ...additions.paths];
  const device = openDevice(image, sourcePaths, args, io);
  const file = image === NO_IMAGE ? undefined : device ?? outputSink(image, sourcePaths, args, io);
  const indexSink = index === undefined ? undefined : openIndex(index, args, io);
  if (args.value("store") !== undefined && index === undefined && !args.flag("dry-run")) {
    throw new UsageError("--store", "there is no name for the index of the chunks", {
      hint: "name one with --index FILE.caibx, or ask only what would be new with --dry-run",
    });
  }
  const opened = await openUploader(args, io, { others: ["index"], source });
  if (opened === undefined) {
    if (file !== undefined) {
      return { sink: file, device, storeReport: () => undefined, close: () => Promise.resolve() };
    }
    throw new UsageError("--output", "`none` without --store would make nothing", {
      hint: "write ./none for a file of that name",
    });
  }
  const chunks = new ChunkSink(opened.uploader, cutOptions(opened, gridBytes));
  const sinks: ImageSink[] = [chunks];
  if (!opened.dryRun) {
    if (file !== undefined) sinks.push(file);
    if (indexSink !== undefined) sinks.push(createIndexSink(chunks, indexSink));
  }
  return {
    sink: teeSink(...sinks),
    device: opened.dryRun ? undefined : device,
    close: opened.close,
    storeReport: () => ({
      index: opened.dryRun ? null : index ?? null,
      ...storeReport(opened, gridBytes, chunks.counts),
    }),
  };
}

/** The device that an image goes to; undefined for whatever else it is. */
function openDevice(
  image: string,
  sourcePaths: readonly string[],
  args: ParsedArguments,
  io: CommandIo,
): DeviceSink | undefined {
  const assumeZeroed = args.flag("assume-zeroed");
  if (image === "-" || image === NO_IMAGE || !isBlockDevice(image)) {
    if (!assumeZeroed) return undefined;
    throw new UsageError("--assume-zeroed", "has no effect on an output that is no block device", {
      hint: "leave it out",
    });
  }
  // What is written over the image that it is laid out like could not be compared with it.
  refuseSameDevice(image, [...sourcePaths, ...previousPaths(args), args.value("esp") ?? ""]);
  const device = createDeviceSink(image, { assumeZeroed, signal: io.signal });
  if (args.value("disk") === undefined || device.sectorBytes === SECTOR_BYTES) return device;
  throw new UsageError(
    safeLine(image),
    `has sectors of ${device.sectorBytes} bytes: partition tables are made for ${SECTOR_BYTES}`,
    { hint: "leave out --disk, or name a device with sectors of 512 bytes" },
  );
}

function openIndex(index: string, args: ParsedArguments, io: CommandIo): ImageSink {
  const image = args.value("output")!;
  const source = args.positional("SOURCE");
  if (index === "-" && image === "-") {
    throw new UsageError("--index", "the image takes standard output, so the index cannot");
  }
  const target = indexTarget(index, args, io, {
    sourcePaths: [...localPaths([source]), ...previousPaths(args)],
    image: image === "-" || image === NO_IMAGE ? undefined : image,
  });
  if (index !== "-") refuseInsideSource(index, source);
  return target;
}

function outputSink(
  image: string,
  sourcePaths: readonly string[],
  args: ParsedArguments,
  io: CommandIo,
): ImageSink {
  if (image === "-") return stdoutSink("image", io);
  const options = { force: args.flag("force"), signal: io.signal };
  const sink = createFileSink(image, { ...options, sourcePaths });
  refuseInsideSource(image, args.positional("SOURCE"));
  return sink;
}

/** Digits of a diff id that tell layers apart for people. */
const SHOWN_HEX_DIGITS = 12;

/** `blessfs bless layered SOURCE -o DIR`. */
export async function runLayered(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const outputDir = args.value("output")!;
  const source = args.positional("SOURCE");
  refuseInsideSource(outputDir, source);
  const additions = parseAdditions(args, io, [source]);
  refuseInsideAdditions(outputDir, additions);
  const layout = parseLayout(args, LAYERED_DEFAULTS);
  const sourceOptions = parseSourceOptions(args, io, [source], args.value("store"));
  const config = configSink(args, io, {
    image: outputDir,
    sourcePaths: [...localPaths([source]), ...additions.paths],
  });
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
    configSink: config,
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
  const stored = opened && storeReport(opened, layout.gridBytes, chunks!);
  if (io.json) {
    const chunkStore = stored === undefined ? {} : { chunkStore: stored };
    await io.writeReport({
      mode,
      source,
      manifestDigest,
      directory: outputDir,
      ...rest,
      ...chunkStore,
      elapsedMs,
    });
  } else if (!io.quiet) {
    const text = layeredText(report, outputDir, { stored, elapsedMs });
    if (args.value("config") === "-") io.stderr.write(text);
    else await io.stdout.write(text);
  }
}

function layeredText(
  report: LayeredReport,
  directory: string,
  { stored, elapsedMs }: { readonly stored: StoreReport | undefined; readonly elapsedMs: number },
): string {
  const { layers, reusedLayers } = report;
  const dryRun = stored?.dryRun ?? false;
  return aligned([
    ["directory", dryRun ? "none: a dry run" : safeLine(directory)],
    ["source", safeLine(report.source)],
    ...report.manifestDigest === null ? [] : [["manifest", report.manifestDigest] as const],
    ["layers", `${formatCount(layers.length)}, ${formatCount(reusedLayers)} of them used again`],
    ...layers.map((layer, i) => [`layer ${i + 1}`, layerText(layer, dryRun)] as const),
    ...additionRows(report),
    ["size", formatSize(report.sizeBytes)],
    ["cells", `${formatSize(report.cellBytes)} in use, of ${formatSize(report.grid)} each`],
    ...report.disk === undefined ? [] : [
      [
        "disk",
        `${safeLine(report.disk.file)}, ${formatSize(report.disk.sizeBytes)}, ${
          formatCount(report.disk.partitions.length)
        } partitions`,
      ] as const,
    ],
    ...stored === undefined ? [] : storeRows(stored),
    ["time", formatDuration(elapsedMs)],
  ]);
}

function layerText(
  { diffId, image, isReused }: LayeredReport["layers"][number],
  dryRun: boolean,
): string {
  const hex = diffId.slice(diffId.indexOf(":") + 1).slice(0, SHOWN_HEX_DIGITS);
  const how = isReused ? "used again" : dryRun ? "would be made" : "made";
  return `${hex}, ${formatSize(image.sizeBytes)}, ${formatCount(image.files)} files, ${how}`;
}
