/**
 * The options that several commands share.
 *
 * @module
 */
import type { LayoutOptions } from "../../lib/bless/options.ts";
import { journalText, NONE, packingText, thresholdText } from "../../lib/bless/options.ts";
import { COMPAT_NAMES } from "../../lib/ext4/plan/compat.ts";
import { LIMITS } from "../../lib/bless/limits.ts";
import { CHUNK_DIGESTS, ZSTD_LEVEL_DEFAULT, ZSTD_LEVEL_MAX } from "../../lib/chunk/chunk.ts";
import type { OptionSpec, PositionalSpec } from "../command.ts";
import { kebabCase } from "../errors.ts";
import { sizeOption } from "../values.ts";

/** An option whose values are files. */
type FileOption = Pick<OptionSpec, "name" | "value" | "summary"> & Partial<OptionSpec>;

/** `-o, --output`, which every command that makes something has. */
export function outputOption(option: Omit<FileOption, "name">): OptionSpec {
  return { name: "output", short: "o", completion: "file", ...option };
}

/** `-f, --force`. */
export function forceOption(summary = "replace an output that exists"): OptionSpec {
  return { name: "force", short: "f", summary };
}

/** The options that decide the bytes of an image; `defaults` only fills in the help. */
export function layoutOptions(defaults: LayoutOptions): readonly OptionSpec[] {
  return [...placementOptions(defaults), ...sizeOptions(defaults), ...FEATURE_OPTIONS];
}

/** Where payload goes. */
function placementOptions(defaults: LayoutOptions): readonly OptionSpec[] {
  return [
    {
      name: "grid",
      key: "gridBytes",
      value: "SIZE",
      defaultText: sizeOption(defaults.gridBytes),
      summary:
        "the block size of the store: a power of two from 4K to 16M that payloads are aligned to",
    },
    {
      name: "align-threshold",
      key: "alignThresholdBytes",
      value: "SIZE|none",
      choices: [NONE],
      open: true,
      defaultText: thresholdText(defaults.alignThresholdBytes, sizeOption),
      summary: "files of at least this size start on the grid; none turns alignment off",
    },
    {
      name: "packing",
      value: "RULE",
      choices: ["merge", "resync", "tight"],
      open: true,
      defaultText: packingText(defaults.packing, sizeOption),
      summary:
        "how smaller files are packed: merge joins neighbours up to one cell of the grid, along boundaries that their " +
        "names decide; resync[:MEAN[:LO]] starts a run on the grid every MEAN bytes or so, but not before LO (a " +
        "quarter of MEAN), at places that the content decides; tight starts none",
    },
  ];
}

/** How large the parts are. */
function sizeOptions(defaults: LayoutOptions): readonly OptionSpec[] {
  const { reservedBlocks: reserved } = defaults;
  return [
    {
      name: "size",
      value: "[+]SIZE",
      defaultText: "exact",
      choices: ["exact", "fill"],
      open: true,
      summary:
        "size of the file system, or with + the free space in it; exact: what the content needs; fill: what the device " +
        "that is written has room for",
    },
    {
      name: "journal",
      key: "journalBytes",
      value: "SIZE|none",
      choices: [NONE],
      open: true,
      defaultText: journalText(defaults.journalBytes, sizeOption),
      summary: "internal journal, at least 4M",
    },
    {
      name: "backups",
      value: "WHICH",
      choices: ["sparse", NONE],
      defaultText: defaults.backups,
      summary:
        "backup superblocks; none: no reserved gaps, but the kernel cannot grow the file system online",
    },
    {
      name: "reserved",
      key: "reservedBlocks",
      value: "SIZE|PERCENT%",
      defaultText: reserved.kind === "percent"
        ? `${reserved.percent}%`
        : sizeOption(reserved.bytes),
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

const FEATURE_OPTIONS: readonly OptionSpec[] = [
  { name: "inline-data", summary: "keep small files inside their inodes" },
  {
    name: "metadata-csum",
    key: "metadataChecksums",
    on: true,
    summary: "make an image without metadata checksums",
  },
  {
    name: "compat",
    value: "READER",
    list: true,
    choices: COMPAT_NAMES,
    open: true,
    summary:
      "what must be able to read the image: grub, grub-2.12, u-boot, or a version of Linux from 3.10 on, such as " +
      "linux-5.10; features that one of them cannot read are left out, or refused where they are needed",
  },
];

/** What an image takes over from the last build; `what` says which. */
export function likeOptions(what: string): readonly OptionSpec[] {
  return [
    {
      name: "like",
      value: "PREVIOUS",
      completion: "file",
      summary:
        `keep the blocks, inode numbers and directory blocks that ${what} for what did not ` +
        "change; nothing else of it is in the new one",
    },
    {
      name: "keep-stale",
      summary:
        "with --like, freed blocks keep the bytes that PREVIOUS has there, so fewer chunks are new: removed content " +
        "stays readable on the raw device",
    },
  ];
}

/** What a boot reads first. */
export const HOT_OPTIONS: readonly OptionSpec[] = [
  {
    name: "hot",
    value: "FILE|entrypoint",
    completion: "file",
    summary:
      "put the files that a boot reads first, in that order: a list of paths, what strace or fatrace printed, or what " +
      "the entry point of the image loads",
  },
  {
    name: "prefetch",
    value: "FILE",
    completion: "file",
    summary: "write where the hot files lie, and the ids of those cells, as JSON",
  },
];

/** How an image that was not unmounted is read. */
export const REPLAY_OPTIONS: readonly OptionSpec[] = [
  {
    name: "replay",
    on: true,
    summary: "read an image that was not unmounted as it is, and ignore its journal",
  },
  {
    name: "external-journal",
    value: "FILE",
    completion: "file",
    summary: "the journal of an image that keeps it on another device",
  },
];

/** How servers prove themselves, and this program to them. */
export const CERTIFICATE_OPTIONS: readonly OptionSpec[] = [
  {
    name: "ca-file",
    value: "FILE",
    completion: "file",
    summary:
      "trust the certificate authorities in this file too, for the registry and a store on S3",
  },
  {
    name: "cert",
    key: "certFile",
    value: "FILE",
    completion: "file",
    summary: "the certificate to show to the registry or the store; with --key",
  },
  {
    name: "key",
    key: "keyFile",
    value: "FILE",
    completion: "file",
    summary: "the key that belongs to --cert",
  },
];

/** How a source is read. */
export const SOURCE_OPTIONS: readonly OptionSpec[] = [
  {
    name: "platform",
    value: "OS/ARCH[/VARIANT]",
    defaultText: "linux on this machine's architecture",
    choices: ["any"],
    open: true,
    summary:
      "which platform of the image to use; an image for another one is an error. any takes what there is",
  },
  {
    name: "jobs",
    value: "N",
    defaultText: "the number of processors",
    summary: "how many layers are read at the same time",
  },
  {
    name: "tmpdir",
    value: "DIR",
    completion: "directory",
    defaultText: "the system's",
    summary: "where decompressed layers are kept while they are needed",
  },
  {
    name: "plain-http",
    summary: "use http, not https, for the registry; loopback needs no such option",
  },
  {
    name: "authfile",
    key: "authFile",
    value: "FILE",
    completion: "file",
    defaultText: "those of podman and docker",
    summary: "read the credentials for the registry from this file",
  },
  {
    name: "blob-cache",
    value: "DIR",
    completion: "directory",
    summary: "keep layers from registries in this directory, and read them from there next time",
  },
  ...CERTIFICATE_OPTIONS,
  {
    name: "strict",
    summary: "fail instead of warning when something in the source is changed or left out",
  },
  {
    name: "ignore-zeros",
    summary: "read on after the end marker of a tar, for tars that were joined with cat",
  },
  ...REPLAY_OPTIONS,
  { name: "ignore-diffid", summary: "only warn if a layer does not match its diff id" },
  {
    name: "limit",
    value: "NAME=VALUE",
    list: true,
    choices: LIMITS.filter(({ isFixed }) => !isFixed).map(({ name }) => `${kebabCase(name)}=`),
    open: true,
    summary:
      "change a limit on what a source may contain; docs/LIMITS.md has the names: layers, layer-entries, " +
      "unpacked-bytes, unpacked-ratio and others",
  },
];

/** The options of sources that matter before layers are read. */
export const INSPECTED_SOURCE_OPTIONS: readonly OptionSpec[] = SOURCE_OPTIONS.filter(({ name }) =>
  ["platform", "tmpdir", "plain-http", "authfile", "ca-file", "cert", "key", "limit"].includes(name)
);

/** Where chunks go. */
export const STORE_OPTION: OptionSpec = {
  name: "store",
  value: "STORE",
  completion: "directory",
  summary:
    "put the chunks into this store: a directory, or s3+https://HOST/BUCKET/PREFIX with the keys of AWS_ACCESS_KEY_ID " +
    "and AWS_SECRET_ACCESS_KEY or of a profile",
};

/** How chunks get into a store. */
export const CHUNK_OPTIONS: readonly OptionSpec[] = [
  {
    name: "chunker",
    value: "fixed|fastcdc[:AVG:MIN:MAX]",
    choices: ["fixed", "fastcdc"],
    open: true,
    defaultText: "fixed",
    summary:
      "cut at the grid, or by content, never across a hole's edge; AVG is 128K when left out",
  },
  {
    name: "digest",
    value: "NAME",
    choices: CHUNK_DIGESTS,
    defaultText: CHUNK_DIGESTS[0]!,
    summary: "the digest that names chunks; all users of a store must use the same one",
  },
  {
    name: "zstd-level",
    value: "N",
    defaultText: String(ZSTD_LEVEL_DEFAULT),
    summary: `how hard new chunks are compressed, 1 to ${ZSTD_LEVEL_MAX}`,
  },
  {
    name: "create-store",
    summary: "make the directory of the store if it does not exist",
  },
  {
    name: "verify-store",
    summary: "read the chunks that the store already has, and fail if one is damaged",
  },
  { name: "dry-run", summary: "write nothing, and report what would be new in the store" },
];

/** The image that is looked into. */
export const IMAGE_OPERAND: PositionalSpec = {
  name: "IMAGE",
  summary: "an ext4, ext3 or ext2 image, or FILE#NUMBER for one in a partition of a disk",
  completion: "file",
};

/** The image to bless. */
export const SOURCE_OPERAND: PositionalSpec = {
  name: "SOURCE",
  summary: "the image to bless, or - for one on standard input",
  completion: "source",
};

/** What lets a command go on past what cannot be read. */
export const KEEP_GOING_OPTION: OptionSpec = {
  name: "keep-going",
  summary: "leave out what cannot be read in an ext4 image, list it, and exit with 1",
};

/** What makes warnings about an image errors. */
export const STRICT_IMAGE_OPTION: OptionSpec = {
  name: "strict",
  summary: "fail for an image that was not left clean (errors on record, a journal not replayed)",
};
