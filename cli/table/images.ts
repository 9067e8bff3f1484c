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
    # Cut disk images as they are
    blessfs probe --as-is a.ext4 b.ext4 --grid 64K,128K,256K
    # Compare what hosts wrote with --fingerprints FILE
    blessfs probe --from old.parquet new.parquet
    # Fail when a rebuild adds too much
    blessfs probe oci:old oci:new --max-new-share 5%
    # Send the answer to a team
    blessfs probe oci:a oci:b oci:c --report dedup.html
  `),
  description: [
    "Nothing is written: the bytes that bless would write are cut and hashed as they come. All-zero units are " +
    "never counted. Raw sizes leave out zero blocks of 4 KiB inside units, stored sizes are each unit compressed.",
    "Rows: whole files (without metadata); unaligned, an image without any alignment, in the order of its layers; " +
    "start-aligned, the same from a cell's start on; FastCDC over the unaligned bytes, a reference that layouts can " +
    "pass; aligned, the image as bless would lay it out, for each threshold and packing.",
  ],
  positionals: [operand("SOURCE...", "an image; new bytes are counted in this order")],
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
      "sizes of FastCDC's chunks, or a plain gear chunker of 16K to 1M with 17 bits",
      { key: "chunker", defaultText: "the grid's size" },
    ),
    option("--compress HOW", "what stored sizes mean: none, or zstd[:LEVEL]", {
      key: "compression",
      choices: ["none", "zstd"],
      open: true,
      default: "zstd:1",
    }),
    option("--mode MODE", "measure merged images, or one image a layer", {
      choices: ["merged", "layered"],
      default: "merged",
    }),
    option(
      "--like previous",
      "two more rows for each layout, in which each image is laid out like the one before it: as with --like, and " +
        "with --keep-stale too. The sources are builds in their order",
    ),
    option("--verity append", "measure each image with its dm-verity tree behind it"),
    VERITY_SALT_OPTION,
    option(
      "--fingerprints FILE",
      "write every unit of every row into a Parquet file, for --from or a database",
    ),
    option("--from", "the sources are files written with --fingerprints"),
    option("--as-is", "cut the files as they are, without blessing them"),
    option("--format FORMAT", "the format of the answer", {
      choices: ["table", "json", "csv"],
      default: "table",
    }),
    option("--plot FILE", "write a chart of the stored bytes of all rows as SVG"),
    option(
      "--report FILE",
      "write an HTML page with tables and pictures, --pairwise and --explain included",
    ),
    forceOption("replace a FILE that exists"),
    option("--self-shift", "compare the first image with itself, shifted on the grid"),
    option("--pairwise", "show the bytes that each pair of images shares"),
    option("--explain", "show the identical files that lose the most to the grid"),
    option(
      "--min-dedup SHARE",
      "exit with 1 when the row shares less of its stored bytes; 40% or 0.4. Of n equal images, (n-1)/n is shared",
    ),
    option(
      "--max-new-bytes SIZE",
      "exit with 1 when the last image adds more stored bytes to those before it",
    ),
    option(
      "--max-new-share SHARE",
      "exit with 1 when more of the last image's stored bytes are new; 5% or 0.05",
    ),
    option(
      "--row WORDS",
      "the row that these and the histogram are of, by words of its label: '64K tight', fastcdc",
      { defaultText: "the first aligned row; with --as-is the first one" },
    ),
    ...ADDITION_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/probe.ts")).run,
});

export const MAP = command({
  name: "map",
  summary: "draw how ext4 images lie on a grid, and which cells they share",
  examples: examples(`
    # See the layout of an image
    blessfs map python.ext4 --plot python.svg
    # See what two images share
    blessfs map old.ext4 new.ext4 --plot shared.svg
  `),
  description: [
    "Metadata, files on the grid, runs of small files and free space are told apart; a cell is filled as far as it is in " +
    "use. With several images, a point marks each cell that another one has too.",
  ],
  positionals: [{ ...IMAGE_OPERAND, repeated: true }],
  options: () => [
    option("--plot FILE", "the SVG file to make", { required: true }),
    option("--grid SIZE", "the size of cells", {
      key: "gridBytes",
      default: sizeOption(MERGED_DEFAULTS.gridBytes),
    }),
    option(
      "--align-threshold SIZE|none",
      "files of at least this size are shown as files on the grid",
      { key: "alignThresholdBytes", default: sizeOption(MERGED_DEFAULTS.alignThresholdBytes) },
    ),
    forceOption("replace a FILE that exists"),
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
    # Check all layers, and fail when a large file is off the grid
    blessfs verify layers/*.ext4 --grid 128K --align-threshold 64K
    # Prove all of an image with a dm-verity tree by its root hash
    blessfs verify root.ext4 --root-hash HEX
    # Give findings to a script
    blessfs verify python.ext4 --json
  `),
  description: [
    "It finds the damage that e2fsck -fn finds, and more: in the values of attributes, in backups, in the superblock's " +
    "copy of the journal inode. It changes nothing. The exit code is 1 if an image is damaged.",
    "A note is worth knowing, but neither the kernel nor e2fsck minds it: a stale backup of another writer, a journal " +
    "on another device that nobody looked at. With --strict, notes and warnings count as damage.",
    "It also counts the large files that lie on the grid. An image does not say which grid it was blessed for; with " +
    "--grid or --align-threshold, files off that grid count as damage.",
  ],
  positionals: [operand("IMAGE...", "an ext4 image")],
  options: () => [
    option("--grid SIZE", "the grid that large files should lie on", {
      key: "gridBytes",
      default: sizeOption(MERGED_DEFAULTS.gridBytes),
    }),
    option("--align-threshold SIZE", "files of at least this size are large", {
      key: "alignThresholdBytes",
      default: sizeOption(MERGED_DEFAULTS.alignThresholdBytes),
    }),
    option("--max-findings COUNT", "show at most this many findings per image; all are counted", {
      default: "100",
    }),
    option("--strict", "take notes and warnings for damage"),
    {
      ...ROOT_HASH_OPTION,
      summary: "check the hash tree of the image too, and every block against it",
    },
    ...HASH_PLACE_OPTIONS,
    ...REPLAY_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verify.ts")).run,
});

export const INSPECT = command({
  name: "inspect",
  summary: "show what an ext4 image is made of, or the manifest and config of any other source",
  examples: examples(`
    # Features, sizes, groups and checksums
    blessfs inspect image.ext4
    # Where a file lies
    blessfs inspect image.ext4 /usr/bin/env
    # An inode by its number
    blessfs inspect image.ext4 '<8>'
    # One fact for a script
    blessfs inspect --json image.ext4 | jq -r .superblock.uuid
    # What an image runs, and how large it is
    blessfs inspect oci:images/python:latest
    # Its config
    blessfs inspect docker://quay.io/team/app --json | jq .config
  `),
  description: [
    "Of an ext4 image (`ext4:FILE`, or a file or device that holds one) it shows the superblock and the groups, and with a " +
    "PATH an inode. Of every other source, it shows manifest, config, layers and sizes, and reads no layer.",
    "It shows what dumpe2fs and debugfs's stat show. A wrong checksum is shown with the right one. A damaged structure is " +
    "shown as far as it can be read, with what is wrong; `blessfs verify` says whether the whole image is sound.",
    "With a PATH it shows the inode. Symlinks in the path are followed, except the last name.",
  ],
  positionals: [
    operand(
      "IMAGE",
      "an ext4 image, or FILE#NUMBER for one in a partition of a disk, or any source",
      { completion: "source" },
    ),
    operand("[PATH]", "a name in the image, or <N> for an inode"),
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
  summary: "list files of an ext4 image",
  examples: examples(`
    # List the root
    blessfs ls image.ext4
    # Everything below a directory, at length
    blessfs ls -lR image.ext4 /usr
    # All of it for a script
    blessfs ls --recursive --json image.ext4
  `),
  description: [
    "Names are listed in byte order, one per line; with --recursive they are paths from the root. Bytes that are not " +
    "UTF-8 and control characters are shown as \\xNN. A long line has inode, mode, links, owner, group, size (or the " +
    "numbers of a device), modification time in UTC, and name.",
    "A PATH that is a symlink is followed, unless --directory is given.",
  ],
  positionals: [
    IMAGE_OPERAND,
    operand("[PATH]", "a name in the image, or <N> for an inode; the root when left out"),
  ],
  options: () => [
    option("-l, --long", "show inode, mode, owner, size and time too"),
    option("-R, --recursive", "list subdirectories too"),
    option("-d, --directory", "list a directory or symlink itself"),
    KEEP_GOING_OPTION,
    ...REPLAY_OPTIONS,
    STRICT_IMAGE_OPTION,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/ls.ts")).runLs,
});

export const CAT = command({
  name: "cat",
  summary: "print files of an ext4 image",
  examples: examples(`
    # Look at a file
    blessfs cat image.ext4 /etc/os-release
    # Take one out
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
  summary: "switch the metadata checksums of an ext4 image on or off, in place",
  examples: examples(`
    # Give an old image checksums
    blessfs checksum --enable old.ext4
    # Take them away, for a kernel that does not know them
    blessfs checksum --disable image.ext4
  `),
  description: [
    "It does what tune2fs -O metadata_csum does, for clean images that are not mounted. Without checksums the image has " +
    "uninit_bg instead. Before checksums are removed, every one is checked.",
    "All changes are first written to IMAGE.checksum-changes and synced to disk. If the work is interrupted, no kernel " +
    "mounts the image until the same command has run again and finished it. Nothing else may write to the image " +
    "meanwhile; a run that notices another one gives up.",
    "An image without room for checksums is left unchanged; the error says how many blocks are too full.",
  ],
  positionals: [operand("IMAGE", "the image, a regular file")],
  options: () => [
    option("--enable", "add checksums to all metadata"),
    option("--disable", "remove them"),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/checksum.ts")).run,
});
