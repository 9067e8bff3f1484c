/**
 * Reads the options that control how sources are read and images are laid out.
 *
 * @module
 */
import { existsSync } from "node:fs";
import {
  type LayoutOptions,
  type LimitKey,
  limitOptions,
  LIMITS,
  NONE,
} from "../../lib/bless/options.ts";
import { isS3Address } from "../../lib/chunk/s3_request.ts";
import { UsageError } from "../../lib/errors.ts";
import type { CertificateFiles } from "../../lib/io/http_fetch.ts";
import type { ResolvedOptions, SourceOptions } from "../../lib/source/source.ts";
import { parseSourceName, type SourceName } from "../../lib/source/source_name.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { kebabCase, safeLine } from "../errors.ts";
import { choiceError, parseCount, parsePercent, parseSize } from "../values.ts";
import { parseImageAccess } from "./image.ts";

type Packing = LayoutOptions["packing"];

/**
 * Reads the layout options.
 *
 * @param fillBytes the size that `--size fill` stands for; without it, `fill` is refused
 * @throws UsageError for a malformed value; the library checks whether it makes sense
 */
export function parseLayout(
  args: ParsedArguments,
  defaults: LayoutOptions,
  fillBytes?: () => number,
): LayoutOptions {
  const size = (text: string, what: string) => parseImageSize(text, what, fillBytes);
  return {
    ...defaults,
    gridBytes: args.parsed("grid", parseSize) ?? defaults.gridBytes,
    alignThresholdBytes: args.parsed("align-threshold", parseThreshold) ??
      defaults.alignThresholdBytes,
    packing: args.parsed("packing", parsePacking) ?? defaults.packing,
    size: args.parsed("size", size) ?? defaults.size,
    journalBytes: args.parsed("journal", parseJournal) ?? defaults.journalBytes,
    uuid: args.value("uuid") ?? defaults.uuid,
    label: args.value("label") ?? defaults.label,
    backups: args.value("backups") as LayoutOptions["backups"] | undefined ?? defaults.backups,
    inlineData: args.flag("inline-data"),
    metadataChecksums: args.flag("metadata-csum"),
    compat: args.values("compat"),
    inodeCount: args.parsed("inodes", parseCount) ?? defaults.inodeCount,
    reservedBlocks: args.parsed("reserved", parseReserved) ?? defaults.reservedBlocks,
  };
}

/**
 * Reads the source options that the command has, and adds the run's signal and progress.
 *
 * @param store where chunks go, if anywhere
 * @throws UsageError for an invalid value, and for an option that applies to none of the sources
 */
export function parseSourceOptions(
  args: ParsedArguments,
  io: CommandIo,
  sources: readonly string[],
  store?: string,
): ResolvedOptions {
  refuseUnusedOptions(args, sources, store);
  const readsLayers = args.has("jobs");
  const { replay, externalJournal } = parseImageAccess(args, io);
  return {
    platform: args.value("platform"),
    tmpdir: args.value("tmpdir"),
    jobs: readsLayers ? args.parsed("jobs", parseJobs) : undefined,
    replay,
    externalJournal,
    verifyDiffIds: !(readsLayers && args.flag("ignore-diffid")),
    ignoreZeros: readsLayers && args.flag("ignore-zeros"),
    ...parseLimits(args.values("limit") ?? []),
    registry: {
      plainHttp: args.flag("plain-http"),
      authFile: args.value("authfile"),
      blobCache: readsLayers ? args.value("blob-cache") : undefined,
      ...certificateFiles(args),
      environment: io.env,
    },
    signal: io.signal,
    progress: io.progress,
    warnings: new Warnings(args.flag("strict")),
    stdin: io.stdin.chunks(),
  };
}

/** Reads how many layers to read, or images of a batch to make, at the same time. */
export function parseJobs(text: string, what: string): number {
  return parseCount(text, what, 1, 256);
}

export function certificateFiles(args: ParsedArguments): CertificateFiles {
  return {
    caFile: args.value("ca-file"),
    certFile: args.value("cert"),
    keyFile: args.value("key"),
  };
}

/** SOURCE_DATE_EPOCH in seconds: the time for everything that has none of its own. 0 when it is unset or empty. */
export function sourceDateEpoch({ env }: Pick<CommandIo, "env">): number {
  const text = env["SOURCE_DATE_EPOCH"];
  return text === undefined || text === "" ? 0 : parseCount(text, "SOURCE_DATE_EPOCH", 0);
}

export function parseThreshold(text: string, what: string): number {
  return text === NONE ? Infinity : parseSize(text, what);
}

const PACKINGS = ["merge", "resync", "tight"];
const RESYNC_MEAN_BYTES = 256 * 1024;

/** Reads `merge`, `resync[:MEAN[:LO]]` or `tight`. */
export function parsePacking(text: string, what: string): Packing {
  const [rule = "", mean, low, ...more] = text.split(":");
  if ((rule === "tight" || rule === "merge") && mean === undefined) return { kind: rule };
  if (rule !== "resync" || more.length > 0) {
    throw choiceError(safeLine(text), what, "merge, resync[:MEAN[:LO]] or tight", PACKINGS);
  }
  const meanBytes = mean === undefined ? RESYNC_MEAN_BYTES : parseSize(mean, what);
  const lowBytes = low === undefined ? Math.floor(meanBytes / 4) : parseSize(low, what);
  return { kind: "resync", meanBytes, lowBytes };
}

function parseImageSize(
  text: string,
  what: string,
  fillBytes: (() => number) | undefined,
): LayoutOptions["size"] {
  if (text === "exact") return { kind: "exact" };
  if (text === "fill") {
    if (fillBytes !== undefined) return { kind: "total", sizeBytes: fillBytes() };
    throw new UsageError(what, "fill takes the size of a block device, and the output is not one", {
      remedies: [{ option: "output", change: "set", value: "/dev/vdb", to: "name one" }],
    });
  }
  if (text.startsWith("+")) return { kind: "free", freeBytes: parseSize(text.slice(1), what) };
  return { kind: "total", sizeBytes: parseSize(text, what) };
}

function parseJournal(text: string, what: string): number {
  return text === NONE ? 0 : parseSize(text, what);
}

function parseReserved(text: string, what: string): LayoutOptions["reservedBlocks"] {
  if (text.endsWith("%")) return { kind: "percent", percent: parsePercent(text, what) };
  return { kind: "bytes", bytes: parseSize(text, what) };
}

/**
 * Reads the values of `--limit`.
 *
 * @throws UsageError for an unknown or repeated name, and for an invalid value
 */
export function parseLimits(
  texts: readonly string[],
): Pick<SourceOptions, "limits" | "tarLimits" | "treeLimits"> {
  const raisable = LIMITS.filter(({ isFixed }) => !isFixed);
  const names = raisable.map(({ name }) => kebabCase(name));
  const values = new Map<LimitKey, number>();
  for (const text of texts) {
    const [name = "", value, ...more] = text.split("=");
    const limit = raisable[names.indexOf(name)];
    if (limit === undefined) {
      const wanted = "NAME=VALUE with one of the names in docs/LIMITS.md";
      throw choiceError(safeLine(name), "--limit", wanted, names);
    }
    if (value === undefined || more.length > 0) {
      throw new UsageError("--limit", `\`${safeLine(text)}\`: wanted ${name}=VALUE`);
    }
    if (values.has(limit.name)) throw new UsageError("--limit", `${name} is given more than once`);
    const what = `--limit ${name}`;
    values.set(
      limit.name,
      limit.unit === "bytes" ? parseSize(value, what) : parseCount(value, what, 0),
    );
  }
  return values.size === 0 ? {} : limitOptions(values);
}

/** Sources known to be plain trees; any other may turn out to be an image with a platform. */
const KINDS_WITHOUT_PLATFORM: ReadonlySet<SourceName["kind"]> = new Set(["tar", "rootfs", "ext4"]);

/**
 * Refuses `--platform` for sources named as trees, and registry options without a registry, because users who give them
 * expect an effect.
 *
 * @throws {UsageError} for these, and for an invalid source
 */
export function refuseUnusedOptions(
  args: ParsedArguments,
  sources: readonly string[],
  store?: string,
): void {
  const kinds = sources.map((source) => parseSourceName(source, existsSync).kind);
  const areTrees = kinds.every((kind) => KINDS_WITHOUT_PLATFORM.has(kind));
  if (args.value("platform") !== undefined && areTrees) {
    throw new UsageError("--platform", "has no effect on a tree, which is for no platform", {
      hint: "leave it out",
    });
  }
  if (kinds.includes("docker")) return;
  const isOnS3 = store !== undefined && isS3Address(store);
  const certificates = isOnS3 ? [] : ["ca-file", "cert", "key"];
  const name = args.firstGiven([
    "plain-http",
    "authfile",
    ...args.has("blob-cache") ? ["blob-cache"] : [],
    ...certificates,
  ]);
  if (name === undefined) return;
  throw new UsageError(`--${name}`, "has no effect on a source that is in no registry", {
    hint: "leave it out; an image in a registry is written docker://HOST/NAME",
  });
}
