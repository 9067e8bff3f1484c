/**
 * The commands that read images, or change one in place.
 *
 * @module
 */
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { command, examples, JSON_OPTION, operand, option } from "../command.ts";
import { sizeOption } from "../values.ts";
import {
  ADDITION_OPTIONS,
  forceOption,
  IMAGE_OPERAND,
  INSPECTED_SOURCE_OPTIONS,
  KEEP_GOING_OPTION,
  REPLAY_OPTIONS,
  SOURCE_OPTIONS,
  STRICT_IMAGE_OPTION,
} from "./options.ts";
import { HASH_PLACE_OPTIONS, ROOT_HASH_OPTION, VERITY_SALT_OPTION } from "./verity.ts";

export const PROBE = command({
  name: "probe",
  aliases: ["dedup-probe"],
  summary: "show what fixed-grid dedup saves across images",
  examples: examples(`
    # Compare three images
    blessfs probe oci:images/base oci:images/python oci:images/node
    # See what a rebuild adds, by threshold, as a chart
    blessfs probe oci:old oci:new --align-threshold 16K,64K --plot sweep.svg
    # Compare disk images as they are
    blessfs probe --as-is a.ext4 b.ext4 --grid 64K,128K,256K
    # Compare what hosts wrote with --fingerprints FILE
    blessfs probe --from old.parquet new.parquet
    # Fail when a rebuild adds too much
    blessfs probe oci:old oci:new --max-new-share 5%
    # Make a report for a team
    blessfs probe oci:a oci:b oci:c --report dedup.html
  `),
  description: [
    "No image is written: the bytes that bless would write are cut and hashed on the fly. Units of zeros are never " +
    "counted. Raw sizes leave out zero blocks of 4 KiB; stored sizes are those of the compressed units.",
    "Rows: whole files (without metadata); unaligned, an image without alignment, in the order of its layers; " +
    "start-aligned, the same but starting on a cell; FastCDC over the unaligned bytes, a reference that a layout can " +
    "beat; aligned, the image as bless lays it out, for each threshold and packing.",
  ],
  positionals: [operand("SOURCE...", "an image; new bytes are counted in the order given")],
  options: () => [
    option("--align-threshold SIZE|none,...", "a row for each threshold; none is always a row", {
      key: "alignThresholdBytes",
      defaultText: `DEDUP_ALIGN_THRESHOLD, else ${sizeOption(MERGED_DEFAULTS.alignThresholdBytes)}`,
    }),
    option("--packing RULE,...", "a row for each packing: merge, resync[:MEAN[:LO]] or tight", {
      choices: ["merge", "resync", "tight"],
      open: true,
      defaultText: "the default of bless, tight",
    }),
    option("--grid SIZE,...", "block sizes of the store", {
      key: "gridBytes",
      default: sizeOption(MERGED_DEFAULTS.gridBytes),
    }),
    option(
      "--cdc AVG[:MIN:MAX]|gear",
      "chunk sizes of FastCDC, or a plain gear chunker with 17 bits and chunks of 16K to 1M",
      { key: "chunker", defaultText: "the grid's size" },
    ),
    option(
      "--compress HOW",
      "how units are compressed for their stored size: none, or zstd[:LEVEL]",
      {
        key: "compression",
        choices: ["none", "zstd"],
        open: true,
        default: "zstd:1",
      },
    ),
    option("--mode MODE", "measure merged images, or one image a layer", {
      choices: ["merged", "layered"],
      default: "merged",
    }),
    option(
      "--like previous",
      "add two rows per layout, in which each image is laid out like the one before it: as with --like, and with " +
        "--keep-stale as well. List the sources from the oldest build to the newest",
    ),
    option("--verity append", "measure each image with its dm-verity tree appended"),
    VERITY_SALT_OPTION,
    option(
      "--fingerprints FILE",
      "write every unit of every row to a Parquet file, for --from or a database",
    ),
    option("--from", "the sources are files written with --fingerprints"),
    option("--as-is", "measure the files as they are, without blessing them"),
    option("--format FORMAT", "output format", {
      choices: ["table", "json", "csv"],
      default: "table",
    }),
    option("--plot FILE", "write an SVG chart of the stored bytes of all rows"),
    option(
      "--report FILE",
      "write an HTML page with tables and charts, including --pairwise and --explain",
    ),
    forceOption("replace an existing FILE"),
    option(
      "--self-shift",
      "compare the first image with a copy of itself that is shifted off the grid",
    ),
    option("--pairwise", "show how many bytes each pair of images shares"),
    option("--explain", "show which identical files lose the most to the grid"),
    option(
      "--min-dedup SHARE",
      "exit with 1 if less than this share of the row's stored bytes is shared, such as 40% or 0.4; n equal images share " +
        "(n-1)/n",
    ),
    option(
      "--max-new-bytes SIZE",
      "exit with 1 if the last image adds more stored bytes than this",
    ),
    option(
      "--max-new-share SHARE",
      "exit with 1 if more than this share of the last image's stored bytes is new, such as 5% or 0.05",
    ),
    option(
      "--row WORDS",
      "the row for these limits and the histogram, by words of its label, such as '64K tight' or fastcdc",
      { defaultText: "the first aligned row; with --as-is, the first row" },
    ),
    ...ADDITION_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/probe.ts")).run,
});

export const MAP = command({
  name: "map",
  summary: "draw the layout of ext4 images on a grid, and the cells that they share",
  examples: examples(`
    # See the layout of an image
    blessfs map python.ext4 --plot python.svg
    # See what two images share
    blessfs map old.ext4 new.ext4 --plot shared.svg
  `),
  description: [
    "Metadata, files on the grid, runs of small files and free space have different colours; a cell is filled as far as " +
    "it is in use. With several images, a dot marks each cell that another image has as well.",
  ],
  positionals: [{ ...IMAGE_OPERAND, repeated: true }],
  options: () => [
    option("--plot FILE", "the SVG file to make", { required: true }),
    option("--grid SIZE", "cell size", {
      key: "gridBytes",
      default: sizeOption(MERGED_DEFAULTS.gridBytes),
    }),
    option(
      "--align-threshold SIZE|none",
      "show files of at least this size as files on the grid",
      { key: "alignThresholdBytes", default: sizeOption(MERGED_DEFAULTS.alignThresholdBytes) },
    ),
    forceOption("replace an existing FILE"),
    ...REPLAY_OPTIONS,
  ],
  load: async () => (await import("../commands/probe.ts")).runMap,
});

export const VERIFY = command({
  name: "verify",
  summary: "check ext4 images: every checksum, every structure, every count",
  examples: examples(`
    # Check an image, without e2fsprogs
    blessfs verify python.ext4
    # Check all layers, and fail if a large file is off the grid
    blessfs verify layers/*.ext4 --grid 128K --align-threshold 64K
    # Check all of an image with a dm-verity tree against its root hash
    blessfs verify root.ext4 --root-hash HEX
    # Get the findings for a script
    blessfs verify python.ext4 --json
  `),
  description: [
    "Finds all damage that e2fsck -fn finds, and more: in the values of attributes, in backups, and in the superblock's " +
    "copy of the journal inode. Nothing is changed. The exit code is 1 if an image is damaged.",
    "A note is something that neither the kernel nor e2fsck objects to, such as a stale backup by another writer, or a " +
    "journal on another device that was not checked. With --strict, notes and warnings count as damage.",
    "Large files on the grid are counted as well. An image does not record the grid it was blessed for; with --grid or " +
    "--align-threshold, files off that grid count as damage.",
  ],
  positionals: [operand("IMAGE...", "an ext4 image")],
  options: () => [
    option("--grid SIZE", "the grid that large files should start on", {
      key: "gridBytes",
      default: sizeOption(MERGED_DEFAULTS.gridBytes),
    }),
    option("--align-threshold SIZE", "smallest size of a large file", {
      key: "alignThresholdBytes",
      default: sizeOption(MERGED_DEFAULTS.alignThresholdBytes),
    }),
    option(
      "--max-findings COUNT",
      "show at most this many findings per image; all of them are counted",
      {
        default: "100",
      },
    ),
    option("--strict", "count notes and warnings as damage"),
    {
      ...ROOT_HASH_OPTION,
      summary: "also check the image's hash tree, and every block against it",
    },
    ...HASH_PLACE_OPTIONS,
    ...REPLAY_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verify.ts")).run,
});

export const INSPECT = command({
  name: "inspect",
  summary: "show the structure of an ext4 image, or the manifest and config of any other source",
  examples: examples(`
    # Features, sizes, groups and checksums
    blessfs inspect image.ext4
    # Where a file is stored
    blessfs inspect image.ext4 /usr/bin/env
    # An inode by number
    blessfs inspect image.ext4 '<8>'
    # One field for a script
    blessfs inspect --json image.ext4 | jq -r .superblock.uuid
    # What an image runs, and its size
    blessfs inspect oci:images/python:latest
    # Its config
    blessfs inspect docker://quay.io/team/app --json | jq .config
  `),
  description: [
    "For an ext4 image (`ext4:FILE`, or a file or device with one), shows the superblock and the block groups, or an inode " +
    "if PATH is given. For any other source, shows its manifest, config, layers and sizes, without reading a layer.",
    "The fields are those of dumpe2fs and of debugfs's stat. A wrong checksum is shown next to the right one, and a damaged " +
    "structure as far as it can be read, with what is wrong; `blessfs verify` checks the whole image.",
    "Symlinks in PATH are followed, except for the last name.",
  ],
  positionals: [
    operand(
      "IMAGE",
      "an ext4 image, or FILE#NUMBER for one in a partition of a disk, or any source",
      { completion: "source" },
    ),
    operand("[PATH]", "a path in the image, or <N> for an inode"),
  ],
  options: () => [
    option("--max-extents N", "list at most this many extents of an inode", {
      default: "1000",
    }),
    ...REPLAY_OPTIONS,
    STRICT_IMAGE_OPTION,
    ...INSPECTED_SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/inspect.ts")).run,
});

export const LS = command({
  name: "ls",
  summary: "list files in an ext4 image",
  examples: examples(`
    # List the root
    blessfs ls image.ext4
    # List everything below a directory, with details
    blessfs ls -lR image.ext4 /usr
    # List the whole image for a script
    blessfs ls --recursive --json image.ext4
  `),
  description: [
    "Names are listed in byte order, one per line; with --recursive, they are paths from the root. Control characters and " +
    "bytes that are not UTF-8 are shown as \\xNN. A long line has the inode, mode, links, owner, group, size (or device " +
    "numbers), modification time in UTC, and name.",
    "If PATH is a symlink, it is followed, unless --directory is given.",
  ],
  positionals: [
    IMAGE_OPERAND,
    operand("[PATH]", "a path in the image, or <N> for an inode; the root by default"),
  ],
  options: () => [
    option("-l, --long", "also show inode, mode, owner, size and time"),
    option("-R, --recursive", "also list subdirectories"),
    option("-d, --directory", "list a directory or symlink itself, not its contents or target"),
    KEEP_GOING_OPTION,
    ...REPLAY_OPTIONS,
    STRICT_IMAGE_OPTION,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/ls.ts")).runLs,
});

export const CAT = command({
  name: "cat",
  summary: "print files in an ext4 image",
  examples: examples(`
    # Print a file
    blessfs cat image.ext4 /etc/os-release
    # Extract a file
    blessfs cat image.ext4 /usr/bin/env > env
  `),
  description: [
    "Symlinks are followed inside the image. Holes are printed as zeros. The metadata of a file is checked first; a " +
    "damaged file is not printed.",
  ],
  positionals: [IMAGE_OPERAND, operand("PATH...", "a file in the image, or <N> for an inode")],
  options: () => [...REPLAY_OPTIONS, STRICT_IMAGE_OPTION],
  load: async () => (await import("../commands/ls.ts")).runCat,
});

export const CHECKSUM = command({
  name: "checksum",
  summary: "turn the metadata checksums of an ext4 image on or off, in place",
  examples: examples(`
    # Add checksums to an old image
    blessfs checksum --enable old.ext4
    # Remove them, for a kernel that does not support them
    blessfs checksum --disable image.ext4
  `),
  description: [
    "Does what tune2fs -O metadata_csum does, for clean images that are not mounted. Without checksums, the image has " +
    "uninit_bg instead. Before checksums are removed, all of them are checked.",
    "All changes are first written to IMAGE.checksum-changes and synced to disk. If the command is interrupted, no kernel " +
    "mounts the image until it is run again and finishes. Nothing else may write to the image meanwhile; a second run at " +
    "the same time fails.",
    "An image without room for checksums is left unchanged, and the error says how many blocks are too full.",
  ],
  positionals: [operand("IMAGE", "an ext4 image in a regular file")],
  options: () => [
    option("--enable", "add checksums to all metadata structures"),
    option("--disable", "remove them"),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/checksum.ts")).run,
});
