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
      "size of the file system, or with + its free space; exact: just what the content needs; fill: all of the device " +
        "that is written",
      { defaultText: "exact", choices: ["exact", "fill"], open: true },
    ),
    option("--journal SIZE|none", "internal journal, at least 4M", {
      key: "journalBytes",
      defaultText: journalText(defaults.journalBytes, sizeOption),
    }),
    option(
      "--backups WHICH",
      "which backup superblocks to write; none leaves no reserved gaps, but the kernel cannot grow the file system online",
      { choices: ["sparse", NONE], defaultText: defaults.backups },
    ),
    option("--reserved SIZE|PERCENT%", "space reserved for root", {
      key: "reservedBlocks",
      defaultText: reserved.kind === "percent"
        ? `${reserved.percent}%`
        : sizeOption(reserved.bytes),
    }),
    option("--inodes N", "create at least N inodes, including those in use", {
      key: "inodeCount",
      defaultText: "from the content and the free space",
    }),
  ];
}

const FEATURE_OPTIONS: readonly OptionSpec[] = [
  option("--inline-data", "keep small files inside their inodes"),
  option("--metadata-csum", "write no metadata checksums", {
    key: "metadataChecksums",
    on: true,
  }),
  option(
    "--compat READER,...",
    "readers that must understand the image: grub, grub-2.12, u-boot, or Linux 3.10 or later, such as linux-5.10; " +
      "features that one of them cannot read are left out, or are an error if something needs them",
    { choices: COMPAT_NAMES, open: true },
  ),
];

/** What an image takes over from the last build; `what` is the clause in the help that names its images. */
export function likeOptions(what: string): readonly OptionSpec[] {
  return [
    option(
      "--like PREVIOUS",
      `reuse the blocks, inode numbers and directory blocks that ${what} for everything that did not ` +
        "change; nothing else is taken over",
      { completion: "file" },
    ),
    option(
      "--keep-stale",
      "with --like, leave PREVIOUS's bytes in freed blocks, so that fewer chunks are new; removed content stays readable " +
        "on the raw device",
    ),
  ];
}

/** The files that a boot reads first. */
export const HOT_OPTIONS: readonly OptionSpec[] = [
  option(
    "--hot FILE|entrypoint",
    "place the files that a boot reads at the front, in that order: from a list of paths, the output of strace or " +
      "fatrace, or what the image's entry point loads",
  ),
  option(
    "--prefetch FILE",
    "write the position of the hot files and the ids of their cells, as JSON",
  ),
];

/** How to read an image that was not unmounted cleanly. */
export const REPLAY_OPTIONS: readonly OptionSpec[] = [
  option(
    "--replay",
    "ignore the journal of an image that was not unmounted, and read the image as it is",
    {
      on: true,
    },
  ),
  option("--external-journal FILE", "the journal, if the image keeps it on another device"),
];

/** How servers authenticate to this program, and this program to them. */
export const CERTIFICATE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--ca-file FILE",
    "also trust the certificate authorities in this file, for registries and S3 stores",
  ),
  option("--cert FILE", "client certificate for the registry or the store; needs --key", {
    key: "certFile",
  }),
  option("--key FILE", "the private key for --cert", { key: "keyFile" }),
];

export const SOURCE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--platform OS/ARCH[/VARIANT]",
    "the platform to use; an image for another platform is an error, unless this is any",
    { defaultText: "linux on this machine's architecture", choices: ["any"], open: true },
  ),
  option("--jobs N", "layers to read at the same time", {
    defaultText: "the number of processors",
  }),
  option("--tmpdir DIR", "directory for decompressed layers, which are removed at the end", {
    defaultText: "the system's",
  }),
  option("--plain-http", "use HTTP instead of HTTPS for the registry; not needed for loopback"),
  option("--authfile FILE", "credentials for the registry", {
    key: "authFile",
    defaultText: "those of podman and docker",
  }),
  option(
    "--blob-cache DIR",
    "cache layers from registries in this directory",
  ),
  ...CERTIFICATE_OPTIONS,
  option(
    "--strict",
    "fail, instead of warning, if anything in the source would be changed or left out",
  ),
  option(
    "--ignore-zeros",
    "read past the end marker of a tar, for concatenated tars",
  ),
  ...REPLAY_OPTIONS,
  option("--ignore-diffid", "warn, instead of failing, if a layer does not match its diff id"),
  option(
    "--limit NAME=VALUE,...",
    "change limits on the source: layers, layer-entries, unpacked-bytes, unpacked-ratio and others; see " +
      "docs/LIMITS.md",
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
  "store the chunks here: a directory, or s3+https://HOST/BUCKET/PREFIX with credentials from AWS_ACCESS_KEY_ID and " +
    "AWS_SECRET_ACCESS_KEY or from a profile",
  { completion: "directory" },
);

export const CHUNK_OPTIONS: readonly OptionSpec[] = [
  option(
    "--chunker fixed|fastcdc[:AVG:MIN:MAX]",
    "cut at the grid, or by content, never across the edge of a hole; AVG is 128K by default",
    { choices: ["fixed", "fastcdc"], open: true, default: "fixed" },
  ),
  option(
    "--digest NAME",
    "digest that names chunks; the same for all users of a store",
    { choices: CHUNK_DIGESTS, default: CHUNK_DIGESTS[0]! },
  ),
  option("--zstd-level N", `compression level of new chunks, 1 to ${ZSTD_LEVEL_MAX}`, {
    default: String(ZSTD_LEVEL_DEFAULT),
  }),
  option("--create-store", "create the store's directory if it does not exist"),
  option(
    "--verify-store",
    "check the chunks that are already in the store, and fail if one is damaged",
  ),
  option("--dry-run", "write nothing, only report what would be new in the store"),
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
  "skip what cannot be read in an ext4 image, list it, and exit with 1",
);

/** Turns warnings about an image into errors. */
export const STRICT_IMAGE_OPTION: OptionSpec = option(
  "--strict",
  "fail if the image was not left clean (recorded errors, or a journal that was not replayed)",
);

/** Options whose contents become an additional layer. */
export const ADDITION_OPTIONS: readonly OptionSpec[] = [
  option(
    "--add HOST:GUEST[:mode=MODE,uid=UID,gid=GID]...",
    "add a file, or the contents of a directory, of this machine at GUEST in the image; if GUEST ends with a slash, a " +
      "file goes into that directory. By default, owner and group are 0 and modes are those of HOST",
    { key: "additions", completion: "file" },
  ),
  option("--add-tar TAR...", "apply a tar on top as a layer, including its whiteouts", {
    key: "additions",
  }),
  option(
    "--exclude PATTERN...",
    "leave out matching paths of the image and of earlier additions; patterns are those of .dockerignore files, with " +
      "wildcards and !",
    { key: "additions" },
  ),
  ...["uid", "gid"].map((
    kind,
  ): OptionSpec => (option(
    `--${kind}-map FROM:TO:COUNT...`,
    `map COUNT ${kind}s, starting at FROM, to those starting at TO; can be repeated. Every ${kind} must be mapped`,
  ))),
];

/** The additions that are applied in the order given. */
export const ADDITION_NAMES: readonly string[] = ["add", "add-tar", "exclude"];
