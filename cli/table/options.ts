/**
 * The options that several commands share.
 *
 * @module
 */
import {
  journalText,
  type LayoutOptions,
  LIMITS,
  NONE,
  packingText,
  thresholdText,
} from "../../lib/bless/options.ts";
import { COMPAT_NAMES } from "../../lib/ext4/plan/compat.ts";
import { CHUNK_DIGESTS, ZSTD_LEVEL_DEFAULT, ZSTD_LEVEL_MAX } from "../../lib/chunk/chunk.ts";
import { operand, option, type OptionSpec, type PositionalSpec } from "../command.ts";
import { kebabCase } from "../errors.ts";
import { sizeOption } from "../values.ts";

export function forceOption(summary = "replace an output that exists"): OptionSpec {
  return option("-f, --force", summary);
}

/** The options that determine an image's bytes; `defaults` only appear in the help. */
export function layoutOptions(defaults: LayoutOptions): readonly OptionSpec[] {
  return [...placementOptions(defaults), ...sizeOptions(defaults), ...FEATURE_OPTIONS];
}

function placementOptions(defaults: LayoutOptions): readonly OptionSpec[] {
  return [
    option(
      "--grid SIZE",
      "the block size of the store: a power of two from 4K to 16M that payloads are aligned to",
      { key: "gridBytes", defaultText: sizeOption(defaults.gridBytes) },
    ),
    option(
      "--align-threshold SIZE|none",
      "files of at least this size start on the grid; none turns alignment off",
      {
        key: "alignThresholdBytes",
        defaultText: thresholdText(defaults.alignThresholdBytes, sizeOption),
      },
    ),
    option(
      "--packing RULE",
      "how smaller files are packed: merge joins neighbours up to one cell of the grid, along boundaries that their " +
        "names decide; resync[:MEAN[:LO]] starts a run on the grid every MEAN bytes or so, but not before LO (a " +
        "quarter of MEAN), at places that the content decides; tight starts none",
      {
        choices: ["merge", "resync", "tight"],
        open: true,
        defaultText: packingText(defaults.packing, sizeOption),
      },
    ),
  ];
}

function sizeOptions(defaults: LayoutOptions): readonly OptionSpec[] {
  const { reservedBlocks: reserved } = defaults;
  return [
    option(
      "--size [+]SIZE",
      "size of the file system, or with + the free space in it; exact: what the content needs; fill: what the device " +
        "that is written has room for",
      { defaultText: "exact", choices: ["exact", "fill"], open: true },
    ),
    option("--journal SIZE|none", "internal journal, at least 4M", {
      key: "journalBytes",
      defaultText: journalText(defaults.journalBytes, sizeOption),
    }),
    option(
      "--backups WHICH",
      "backup superblocks; none: no reserved gaps, but the kernel cannot grow the file system online",
      { choices: ["sparse", NONE], defaultText: defaults.backups },
    ),
    option("--reserved SIZE|PERCENT%", "space that only root may fill", {
      key: "reservedBlocks",
      defaultText: reserved.kind === "percent"
        ? `${reserved.percent}%`
        : sizeOption(reserved.bytes),
    }),
    option("--inodes N", "make at least N inodes, used ones included", {
      key: "inodeCount",
      defaultText: "from the content and the free space",
    }),
  ];
}

const FEATURE_OPTIONS: readonly OptionSpec[] = [
  option("--inline-data", "keep small files inside their inodes"),
  option("--metadata-csum", "make an image without metadata checksums", {
    key: "metadataChecksums",
    on: true,
  }),
  option(
    "--compat READER,...",
    "what must be able to read the image: grub, grub-2.12, u-boot, or a version of Linux from 3.10 on, such as " +
      "linux-5.10; features that one of them cannot read are left out, or refused where they are needed",
    { choices: COMPAT_NAMES, open: true },
  ),
];

/** What an image takes over from the last build; `what` is the clause in the help that names its images. */
export function likeOptions(what: string): readonly OptionSpec[] {
  return [
    option(
      "--like PREVIOUS",
      `keep the blocks, inode numbers and directory blocks that ${what} for what did not ` +
        "change; nothing else of it is in the new one",
      { completion: "file" },
    ),
    option(
      "--keep-stale",
      "with --like, freed blocks keep the bytes that PREVIOUS has there, so fewer chunks are new: removed content " +
        "stays readable on the raw device",
    ),
  ];
}

/** The files that a boot reads first. */
export const HOT_OPTIONS: readonly OptionSpec[] = [
  option(
    "--hot FILE|entrypoint",
    "put the files that a boot reads first, in that order: a list of paths, what strace or fatrace printed, or what " +
      "the entry point of the image loads",
  ),
  option("--prefetch FILE", "write where the hot files lie, and the ids of those cells, as JSON"),
];

/** How to read an image that was not unmounted cleanly. */
export const REPLAY_OPTIONS: readonly OptionSpec[] = [
  option("--replay", "read an image that was not unmounted as it is, and ignore its journal", {
    on: true,
  }),
  option("--external-journal FILE", "the journal of an image that keeps it on another device"),
];

/** How servers authenticate to this program, and this program to them. */
export const CERTIFICATE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--ca-file FILE",
    "trust the certificate authorities in this file too, for the registry and a store on S3",
  ),
  option("--cert FILE", "the certificate to show to the registry or the store; with --key", {
    key: "certFile",
  }),
  option("--key FILE", "the key that belongs to --cert", { key: "keyFile" }),
];

export const SOURCE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--platform OS/ARCH[/VARIANT]",
    "which platform of the image to use; an image for another one is an error. any takes what there is",
    { defaultText: "linux on this machine's architecture", choices: ["any"], open: true },
  ),
  option("--jobs N", "how many layers are read at the same time", {
    defaultText: "the number of processors",
  }),
  option("--tmpdir DIR", "where decompressed layers are kept while they are needed", {
    defaultText: "the system's",
  }),
  option("--plain-http", "use http, not https, for the registry; loopback needs no such option"),
  option("--authfile FILE", "read the credentials for the registry from this file", {
    key: "authFile",
    defaultText: "those of podman and docker",
  }),
  option(
    "--blob-cache DIR",
    "keep layers from registries in this directory, and read them from there next time",
  ),
  ...CERTIFICATE_OPTIONS,
  option("--strict", "fail instead of warning when something in the source is changed or left out"),
  option(
    "--ignore-zeros",
    "read on after the end marker of a tar, for tars that were joined with cat",
  ),
  ...REPLAY_OPTIONS,
  option("--ignore-diffid", "only warn if a layer does not match its diff id"),
  option(
    "--limit NAME=VALUE,...",
    "change a limit on what a source may contain; docs/LIMITS.md has the names: layers, layer-entries, " +
      "unpacked-bytes, unpacked-ratio and others",
    {
      choices: LIMITS.filter(({ isFixed }) => !isFixed).map(({ name }) => `${kebabCase(name)}=`),
      open: true,
    },
  ),
];

/** The source options that matter without reading layers. */
export const INSPECTED_SOURCE_OPTIONS: readonly OptionSpec[] = SOURCE_OPTIONS.filter(({ name }) =>
  ["platform", "tmpdir", "plain-http", "authfile", "ca-file", "cert", "key", "limit"].includes(name)
);

export const STORE_OPTION: OptionSpec = option(
  "--store STORE",
  "put the chunks into this store: a directory, or s3+https://HOST/BUCKET/PREFIX with the keys of AWS_ACCESS_KEY_ID " +
    "and AWS_SECRET_ACCESS_KEY or of a profile",
  { completion: "directory" },
);

export const CHUNK_OPTIONS: readonly OptionSpec[] = [
  option(
    "--chunker fixed|fastcdc[:AVG:MIN:MAX]",
    "cut at the grid, or by content, never across a hole's edge; AVG is 128K when left out",
    { choices: ["fixed", "fastcdc"], open: true, default: "fixed" },
  ),
  option(
    "--digest NAME",
    "the digest that names chunks; all users of a store must use the same one",
    { choices: CHUNK_DIGESTS, default: CHUNK_DIGESTS[0]! },
  ),
  option("--zstd-level N", `how hard new chunks are compressed, 1 to ${ZSTD_LEVEL_MAX}`, {
    default: String(ZSTD_LEVEL_DEFAULT),
  }),
  option("--create-store", "make the directory of the store if it does not exist"),
  option(
    "--verify-store",
    "read the chunks that the store already has, and fail if one is damaged",
  ),
  option("--dry-run", "write nothing, and report what would be new in the store"),
];

export const IMAGE_OPERAND: PositionalSpec = operand(
  "IMAGE",
  "an ext4, ext3 or ext2 image, or FILE#NUMBER for one in a partition of a disk",
);

export const SOURCE_OPERAND: PositionalSpec = operand(
  "SOURCE",
  "the image to bless, or - for one on standard input",
);

/** Lets a command continue past what cannot be read. */
export const KEEP_GOING_OPTION: OptionSpec = option(
  "--keep-going",
  "leave out what cannot be read in an ext4 image, list it, and exit with 1",
);

/** Turns warnings about an image into errors. */
export const STRICT_IMAGE_OPTION: OptionSpec = option(
  "--strict",
  "fail for an image that was not left clean (errors on record, a journal not replayed)",
);

/** Options whose contents become an additional layer. */
export const ADDITION_OPTIONS: readonly OptionSpec[] = [
  option(
    "--add HOST:GUEST[:mode=MODE,uid=UID,gid=GID]...",
    "add a file of this machine, or what is in a directory, at the path GUEST of the image; a file lands inside of a " +
      "directory that ends with a slash. Owner and group are 0 and modes are those of HOST if they are not given",
    { key: "additions", completion: "file" },
  ),
  option("--add-tar TAR...", "apply a tar on top by the rules of layers, whiteouts included", {
    key: "additions",
  }),
  option(
    "--exclude PATTERN...",
    "leave out what matches, of the image and of what was added before: a path of the image with the wildcards and the ! " +
      "of .dockerignore files",
    { key: "additions" },
  ),
  ...["uid", "gid"].map((
    kind,
  ): OptionSpec => (option(
    `--${kind}-map FROM:TO:COUNT...`,
    `map the ${kind}s from FROM on to those from TO on, COUNT of them; repeated for more. All must be mapped`,
  ))),
];

/** The additions that are applied in the order given. */
export const ADDITION_NAMES: readonly string[] = ["add", "add-tar", "exclude"];
