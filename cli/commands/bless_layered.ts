/**
 * `blessfs bless layered SOURCE -o DIR`.
 *
 * @module
 */
import { blessLayered, type LayeredReport } from "../../lib/bless/layered.ts";
import { LAYERED_DEFAULTS } from "../../lib/bless/options.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import type { CommandIo } from "../io.ts";
import { formatCount, formatDuration, formatSize } from "../sizes.ts";
import { aligned } from "../text.ts";
import { sourceDateEpoch } from "../values.ts";
import {
  layoutOptionSpecs,
  parseLayout,
  parseSourceOptions,
  SOURCE_OPTION_SPECS,
} from "./bless_options.ts";
import {
  openUploader,
  STORE_OPTION,
  STORE_OPTION_SPECS,
  type StoreReport,
  storeReport,
  storeRows,
} from "./chunk_options.ts";
import { refuseInsideSource } from "./outside_source.ts";

/** Digits of a diff id that tell layers apart for people. */
const SHOWN_HEX_DIGITS = 12;

/** The command. */
export const blessLayeredCommand: Command = {
  name: "bless layered",
  summary: "make one ext4 image a layer, for overlayfs",
  examples: [
    {
      purpose: "Bless every layer of an image that skopeo copied here",
      line: "blessfs bless layered oci:images/python:latest -o layers",
    },
    {
      purpose: "Add another image; layers that are there already are used again",
      line: "blessfs bless layered oci:images/node:latest -o layers",
    },
    {
      purpose: "Put the images into a chunk store too, with one index a layer",
      line: "blessfs bless layered oci:images/python:latest -o layers --store /srv/chunks",
    },
    {
      purpose: "Get the names and figures of the images for a script",
      line: "blessfs bless layered oci:images/python -o layers --json",
    },
  ],
  description: [
    "Each layer becomes DIR/DIFFID.ext4, with a record DIR/DIFFID.json that proves it to be whole. What a layer " +
    "shows can depend on those below it; where its name has an image that shows something else, its name goes on with a part " +
    "of its tree's digest. An image that is there, whole and made with the same options is left alone; where that is so " +
    "for all, no layer is read.",
    "DIR/image.json holds the image's config, its layers from the bottom up and the options of the overlay mount. It is " +
    "always that of the last image; DIR/image-DIGEST.json is the same and stays.",
    "With --store the index of each image's chunks is DIR/NAME.caibx, named in image.json; the images stay where they are. " +
    "image.json says what this run made: without --store it names no index, and those of earlier runs are left as they are.",
    "Mount each layer that has a mountPoint read-only at a directory of that name, make the directories listed under " +
    "overlay.emptyDirectories beside them, and there run `mount -t overlay overlay -o OPTIONS TARGET`.",
  ],
  positionals: [{
    name: "SOURCE",
    summary: "the image to bless, or - for one on standard input",
    completion: "source",
  }],
  options: [
    {
      name: "output",
      short: "o",
      value: "DIR",
      required: true,
      completion: "directory",
      summary: "the directory of the images; made when it is missing",
    },
    {
      name: "force",
      short: "f",
      summary: "replace images there that were made with other options, or are not whole",
    },
    STORE_OPTION,
    ...STORE_OPTION_SPECS,
    {
      name: "uuid",
      value: "UUID",
      defaultText: "from the layer and what it shows",
      summary: "UUID of the file system, for a source of one layer",
    },
    { name: "label", value: "TEXT", summary: "label of the file systems, at most 16 bytes" },
    ...layoutOptionSpecs(LAYERED_DEFAULTS),
    ...SOURCE_OPTION_SPECS,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const outputDir = args.value("output")!;
  const source = args.positional("SOURCE");
  refuseInsideSource(outputDir, source);
  const layout = parseLayout(args, LAYERED_DEFAULTS);
  const sourceOptions = parseSourceOptions(args, io, [source]);
  const opened = await openUploader(args, io, { source });
  const { chunks, ...report } = await blessLayered({
    ...sourceOptions,
    source,
    layout,
    timestamp: sourceDateEpoch(io.env) ?? 0,
    outputDir,
    force: args.flag("force"),
    chunks: opened,
    isDryRun: opened?.isDryRun ?? false,
  });
  const elapsedMs = Math.round(io.now() - started);
  io.warn(report.warnings);
  const { mode, source: _source, manifestDigest, ...rest } = report;
  const stored = opened && storeReport(opened, layout.gridBytes, chunks!);
  if (io.json) {
    const chunkStore = stored === undefined ? {} : { chunkStore: stored };
    await io.writeJson({
      mode,
      source,
      manifestDigest,
      directory: outputDir,
      ...rest,
      ...chunkStore,
      elapsedMs,
    });
  } else if (!io.quiet) {
    await io.stdout.write(reportText(report, outputDir, { stored, elapsedMs }));
  }
}

function reportText(
  report: LayeredReport,
  directory: string,
  { stored, elapsedMs }: { readonly stored: StoreReport | undefined; readonly elapsedMs: number },
): string {
  const { layers, reusedLayers } = report;
  const isDryRun = stored?.dryRun ?? false;
  return aligned([
    ["directory", isDryRun ? "none: a dry run" : safeLine(directory)],
    ["source", safeLine(report.source)],
    ...report.manifestDigest === null ? [] : [["manifest", report.manifestDigest] as const],
    ["layers", `${formatCount(layers.length)}, ${formatCount(reusedLayers)} of them used again`],
    ...layers.map((layer, i) => [`layer ${i + 1}`, layerText(layer, isDryRun)] as const),
    ["size", formatSize(report.sizeBytes)],
    ["stored", `${formatSize(report.storedBytes)} in cells of ${formatSize(report.grid)}`],
    ...stored === undefined ? [] : storeRows(stored),
    ["time", formatDuration(elapsedMs)],
  ]);
}

function layerText(
  { diffId, image, isReused }: LayeredReport["layers"][number],
  isDryRun: boolean,
): string {
  const hex = diffId.slice(diffId.indexOf(":") + 1).slice(0, SHOWN_HEX_DIGITS);
  const how = isReused ? "used again" : isDryRun ? "would be made" : "made";
  return `${hex}, ${formatSize(image.sizeBytes)}, ${formatCount(image.files)} files, ${how}`;
}
