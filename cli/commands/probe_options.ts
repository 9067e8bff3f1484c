/**
 * Reads the options of a probe.
 *
 * @module
 */
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { UsageError } from "../../lib/errors.ts";
import type { ChunkerParameters } from "../../probe/fast_cdc/parameters.ts";
import { fastCdcParameters, GEAR_PARAMETERS } from "../../probe/fast_cdc/parameters.ts";
import type { ProbeOptions } from "../../probe/options.ts";
import { safeLine } from "../errors_output.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { parseSize } from "../sizes.ts";
import { choiceError, parseCount, parsePercent } from "../values.ts";
import { parsePacking, parseThreshold } from "./bless_options.ts";

const THRESHOLD_VARIABLE = "DEDUP_ALIGN_THRESHOLD";

/** What is measured and how, but for the sources. */
export type Measure = Pick<
  ProbeOptions,
  | "mode"
  | "asIs"
  | "thresholds"
  | "packings"
  | "grids"
  | "chunker"
  | "compression"
  | "selfShift"
  | "pairwise"
  | "explain"
  | "row"
>;

/** Reads what is measured. Throws a UsageError for a value that cannot be read. */
export function parseMeasure(
  args: ParsedArguments,
  env: Readonly<Record<string, string | undefined>>,
): Measure {
  const cdc = args.value("cdc");
  const sizes = args.values("grid")?.map((text) => parseSize(text, "--grid"));
  return {
    mode: args.value("mode") === "layered" ? "layered" : "merged",
    asIs: args.flag("as-is"),
    thresholds: thresholds(args, env),
    packings: (args.values("packing") ?? ["resync", "tight"])
      .map((text) => parsePacking(text, "--packing")),
    grids: sizes ?? [MERGED_DEFAULTS.gridBytes],
    chunker: cdc === undefined ? undefined : parseChunker(cdc),
    compression: parseCompression(args.value("compress") ?? "zstd:1"),
    selfShift: args.flag("self-shift"),
    pairwise: args.flag("pairwise"),
    explain: args.flag("explain"),
    row: args.value("row"),
  };
}

const MEASURE_LISTS = ["align-threshold", "packing", "grid"] as const;
const MEASURE_VALUES = ["cdc", "compress", "mode", "fingerprints"] as const;
const MEASURE_FLAGS = ["as-is", "self-shift", "explain"] as const;

/** What is said of sources that are blessed. */
const SOURCE_LISTS = ["limit"] as const;
const SOURCE_VALUES = ["platform", "authfile"] as const;
const SOURCE_FLAGS = ["plain-http", "ignore-diffid"] as const;

/** Throws a UsageError for what `--from` cannot choose any more. */
export function refuseMeasure(args: ParsedArguments): void {
  const name = firstGiven(
    args,
    [...MEASURE_LISTS, ...SOURCE_LISTS],
    [...MEASURE_VALUES, ...SOURCE_VALUES],
    [...MEASURE_FLAGS, ...SOURCE_FLAGS],
  );
  if (name === undefined) return;
  throw new UsageError(`--${name}`, "is chosen when fingerprints are written, not with --from");
}

/** Throws a UsageError for what files that are cut as they are have no use for. */
export function refuseLayout(args: ParsedArguments): void {
  const name = firstGiven(
    args,
    ["align-threshold", "packing", ...SOURCE_LISTS],
    SOURCE_VALUES,
    SOURCE_FLAGS,
  );
  if (name === undefined) return;
  throw new UsageError(`--${name}`, "says nothing about files that are cut as they are", {
    hint: `leave out --as-is, or --${name}`,
  });
}

function firstGiven(
  args: ParsedArguments,
  lists: readonly string[],
  values: readonly string[],
  flags: readonly string[],
): string | undefined {
  return lists.find((list) => args.values(list) !== undefined) ??
    values.find((value) => args.value(value) !== undefined) ??
    flags.find((flag) => args.flag(flag));
}

/** Reads `--min-dedup` as a share of 1; undefined when it was not given. */
export function parseMinDedup(args: ParsedArguments): number | undefined {
  const text = args.value("min-dedup");
  if (text === undefined) return undefined;
  if (text.endsWith("%")) return parsePercent(text, "--min-dedup") / 100;
  const share = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (share <= 1) return share;
  throw new UsageError("--min-dedup", `\`${safeLine(text)}\`: wanted a share such as 40% or 0.4`);
}

function thresholds(
  args: ParsedArguments,
  env: Readonly<Record<string, string | undefined>>,
): number[] {
  const given = args.values("align-threshold");
  if (given !== undefined) return given.map((text) => parseThreshold(text, "--align-threshold"));
  const preset = env[THRESHOLD_VARIABLE];
  if (preset === undefined || preset === "") return [MERGED_DEFAULTS.alignThresholdBytes];
  return preset.split(",").map((text) => parseThreshold(text, THRESHOLD_VARIABLE));
}

function parseChunker(text: string): ChunkerParameters {
  if (text === "gear") return GEAR_PARAMETERS;
  const sizes = text.split(":");
  if (sizes.length !== 1 && sizes.length !== 3) {
    throw choiceError(safeLine(text), "--cdc", "AVG, AVG:MIN:MAX or gear", ["gear"]);
  }
  const [average, min, max] = sizes.map((size) => parseSize(size, "--cdc"));
  return fastCdcParameters(average!, min, max);
}

function parseCompression(text: string): ProbeOptions["compression"] {
  const [kind, level, ...more] = text.split(":");
  if (kind === "none" && level === undefined) return { kind: "none" };
  if (kind !== "zstd" || more.length > 0) {
    throw choiceError(safeLine(text), "--compress", "none or zstd[:LEVEL]", ["none", "zstd"]);
  }
  return { kind: "zstd", level: level === undefined ? 1 : parseCount(level, "--compress", 1, 19) };
}
