/**
 * `blessfs diff A B -o TAR`.
 *
 * @module
 */
import type { DiffReport } from "../../lib/bless/diff.ts";
import { diffSources } from "../../lib/bless/diff.ts";
import { UsageError } from "../../lib/errors.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import { EXIT, type ExitCode } from "../exit_codes.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { formatCount, formatSize } from "../sizes.ts";
import { aligned } from "../text.ts";
import { sourceDateEpoch } from "../values.ts";
import { parseSourceOptions, SOURCE_OPTION_SPECS } from "./bless_options.ts";
import { contentText, tarSink } from "./tar_output.ts";

/** The command. */
export const diffCommand: Command = {
  name: "diff",
  summary: "write the OCI layer that turns one image into another",
  examples: [
    {
      purpose: "Make a layer of what was changed",
      line: "blessfs diff old.ext4 new.ext4 -o layer.tar",
    },
    {
      purpose: "See whether two images show the same files",
      line: "blessfs diff oci:images/python:latest python.ext4 --exit-code",
    },
    {
      purpose: "Squash the upper layers of an image",
      line: "blessfs diff oci:images/base oci:images/python -o - | gzip > layer.tar.gz",
    },
  ],
  description: [
    "Compared are names, kinds, bytes, modes, owners, times, extended attributes and hard links. What is equal is not in " +
    "the layer; what is gone is there as a whiteout, and a directory of which nothing stays is made opaque. A file " +
    "with several names comes with all of them.",
    "Blessing A with the layer on top gives the files of B.",
  ],
  positionals: [
    { name: "A", summary: "the source that the layer lies on", completion: "source" },
    { name: "B", summary: "the source that comes of it", completion: "source" },
  ],
  options: [
    {
      name: "output",
      short: "o",
      value: "TAR",
      completion: "file",
      defaultText: "none: only compare",
      summary: "the layer to make, uncompressed; - streams it to standard output",
    },
    { name: "force", short: "f", summary: "replace an output that exists" },
    { name: "exit-code", summary: "exit with 1 when there is a difference" },
    ...SOURCE_OPTION_SPECS,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<ExitCode | void> {
  const [before, after] = [args.positional("A"), args.positional("B")];
  if (before === "-" && after === "-") {
    throw new UsageError("diff", "only one of the sources can be standard input");
  }
  const layer = args.value("output");
  const report = await diffSources({
    ...parseSourceOptions(args, io, [before, after]),
    before,
    after,
    timestamp: sourceDateEpoch(io.env) ?? 0,
    sink: layer === undefined ? undefined : tarSink(layer, [before, after], args.flag("force"), io),
  });
  io.warn(report.warnings);
  if (io.json) await io.writeJson({ ...report, layer: layer ?? null });
  else if (layer !== "-" && !io.quiet) await io.stdout.write(reportText(report, layer));
  if (args.flag("exit-code") && !report.isEqual) return EXIT.answerNo;
}

function reportText(report: DiffReport, layer: string | undefined): string {
  const { added, removed, changed, sizeBytes } = report;
  const names = `${formatCount(added)} added, ${formatCount(removed)} removed, ${
    formatCount(changed)
  } changed`;
  return aligned([
    ["from", safeLine(report.before)],
    ["to", safeLine(report.after)],
    ["names", report.isEqual ? "all the same" : names],
    ...layer === undefined ? [] : [["layer", safeLine(layer)] as const],
    ...sizeBytes === null ? [] : [["size", formatSize(sizeBytes)] as const],
    ...report.isEqual ? [] : [["content", contentText(report.entries)] as const],
  ]);
}
