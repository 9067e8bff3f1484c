/**
 * `blessfs export` and `blessfs diff`: tars of what sources contain, and of how they differ.
 *
 * @module
 */
import { type DiffReport, diffSources, exportTar, type TarCounts } from "../../lib/bless/export.ts";
import { UsageError } from "../../lib/errors.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { EXIT, safeLine } from "../errors.ts";
import type { Rows } from "../text.ts";
import { formatCount, formatSize } from "../values.ts";
import { parseAdditions } from "./additions.ts";
import { LeftOut } from "./image.ts";
import { countsText, exactSize, Outputs } from "./outputs.ts";
import { parseSourceOptions, sourceDateEpoch } from "./sources.ts";

export async function runExport(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const leftOut = new LeftOut(args);
  const image = args.positional("IMAGE");
  const tar = args.text("output");
  const additions = parseAdditions(args, io, [image]);
  const sourceOptions = parseSourceOptions(args, io, [image]);
  const { source, ...report } = await exportTar({
    ...sourceOptions,
    ...additions.options,
    onUnreadable: leftOut.onFault,
    source: image,
    layer: args.flag("layer"),
    timestamp: sourceDateEpoch(io),
    sink: new Outputs(args, io, { sources: [image], added: additions.paths }).tar(tar),
  });
  io.warn(report.warnings);
  if (tar !== "-") {
    await io.answer({ source, tar, ...report, ...leftOut.document }, [
      ["tar", safeLine(tar)],
      ["source", safeLine(source)],
      ["uuid", report.uuid],
      ["size", exactSize(report.sizeBytes)],
      ["content", contentText(report)],
    ]);
  }
  return leftOut.finish(io);
}

export async function runDiff(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const [before, after] = [args.positional("A"), args.positional("B")];
  if (before === "-" && after === "-") {
    throw new UsageError("diff", "only one of the sources can be standard input");
  }
  const layer = args.value("output");
  const additions = parseAdditions(args, io, [before, after]);
  const outputs = new Outputs(args, io, { sources: [before, after], added: additions.paths });
  const leftOut = new LeftOut(args);
  const report = await diffSources({
    ...parseSourceOptions(args, io, [before, after]),
    ...additions.options,
    onUnreadable: leftOut.onFault,
    before,
    after,
    timestamp: sourceDateEpoch(io),
    sink: layer === undefined ? undefined : outputs.tar(layer),
  });
  io.warn(report.warnings);
  if (layer !== "-") {
    const document = { ...report, layer: layer ?? null, ...leftOut.document };
    await io.answer(document, diffRows(report, layer));
  }
  const code = leftOut.finish(io);
  return args.flag("exit-code") && !report.isEqual ? EXIT.answerNo : code;
}

function diffRows(report: DiffReport, layer: string | undefined): Rows {
  const { added, removed, changed, sizeBytes, isEqual } = report;
  const names = `${formatCount(added)} added, ${formatCount(removed)} removed, ` +
    `${formatCount(changed)} changed`;
  return [
    ["from", safeLine(report.before)],
    ["to", safeLine(report.after)],
    ["names", isEqual ? "all the same" : names],
    ["layer", layer && safeLine(layer)],
    ["size", sizeBytes === null ? undefined : formatSize(sizeBytes)],
    ["content", isEqual ? undefined : contentText(report.entries)],
  ];
}

/** The contents of a tar, as one line. */
export function contentText(counts: TarCounts): string {
  const text = countsText([
    [counts.files, "files"],
    [counts.directories, "directories"],
    [counts.symlinks, "symlinks"],
    [counts.hardLinks, "hard links"],
    [counts.specialFiles, "special files"],
    [counts.whiteouts, "whiteouts"],
  ]);
  return text === "" ? "nothing" : text;
}
