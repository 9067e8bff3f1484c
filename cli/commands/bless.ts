/**
 * `blessfs bless [merged] SOURCE -o IMAGE`.
 *
 * @module
 */
import { blessMerged } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import type { BlessReport } from "../../lib/bless/report.ts";
import { UsageError } from "../../lib/errors.ts";
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
import { NO_IMAGE, openOutputs, type StoredReport } from "./bless_outputs.ts";
import { STORE_OPTION, STORE_OPTION_SPECS, storeRows } from "./chunk_options.ts";

/** The command. */
export const blessMergedCommand: Command = {
  name: "bless merged",
  aliases: ["bless"],
  summary: "make one ext4 image with all layers applied",
  examples: [
    {
      purpose: "Bless an image that skopeo copied here",
      line: "blessfs bless oci:images/python:latest -o python.ext4",
    },
    {
      purpose: "Bless an image straight from its registry",
      line: "blessfs bless docker://registry.example.com/team/app:1.2 -o app.ext4",
    },
    {
      purpose: "Leave 2 GiB of free space in it, for a virtual machine that writes",
      line: "blessfs bless oci:images/python:latest -o vm.ext4 --size +2G",
    },
    {
      purpose: "Stream it into a block device",
      line: "blessfs bless tar:root.tar.gz -o - | dd of=/dev/vdb bs=1M",
    },
    {
      purpose: "Put it into a chunk store that casync and desync read, and make no image",
      line: "blessfs bless oci:images/vm -o none --store /srv/chunks --index vm.caibx",
    },
    {
      purpose: "Get the figures for a script",
      line: "blessfs bless oci:images/python -o python.ext4 --json",
    },
  ],
  description: [
    "Equal sources and options give equal bytes, whoever blesses them, where and when. The UUID is derived from " +
    "the source's digest.",
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
      value: "IMAGE",
      required: true,
      completion: "file",
      summary:
        "the image to make; - streams it to standard output, none makes only what --store asks for",
    },
    STORE_OPTION,
    {
      name: "index",
      value: "FILE.caibx",
      completion: "file",
      summary: "the index of the chunks in the store; - writes it to standard output",
    },
    ...STORE_OPTION_SPECS,
    { name: "force", short: "f", summary: "replace an output that exists" },
    {
      name: "uuid",
      value: "UUID",
      defaultText: "from the content",
      summary: "UUID of the file system",
    },
    { name: "label", value: "TEXT", summary: "label of the file system, at most 16 bytes" },
    ...layoutOptionSpecs(MERGED_DEFAULTS),
    ...SOURCE_OPTION_SPECS,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const source = args.positional("SOURCE");
  const image = args.value("output")!;
  if (source === "-" && io.stdin.isTerminal) {
    throw new UsageError("SOURCE", "`-` is standard input, and that is a terminal", {
      hint: "direct a tar or an archive into it: `blessfs bless - -o IMAGE < root.tar`",
    });
  }
  const layout = parseLayout(args, MERGED_DEFAULTS);
  const sourceOptions = parseSourceOptions(args, io, [source]);
  const timestamp = sourceDateEpoch(io.env) ?? 0;
  const outputs = await openOutputs(args, io, layout.gridBytes);
  const report = await blessMerged({
    ...sourceOptions,
    source,
    layout,
    timestamp,
    sink: outputs.sink,
  });
  const elapsedMs = Math.round(io.now() - started);
  io.warn(report.warnings);
  const stored = outputs.storeReport();
  if (io.json) await io.writeJson(document(report, image, stored, elapsedMs));
  else if (image === "-" && stored === undefined) tellStreamed(report, elapsedMs, io);
  else if (!io.quiet) {
    const text = reportText(report, image, elapsedMs, stored);
    if (image === "-" || stored?.index === "-") io.stderr.write(text);
    else await io.stdout.write(text);
  }
}

function document(
  report: BlessReport,
  image: string,
  stored: StoredReport | undefined,
  elapsedMs: number,
): Record<string, unknown> {
  const { mode, source, manifestDigest, ...rest } = report;
  return {
    mode,
    source,
    manifestDigest,
    image: image === NO_IMAGE || stored?.dryRun ? null : image,
    ...rest,
    ...stored === undefined ? {} : { chunkStore: stored },
    elapsedMs,
  };
}

function tellStreamed(report: BlessReport, elapsedMs: number, io: CommandIo): void {
  if (io.quiet) return;
  const size = formatSize(report.sizeBytes);
  const files = formatCount(report.files);
  io.stderr.write(`blessfs: streamed ${size}, ${files} files in ${formatDuration(elapsedMs)}\n`);
}

function reportText(
  report: BlessReport,
  image: string,
  elapsedMs: number,
  stored: StoredReport | undefined,
): string {
  const size = `${formatSize(report.sizeBytes)} (${formatCount(report.sizeBytes)} bytes)`;
  const cells = `${formatSize(report.storedBytes)} in cells of ${formatSize(report.grid)}`;
  const aligns = `${formatCount(report.alignedFiles)} files on the grid, ${
    formatSize(report.paddingBytes)
  } of padding`;
  const kinds: [count: number, name: string][] = [
    [report.files, "files"],
    [report.directories, "directories"],
    [report.symlinks, "symlinks"],
    [report.specialFiles, "special files"],
  ];
  const content = kinds.filter(([count]) => count > 0).map(([count, name]) =>
    `${formatCount(count)} ${name}`
  );
  return aligned([
    ["image", image === NO_IMAGE || stored?.dryRun ? "none" : safeLine(image)],
    ["source", safeLine(report.source)],
    ...report.manifestDigest === null ? [] : [["manifest", report.manifestDigest] as const],
    ["uuid", report.uuid],
    ["size", size],
    ["used", formatSize(report.usedBytes)],
    ["stored", cells],
    ["content", content.join(", ")],
    ["layout", aligns],
    ["layers", formatCount(report.layers.length)],
    ...stored === undefined ? [] : [
      ["index", stored.index === null ? "none: a dry run" : safeLine(stored.index)] as const,
      ...storeRows(stored),
    ],
    ["time", formatDuration(elapsedMs)],
  ]);
}
