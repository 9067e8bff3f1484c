/**
 * The options of blessing that decide the bytes of an image, shared by merged and layered.
 *
 * @module
 */
import type { LayoutOptions } from "../../lib/bless/options.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import type { OptionSpec } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import type { CommandIo } from "../io.ts";
import { LIMIT_OPTION, parseLimits } from "../limits.ts";
import { parseSize, sizeOption } from "../sizes.ts";
import { choiceError, parseCount, parsePercent } from "../values.ts";
import { parseImageAccess, REPLAY_OPTIONS } from "./image_argument.ts";
import { refuseUnusedOptions } from "./unused_options.ts";

const MAX_JOBS = 256;
/** LO as a share of MEAN where only MEAN is given: that of the default. */
const LOW_OF_MEAN = 4;

type Packing = LayoutOptions["packing"];

/** The table of the layout options; `defaults` only fills in the help. */
export function layoutOptionSpecs(defaults: LayoutOptions): readonly OptionSpec[] {
  return [...placementSpecs(defaults), ...sizeSpecs(defaults), ...FEATURE_SPECS];
}

/** Where payload goes. */
function placementSpecs(defaults: LayoutOptions): readonly OptionSpec[] {
  return [
    {
      name: "grid",
      key: "gridBytes",
      value: "SIZE",
      defaultText: sizeOption(defaults.gridBytes),
      summary:
        "the block size of the store: a power of two from 4K to 1M that payloads are aligned to",
    },
    {
      name: "align-threshold",
      key: "alignThresholdBytes",
      value: "SIZE|none",
      choices: ["none"],
      open: true,
      defaultText: thresholdText(defaults.alignThresholdBytes),
      summary: "files of at least this size start on the grid; none turns alignment off",
    },
    {
      name: "packing",
      value: "RULE",
      choices: ["resync", "tight"],
      open: true,
      defaultText: packingText(defaults.packing),
      summary:
        "how smaller files are packed: resync[:MEAN[:LO]] starts a run on the grid again every MEAN bytes or " +
        "so but not before LO (a quarter of MEAN), at places that the content decides; tight never does",
    },
  ];
}

/** How large the parts are. */
function sizeSpecs(defaults: LayoutOptions): readonly OptionSpec[] {
  return [
    {
      name: "size",
      value: "[+]SIZE",
      defaultText: "exact",
      choices: ["exact"],
      open: true,
      summary:
        "size of the file system, or with + the free space in it; exact: what the content needs",
    },
    {
      name: "journal",
      key: "journalBytes",
      value: "SIZE|none",
      choices: ["none"],
      open: true,
      defaultText: defaults.journalBytes === 0 ? "none" : sizeOption(defaults.journalBytes),
      summary: "internal journal, at least 4M",
    },
    {
      name: "backups",
      value: "WHICH",
      choices: ["sparse", "none"],
      defaultText: defaults.backups,
      summary:
        "backup superblocks; none: no reserved gaps, but the kernel cannot grow the file system online",
    },
    {
      name: "reserved",
      key: "reservedBlocks",
      value: "SIZE|PERCENT%",
      defaultText: reservedText(defaults.reservedBlocks),
      summary: "space that only root may fill",
    },
    {
      name: "inodes",
      key: "inodeCount",
      value: "N",
      defaultText: "from the content and the free space",
      summary: "make at least N inodes, used ones included",
    },
  ];
}

const FEATURE_SPECS: readonly OptionSpec[] = [
  { name: "inline-data", summary: "keep small files inside their inodes" },
  {
    name: "metadata-csum",
    key: "metadataChecksums",
    on: true,
    summary: "leave out the checksums of metadata",
  },
  {
    name: "compat",
    value: "KERNEL",
    choices: ["3.10"],
    summary: "only features that a kernel of that version mounts",
  },
];

/** The options of reading a source. */
export const SOURCE_OPTION_SPECS: readonly OptionSpec[] = [
  {
    name: "platform",
    value: "OS/ARCH[/VARIANT]",
    defaultText: "linux on this machine's architecture",
    summary: "which one of an image for several platforms; one that is for another is an error",
  },
  {
    name: "jobs",
    value: "N",
    defaultText: "the number of processors",
    summary: "layers read at the same time",
  },
  {
    name: "tmpdir",
    value: "DIR",
    completion: "directory",
    defaultText: "the system's",
    summary: "where inflated layers are kept while they are needed",
  },
  {
    name: "plain-http",
    summary:
      "speak http with the registry; without it, only a registry on loopback may have no TLS",
  },
  {
    name: "authfile",
    key: "authFile",
    value: "FILE",
    completion: "file",
    defaultText: "those of podman and docker",
    summary:
      "where the credentials for the registry are, in place of the files that logging in makes",
  },
  {
    name: "blob-cache",
    value: "DIR",
    completion: "directory",
    summary:
      "keep layers that come from a registry in this directory, and read them there the next time",
  },
  { name: "strict", summary: "fail where something of the source would be changed or left out" },
  ...REPLAY_OPTIONS,
  { name: "ignore-diffid", summary: "warn, not fail, when a layer does not match its diff id" },
  LIMIT_OPTION,
];

/**
 * Reads the layout options.
 *
 * @throws UsageError for a value that cannot be read; whether it makes sense is for the library to say
 */
export function parseLayout(args: ParsedArguments, defaults: LayoutOptions): LayoutOptions {
  const read = <T>(name: string, parse: (text: string, what: string) => T, fallback: T): T => {
    const text = args.value(name);
    return text === undefined ? fallback : parse(text, `--${name}`);
  };
  return {
    ...defaults,
    gridBytes: read("grid", parseSize, defaults.gridBytes),
    alignThresholdBytes: read("align-threshold", parseThreshold, defaults.alignThresholdBytes),
    packing: read("packing", parsePacking, defaults.packing),
    size: read("size", parseImageSize, defaults.size),
    journalBytes: read("journal", parseJournal, defaults.journalBytes),
    uuid: args.value("uuid") ?? defaults.uuid,
    label: args.value("label") ?? defaults.label,
    backups: args.value("backups") as LayoutOptions["backups"] | undefined ?? defaults.backups,
    inlineData: args.flag("inline-data"),
    metadataChecksums: args.flag("metadata-csum"),
    compat: args.value("compat") as LayoutOptions["compat"],
    inodeCount: read<number | undefined>("inodes", parseCount, defaults.inodeCount),
    reservedBlocks: read("reserved", parseReserved, defaults.reservedBlocks),
  };
}

/**
 * Reads the options of reading sources, and adds what the run gives.
 *
 * @throws UsageError for an option that none of the sources has a use for, too
 */
export function parseSourceOptions(
  args: ParsedArguments,
  io: CommandIo,
  sources: readonly string[],
): SourceOptions {
  refuseUnusedOptions(args, sources);
  const platform = args.value("platform");
  const tmpdir = args.value("tmpdir");
  const jobs = args.value("jobs");
  const authFile = args.value("authfile");
  const blobCache = args.value("blob-cache");
  const { replay, externalJournal } = parseImageAccess(args);
  return {
    ...platform === undefined ? {} : { platform },
    ...tmpdir === undefined ? {} : { tmpdir },
    ...jobs === undefined ? {} : { jobs: parseCount(jobs, "--jobs", 1, MAX_JOBS) },
    ...replay ? {} : { replay },
    ...externalJournal === undefined ? {} : { externalJournal },
    verifyDiffIds: !args.flag("ignore-diffid"),
    ...parseLimits(args.values("limit") ?? []),
    registry: {
      plainHttp: args.flag("plain-http"),
      ...authFile === undefined ? {} : { authFile },
      ...blobCache === undefined ? {} : { blobCache },
      environment: io.env,
    },
    signal: io.signal,
    progress: io.progress,
    warnings: new Warnings(args.flag("strict")),
    stdin: io.stdin.chunks(),
  };
}

/** Reads `SIZE` or `none`. */
export function parseThreshold(text: string, what: string): number {
  return text === "none" ? Infinity : parseSize(text, what);
}

/** A threshold as it is typed. */
export function thresholdText(thresholdBytes: number): string {
  return thresholdBytes === Infinity ? "none" : sizeOption(thresholdBytes);
}

/** Reads `resync[:MEAN[:LO]]` or `tight`. */
export function parsePacking(text: string, what: string): Packing {
  const [rule = "", mean, low, ...more] = text.split(":");
  if (rule === "tight" && mean === undefined) return { kind: "tight" };
  if (rule !== "resync" || more.length > 0) {
    throw choiceError(safeLine(text), what, "resync[:MEAN[:LO]] or tight", ["resync", "tight"]);
  }
  const meanBytes = mean === undefined ? 256 * 1024 : parseSize(mean, what);
  const lowBytes = low === undefined ? Math.floor(meanBytes / LOW_OF_MEAN) : parseSize(low, what);
  return { kind: "resync", meanBytes, lowBytes };
}

/** A packing as it is typed. */
export function packingText(packing: Packing): string {
  if (packing.kind === "tight") return "tight";
  return `resync:${sizeOption(packing.meanBytes)}:${sizeOption(packing.lowBytes)}`;
}

function parseImageSize(text: string, what: string): LayoutOptions["size"] {
  if (text === "exact") return { kind: "exact" };
  if (text.startsWith("+")) return { kind: "free", freeBytes: parseSize(text.slice(1), what) };
  return { kind: "total", sizeBytes: parseSize(text, what) };
}

function parseJournal(text: string, what: string): number {
  return text === "none" ? 0 : parseSize(text, what);
}

function parseReserved(text: string, what: string): LayoutOptions["reservedBlocks"] {
  if (text.endsWith("%")) return { kind: "percent", percent: parsePercent(text, what) };
  return { kind: "bytes", bytes: parseSize(text, what) };
}

function reservedText(reserved: LayoutOptions["reservedBlocks"]): string {
  return reserved.kind === "percent" ? `${reserved.percent}%` : sizeOption(reserved.bytes);
}
