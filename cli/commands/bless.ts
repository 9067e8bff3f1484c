/**
 * `blessfs bless [merged] SOURCE -o IMAGE`.
 *
 * @module
 */
import { existsSync, realpathSync, statSync } from "node:fs";
import { dirname, sep } from "node:path";
import { blessMerged } from "../../lib/bless/merged.ts";
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import type { BlessReport } from "../../lib/bless/report.ts";
import { UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { createStdoutSink } from "../../lib/io/stdout_sink.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
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
      purpose: "Leave 2 GiB of free space in it, for a virtual machine that writes",
      line: "blessfs bless oci:images/python:latest -o vm.ext4 --size +2G",
    },
    {
      purpose: "Stream it into a block device",
      line: "blessfs bless tar:root.tar.gz -o - | dd of=/dev/vdb bs=1M",
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
      summary: "the image to make; - streams it to standard output",
    },
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
  const sourceOptions = parseSourceOptions(args, io);
  const timestamp = sourceDateEpoch(io.env) ?? 0;
  const report = await blessMerged({
    ...sourceOptions,
    source,
    layout,
    timestamp,
    sink: outputSink(image, source, args, io),
  });
  const elapsedMs = Math.round(io.now() - started);
  io.warn(report.warnings);
  const { mode, source: _source, manifestDigest, ...rest } = report;
  if (io.json) await io.writeJson({ mode, source, manifestDigest, image, ...rest, elapsedMs });
  else if (image === "-") tellStreamed(report, elapsedMs, io);
  else if (!io.quiet) await io.stdout.write(reportText(report, image, elapsedMs));
}

function outputSink(
  image: string,
  source: string,
  args: ParsedArguments,
  io: CommandIo,
): ImageSink {
  const sourcePath = localPath(source);
  if (image === "-") {
    if (!io.json) return createStdoutSink((bytes) => io.stdout.writeThrough(bytes));
    throw new UsageError("--json", "the image takes standard output, so the report cannot", {
      hint: "write the image to a file, or leave out --json",
    });
  }
  const force = args.flag("force");
  const sink = createFileSink(image, {
    force,
    signal: io.signal,
    sourcePaths: sourcePath === undefined ? [] : [sourcePath],
  });
  if (sourcePath !== undefined) refuseInside(image, source, sourcePath);
  return sink;
}

/** The path of this machine that a source names. */
function localPath(source: string): string | undefined {
  const name = parseSourceName(source, existsSync);
  return "path" in name ? name.path : undefined;
}

/** An image inside the tree that it is made of would be a part of itself. */
function refuseInside(image: string, source: string, sourcePath: string): void {
  const isTree = source.startsWith("rootfs:") && existsSync(sourcePath) &&
    statSync(sourcePath).isDirectory();
  if (!isTree) return;
  const root = realpathSync(sourcePath);
  const parent = realpathSync(dirname(image));
  if (parent === root || parent.startsWith(root.endsWith(sep) ? root : root + sep)) {
    throw new UsageError(safeLine(image), `lies inside its source ${safeLine(sourcePath)}`, {
      hint: "name an output outside of the tree",
    });
  }
}

function tellStreamed(report: BlessReport, elapsedMs: number, io: CommandIo): void {
  if (io.quiet) return;
  const size = formatSize(report.sizeBytes);
  const files = formatCount(report.files);
  io.stderr.write(`blessfs: streamed ${size}, ${files} files in ${formatDuration(elapsedMs)}\n`);
}

function reportText(report: BlessReport, image: string, elapsedMs: number): string {
  const size = `${formatSize(report.sizeBytes)} (${formatCount(report.sizeBytes)} bytes)`;
  const stored = `${formatSize(report.storedBytes)} in cells of ${formatSize(report.grid)}`;
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
    ["image", safeLine(image)],
    ["source", safeLine(report.source)],
    ...report.manifestDigest === null ? [] : [["manifest", report.manifestDigest] as const],
    ["uuid", report.uuid],
    ["size", size],
    ["used", formatSize(report.usedBytes)],
    ["stored", stored],
    ["content", content.join(", ")],
    ["layout", aligns],
    ["layers", formatCount(report.layers.length)],
    ["time", formatDuration(elapsedMs)],
  ]);
}
