/**
 * `blessfs probe SOURCE...`.
 *
 * @module
 */
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { UsageError } from "../../lib/errors.ts";
import { reportCsv } from "../../probe/csv.ts";
import { probeFingerprints } from "../../probe/fingerprints/probe_fingerprints.ts";
import { schemeLabel } from "../../probe/labels.ts";
import { probe } from "../../probe/probe.ts";
import type { ProbeReport } from "../../probe/report.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { EXIT, type ExitCode } from "../exit_codes.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { sizeOption } from "../sizes.ts";
import { sourceDateEpoch } from "../values.ts";
import { parseSourceOptions, SOURCE_OPTION_SPECS } from "./bless_options.ts";
import { parseMeasure, parseMinDedup, refuseLayout, refuseMeasure } from "./probe_options.ts";
import { ProbeOutputs } from "./probe_outputs.ts";
import { probeText } from "./probe_table.ts";

/** The command. */
export const probeCommand: Command = {
  name: "probe",
  aliases: ["dedup-probe"],
  summary: "show what fixed-grid dedup saves across images",
  examples: [
    {
      purpose: "Compare three images",
      line: "blessfs probe oci:images/base oci:images/python oci:images/node",
    },
    {
      purpose: "See what a rebuild adds, by threshold, as a chart",
      line: "blessfs probe oci:old oci:new --align-threshold 16K,64K --plot sweep.svg",
    },
    {
      purpose: "Cut disk images as they are",
      line: "blessfs probe --as-is a.ext4 b.ext4 --grid 64K,128K,256K",
    },
    {
      purpose: "Compare what hosts wrote with --fingerprints FILE",
      line: "blessfs probe --from old.parquet new.parquet",
    },
    {
      purpose: "Fail when too little is shared",
      line: "blessfs probe oci:old oci:new --min-dedup 40%",
    },
  ],
  description: [
    "Nothing is written: the bytes that bless would write are cut and hashed as they come. All-zero units are " +
    "never counted. Raw sizes leave out zero blocks of 4 KiB inside units, stored sizes are each unit compressed.",
    "Rows: whole files (without metadata), the unaligned image in the order of its layers, FastCDC over the same " +
    "bytes, and the image as bless would lay it out, for each threshold and packing.",
  ],
  positionals: [{
    name: "SOURCE",
    summary: "an image; the order is that of the new bytes",
    completion: "source",
    repeated: true,
  }],
  options: [
    {
      name: "align-threshold",
      key: "alignThresholdBytes",
      value: "SIZE|none",
      list: true,
      choices: ["none"],
      open: true,
      defaultText: `DEDUP_ALIGN_THRESHOLD, else ${sizeOption(MERGED_DEFAULTS.alignThresholdBytes)}`,
      summary: "a row for each threshold; none is always a row",
    },
    {
      name: "packing",
      value: "RULE",
      list: true,
      choices: ["resync", "tight"],
      open: true,
      defaultText: "resync,tight",
      summary: "a row for each packing: resync[:MEAN[:LO]] or tight",
    },
    {
      name: "grid",
      key: "gridBytes",
      value: "SIZE",
      list: true,
      defaultText: sizeOption(MERGED_DEFAULTS.gridBytes),
      summary: "block sizes of the store",
    },
    {
      name: "cdc",
      key: "chunker",
      value: "AVG[:MIN:MAX]|gear",
      choices: ["gear"],
      open: true,
      defaultText: "the grid's size",
      summary: "sizes of FastCDC's chunks, or a plain gear chunker of 16K to 1M with 17 bits",
    },
    {
      name: "compress",
      key: "compression",
      value: "HOW",
      choices: ["none", "zstd"],
      open: true,
      defaultText: "zstd:1",
      summary: "what stored sizes mean: none, or zstd[:LEVEL]",
    },
    {
      name: "mode",
      value: "MODE",
      choices: ["merged", "layered"],
      defaultText: "merged",
      summary: "measure merged images, or one image a layer",
    },
    {
      name: "fingerprints",
      value: "FILE",
      completion: "file",
      summary: "write every unit of every row into a Parquet file, for --from or a database",
    },
    { name: "from", summary: "the sources are files of --fingerprints: read nothing else" },
    { name: "as-is", summary: "cut the files given as they are, and rebuild nothing" },
    {
      name: "format",
      value: "FORMAT",
      choices: ["table", "json", "csv"],
      defaultText: "table",
      summary: "how the answer is printed",
    },
    {
      name: "plot",
      value: "FILE",
      completion: "file",
      summary: "draw the stored bytes of all rows into an SVG file",
    },
    { name: "force", short: "f", summary: "replace a FILE that exists" },
    { name: "self-shift", summary: "compare the first image with itself, shifted on the grid" },
    { name: "pairwise", summary: "show the shared bytes of every two images" },
    { name: "explain", summary: "show the identical files that lose most to the cut" },
    {
      name: "min-dedup",
      value: "SHARE",
      summary: "exit with 1 when the row shares less of its stored bytes; 40% or 0.4",
    },
    {
      name: "row",
      value: "WORDS",
      defaultText: "the first aligned row; with --as-is the first one",
      summary:
        "the row that these and the histogram are of, by words of its label: '64K tight', fastcdc",
    },
    ...SOURCE_OPTION_SPECS,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<ExitCode | void> {
  const format = outputFormat(args, io);
  const minDedup = parseMinDedup(args);
  const outputs = new ProbeOutputs(args, io);
  let report: ProbeReport;
  try {
    report = await reportOf(args, io, outputs);
    await outputs.writeChart(report);
  } catch (error) {
    await outputs.abort();
    throw error;
  }
  if (format !== "json") io.warn(report.warnings);
  if (format === "json") await io.writeJson(report);
  else await io.stdout.write(format === "csv" ? reportCsv(report) : probeText(report));
  return minDedup === undefined ? undefined : gate(report, minDedup, io);
}

async function reportOf(
  args: ParsedArguments,
  io: CommandIo,
  outputs: ProbeOutputs,
): Promise<ProbeReport> {
  const sources = args.positionals("SOURCE");
  const way = (["from", "as-is"] as const).find((flag) => args.flag(flag));
  if (way !== undefined && sources.includes("-")) {
    throw new UsageError("-", `standard input cannot be read with --${way}: wanted a file`);
  }
  if (way === "from") refuseMeasure(args);
  if (way === "as-is") refuseLayout(args);
  const sourceOptions = parseSourceOptions(args, io, sources);
  if (way !== "from") {
    return await probe({
      ...sourceOptions,
      ...parseMeasure(args, io.env),
      sources,
      fingerprints: outputs.fingerprints,
      timestamp: sourceDateEpoch(io.env) ?? 0,
    });
  }
  const { warnings, signal } = sourceOptions;
  return await probeFingerprints({
    paths: sources,
    pairwise: args.flag("pairwise"),
    row: args.value("row"),
    warnings,
    signal,
  });
}

function gate(report: ProbeReport, minDedup: number, io: CommandIo): ExitCode {
  const row = report.schemes[report.mainScheme]!;
  const { stored } = row.crossImageDedup;
  if (stored >= minDedup) return EXIT.done;
  const percent = (share: number) => `${(share * 100).toFixed(2)}%`;
  io.stderr.write(
    `blessfs: --min-dedup: ${schemeLabel(row, true)}: ${percent(stored)} of the stored bytes is ` +
      `shared, wanted ${percent(minDedup)}\n`,
  );
  return EXIT.answerNo;
}

function outputFormat(args: ParsedArguments, io: CommandIo): "table" | "json" | "csv" {
  const format = args.value("format") as "table" | "json" | "csv" | undefined;
  if (!io.json) return format ?? "table";
  if (format === undefined || format === "json") return "json";
  throw new UsageError("--json", `cannot be together with --format ${format}`);
}
