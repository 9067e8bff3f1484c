/**
 * `blessfs export` and `blessfs diff`: tars of what sources show, and of what they differ in.
 *
 * @module
 */
import { type DiffReport, diffSources } from "../../lib/bless/diff.ts";
import { exportTar } from "../../lib/bless/export.ts";
import { UsageError } from "../../lib/errors.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { EXIT, safeLine } from "../errors.ts";
import { aligned } from "../text.ts";
import { formatCount, formatSize } from "../values.ts";
import { parseAdditions } from "./additions.ts";
import { LeftOut } from "./image.ts";
import { contentText, exactSize, tarSink } from "./outputs.ts";
import { parseSourceOptions, sourceDateEpoch } from "./sources.ts";

/** `blessfs export IMAGE -o TAR`. */
export async function runExport(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const leftOut = new LeftOut(args);
  const image = args.positional("IMAGE");
  const tar = args.value("output")!;
  const additions = parseAdditions(args, io, [image]);
  const sourceOptions = parseSourceOptions(args, io, [image]);
  const { source, ...report } = await exportTar({
    ...sourceOptions,
    ...additions.options,
    onUnreadable: leftOut.onFault,
    source: image,
    layer: args.flag("layer"),
    timestamp: sourceDateEpoch(io),
    sink: tarSink(
      tar,
      { sources: [image], addedPaths: additions.paths, force: args.flag("force") },
      io,
    ),
  });
  io.warn(report.warnings);
  if (io.json) await io.writeReport({ source, tar, ...report, ...leftOutOf(leftOut) });
  else if (tar !== "-" && !io.quiet) {
    await io.stdout.write(aligned([
      ["tar", safeLine(tar)],
      ["source", safeLine(source)],
      ["uuid", report.uuid],
      ["size", exactSize(report.sizeBytes)],
      ["content", contentText(report)],
    ]));
  }
  return leftOut.finish(io);
}

/** What the JSON document says of it. */
function leftOutOf({ onFault, entries }: LeftOut): { readonly leftOut?: typeof entries } {
  return onFault === undefined ? {} : { leftOut: entries };
}

/** `blessfs diff A B -o TAR`. */
export async function runDiff(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const [before, after] = [args.positional("A"), args.positional("B")];
  if (before === "-" && after === "-") {
    throw new UsageError("diff", "only one of the sources can be standard input");
  }
  const layer = args.value("output");
  const additions = parseAdditions(args, io, [before, after]);
  const leftOut = new LeftOut(args);
  const report = await diffSources({
    ...parseSourceOptions(args, io, [before, after]),
    ...additions.options,
    onUnreadable: leftOut.onFault,
    before,
    after,
    timestamp: sourceDateEpoch(io),
    sink: layer === undefined ? undefined : tarSink(
      layer,
      { sources: [before, after], addedPaths: additions.paths, force: args.flag("force") },
      io,
    ),
  });
  io.warn(report.warnings);
  if (io.json) {
    await io.writeReport({ ...report, layer: layer ?? null, ...leftOutOf(leftOut) });
  } else if (layer !== "-" && !io.quiet) await io.stdout.write(diffText(report, layer));
  const code = leftOut.finish(io);
  if (args.flag("exit-code") && !report.isEqual) return EXIT.answerNo;
  return code;
}

function diffText(report: DiffReport, layer: string | undefined): string {
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
