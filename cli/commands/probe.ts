/**
 * `blessfs probe` measures what fixed-grid dedup saves across images; `blessfs map` shows how they lie on a grid.
 *
 * @module
 */
import type { CommandIo, ParsedArguments } from "../command.ts";
import { parseAdditions } from "./additions.ts";
import { parseImageAccess, withImageReader } from "./image.ts";
import { localPaths, OutputNames } from "./outputs.ts";
import { parsePacking, parseSourceOptions, parseThreshold, sourceDateEpoch } from "./sources.ts";
import { readSalt } from "./verity.ts";
import { EXIT, safeLine } from "../errors.ts";
import { ADDITION_OPTIONS } from "../table/options.ts";
import { choiceError, parseCount, parsePercent, parseSize } from "../values.ts";
import { MERGED_DEFAULTS, NONE } from "../../lib/bless/options.ts";
import { checkChunkSize } from "../../lib/chunk/chunk.ts";
import {
  type ChunkerParameters,
  fastCdcParameters,
  GEAR_PARAMETERS,
} from "../../lib/chunk/fastcdc.ts";
import { UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { type ImageSink, writeWhole } from "../../lib/io/sink.ts";
import type { ResolvedOptions } from "../../lib/source/types.ts";
import { reportChart } from "../../probe/chart.ts";
import { probeFingerprints } from "../../probe/fingerprints/reader.ts";
import { reportHtml } from "../../probe/html.ts";
import { type ImageMap, mapImage, mapPicture } from "../../probe/map.ts";
import { probe } from "../../probe/probe.ts";
import type { ProbeReport } from "../../probe/report.ts";
import { type ResolvedProbeOptions, schemeLabel } from "../../probe/schemes.ts";
import { reportCsv, reportText } from "../../probe/tables.ts";

export async function run(args: ParsedArguments, io: CommandIo): Promise<0 | 1 | void> {
  const format = outputFormat(args, io);
  const gates = {
    minDedup: args.parsed("min-dedup", parseShare),
    maxNewBytes: args.parsed("max-new-bytes", parseSize),
    maxNewShare: args.parsed("max-new-share", parseShare),
  };
  const files = openFiles(args, io);
  let report: ProbeReport;
  try {
    report = await reportOf(args, io, files.fingerprints);
    if (files.plot !== undefined) await writeText(files.plot, reportChart(report));
    if (files.report !== undefined) await writeText(files.report, reportHtml(report));
  } catch (error) {
    for (const name of FILES) await files[name]?.abort();
    throw error;
  }
  if (format !== "json") io.warn(report.warnings);
  if (format === "json") await io.writeReport(report);
  else await io.stdout.write(format === "csv" ? reportCsv(report) : reportText(report));
  return failedGates(report, gates, io);
}

/** Thresholds that fail the run: less sharing, or more new bytes in the last image. */
interface Gates {
  readonly minDedup: number | undefined;
  readonly maxNewBytes: number | undefined;
  readonly maxNewShare: number | undefined;
}

/** The exit code of the gates; undefined without gates. */
function failedGates(report: ProbeReport, gates: Gates, io: CommandIo): 0 | 1 | undefined {
  const { minDedup, maxNewBytes, maxNewShare } = gates;
  if (minDedup === undefined && maxNewBytes === undefined && maxNewShare === undefined) return;
  const row = report.schemes[report.mainScheme]!;
  const added = row.newBytes.at(-1)!.stored;
  const own = row.perImage.at(-1)!.stored;
  const share = own === 0 ? 0 : added / own;
  const shared = row.crossImageDedup.stored;
  const percent = (value: number) => `${(value * 100).toFixed(2)}%`;
  const failures = [
    minDedup !== undefined && shared < minDedup &&
    `--min-dedup: ${percent(shared)} of the stored bytes is shared, wanted ${percent(minDedup)}`,
    maxNewBytes !== undefined && added > maxNewBytes &&
    `--max-new-bytes: the last image adds ${added} stored bytes, wanted at most ${maxNewBytes}`,
    maxNewShare !== undefined && share > maxNewShare &&
    `--max-new-share: ${percent(share)} of the last image's stored bytes is new, wanted at most ` +
      percent(maxNewShare),
  ].filter((failure) => failure !== false);
  for (const failure of failures) {
    io.stderr.write(`blessfs: ${failure} (${schemeLabel(row, true)})\n`);
  }
  return failures.length === 0 ? EXIT.done : EXIT.answerNo;
}

async function reportOf(
  args: ParsedArguments,
  io: CommandIo,
  fingerprints: ImageSink | undefined,
): Promise<ProbeReport> {
  const sources = args.positionals("SOURCE");
  const way = (["from", "as-is"] as const).find((flag) => args.flag(flag));
  if (way !== undefined && sources.includes("-")) {
    throw new UsageError("-", `standard input cannot be read with --${way}: wanted a file`);
  }
  if (way === "from") refuseMeasure(args);
  if (way === "as-is") refuseLayout(args);
  const sourceOptions = parseSourceOptions(args, io, sources);
  const additions = parseAdditions(args, io, sources);
  if (way !== "from") {
    return await probe({
      ...sourceOptions,
      ...additions.options,
      ...parseMeasure(args, io.env),
      sources,
      fingerprints,
      timestamp: sourceDateEpoch(io),
    });
  }
  const { warnings, signal } = sourceOptions;
  const pairwise = args.flag("pairwise") || args.value("report") !== undefined;
  const row = args.value("row");
  return await probeFingerprints({ paths: sources, pairwise, row, warnings, signal });
}

function outputFormat(args: ParsedArguments, io: CommandIo): string {
  const format = args.text("format");
  if (!io.json) return format;
  if (args.firstGiven(["format"]) === undefined || format === "json") return "json";
  throw new UsageError("--json", `cannot be combined with --format ${format}`);
}

const THRESHOLD_VARIABLE = "DEDUP_ALIGN_THRESHOLD";

/** What to measure and how, without the sources. */
export type Measure = Omit<
  ResolvedProbeOptions,
  keyof ResolvedOptions | "sources" | "fingerprints" | "timestamp"
>;

function parseMeasure(
  args: ParsedArguments,
  env: Readonly<Record<string, string | undefined>>,
): Measure {
  const hasPage = args.value("report") !== undefined;
  return {
    mode: args.text("mode") as Measure["mode"],
    asIs: args.flag("as-is"),
    thresholds: thresholds(args, env),
    packings: args.parsedValues("packing", parsePacking) ??
      [MERGED_DEFAULTS.packing, { kind: "tight" }],
    grids: args.parsedValues("grid", parseSize)!,
    chunker: args.parsed("cdc", parseChunker),
    compression: args.read("compress", parseCompression),
    veritySalt: parseTree(args),
    selfShift: args.flag("self-shift"),
    pairwise: args.flag("pairwise") || hasPage,
    // A page for others shows where the layout loses bytes, if that can be determined.
    explain: args.flag("explain") || hasPage && !args.flag("as-is"),
    like: args.value("like") === undefined ? undefined : "previous",
    row: args.value("row"),
  };
}

/** A random salt differs for each tree, as it does for each run of bless. */
function parseTree(args: ParsedArguments): (() => Uint8Array) | undefined {
  const salt = args.value("verity-salt");
  if (args.value("verity") !== undefined) {
    readSalt(salt);
    return () => readSalt(salt).salt;
  }
  if (salt === undefined) return undefined;
  throw new UsageError("--verity-salt", "means nothing without --verity", {
    remedies: [{ option: "verity", change: "set" }],
  });
}

/** Options that have no effect on files cut as they are. */
const BLESS_OPTIONS = [
  "verity",
  "verity-salt",
  "align-threshold",
  "packing",
  "limit",
  "platform",
  "authfile",
  "ca-file",
  "cert",
  "key",
  "ignore-zeros",
  "blob-cache",
  "plain-http",
  "ignore-diffid",
  ...ADDITION_OPTIONS.map(({ name }) => name),
];
/** Options that are fixed once fingerprints are written. */
const MEASURE_OPTIONS = [
  "grid",
  "cdc",
  "compress",
  "mode",
  "fingerprints",
  "as-is",
  "self-shift",
  "explain",
  "like",
];

function refuseMeasure(args: ParsedArguments): void {
  const name = args.firstGiven([...MEASURE_OPTIONS, ...BLESS_OPTIONS]);
  if (name === undefined) return;
  throw new UsageError(`--${name}`, "is chosen when fingerprints are written, not with --from");
}

function refuseLayout(args: ParsedArguments): void {
  const name = args.firstGiven(BLESS_OPTIONS);
  if (name === undefined) return;
  throw new UsageError(`--${name}`, "has no effect on files that are cut as they are", {
    hint: `leave out --as-is, or --${name}`,
  });
}

/** Reads a share such as 40% or 0.4 as a fraction. */
function parseShare(text: string, what: string): number {
  if (text.endsWith("%")) return parsePercent(text, what) / 100;
  const share = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (share <= 1) return share;
  throw new UsageError(what, `\`${safeLine(text)}\`: wanted a share such as 40% or 0.4`);
}

function thresholds(
  args: ParsedArguments,
  env: Readonly<Record<string, string | undefined>>,
): number[] {
  const given = args.parsedValues("align-threshold", parseThreshold);
  if (given !== undefined) return given;
  const preset = env[THRESHOLD_VARIABLE];
  if (preset === undefined || preset === "") return [MERGED_DEFAULTS.alignThresholdBytes];
  return preset.split(",").map((text) => parseThreshold(text, THRESHOLD_VARIABLE));
}

function parseChunker(text: string, what: string): ChunkerParameters {
  if (text === "gear") return GEAR_PARAMETERS;
  const sizes = text.split(":");
  if (sizes.length !== 1 && sizes.length !== 3) {
    throw choiceError(safeLine(text), what, "AVG, AVG:MIN:MAX or gear", ["gear"]);
  }
  const [average, min, max] = sizes.map((size) => parseSize(size, what));
  return fastCdcParameters(average!, min, max);
}

function parseCompression(text: string, what: string): ResolvedProbeOptions["compression"] {
  const [kind, level, ...more] = text.split(":");
  if (kind === NONE && level === undefined) return { kind: "none" };
  if (kind !== "zstd" || more.length > 0) {
    throw choiceError(safeLine(text), what, "none or zstd[:LEVEL]", [NONE, "zstd"]);
  }
  return { kind: "zstd", level: level === undefined ? 1 : parseCount(level, what, 1, 19) };
}

const FILES = ["plot", "report", "fingerprints"] as const;

/**
 * Files that get their names when they are complete. They are opened first, so that an existing file is reported before
 * the work.
 */
function openFiles(
  args: ParsedArguments,
  io: CommandIo,
): Partial<Record<typeof FILES[number], ImageSink>> {
  const sources = args.positionals("SOURCE");
  const sourcePaths = args.flag("from") ? sources : localPaths(sources);
  const options = { force: args.flag("force"), signal: io.signal, sourcePaths };
  refusePixels(args.value("plot"));
  const names = new OutputNames();
  const given = FILES.flatMap((name) => {
    const path = args.value(name);
    return path === undefined ? [] : [{ name, path }];
  });
  for (const { name, path } of given) {
    if (path !== "-") names.take(path, `--${name}`);
    else throw new UsageError(`--${name} -`, "standard output has the report: wanted a file");
  }
  return Object.fromEntries(given.map(({ name, path }) => [name, createFileSink(path, options)]));
}

async function writeText(sink: ImageSink, text: string): Promise<void> {
  await writeWhole(sink, new TextEncoder().encode(text));
}

/** Charts are SVG; a name that ends like another image format is refused. */
function refusePixels(path: string | undefined): void {
  const ending = /\.(png|jpe?g|gif|webp|pdf|bmp|tiff?)$/i.exec(path ?? "")?.[0];
  if (ending === undefined) return;
  throw new UsageError(`--plot ${safeLine(path!)}`, `pictures are SVG, not ${ending.slice(1)}`, {
    hint: `name it .svg, and convert it: rsvg-convert picture.svg -o picture${ending}`,
  });
}

export async function runMap(args: ParsedArguments, io: CommandIo): Promise<void> {
  const images = args.positionals("IMAGE");
  const plot = args.text("plot");
  refusePixels(plot);
  const gridBytes = args.read("grid", parseSize);
  checkChunkSize(gridBytes, "--grid");
  const alignThresholdBytes = args.read("align-threshold", parseThreshold);
  const { signal } = io;
  const access = parseImageAccess(args, io);
  const sink = createFileSink(plot, { force: args.flag("force"), signal, sourcePaths: images });
  const maps: ImageMap[] = [];
  for (const [i, image] of images.entries()) {
    const task = io.progress.begin(`image ${i + 1} of ${images.length}`);
    const look = { gridBytes, alignThresholdBytes, signal };
    maps.push(await withImageReader(image, access, (reader) => mapImage(reader, image, look)));
    task.end();
  }
  await writeWhole(sink, new TextEncoder().encode(mapPicture(maps)));
}
