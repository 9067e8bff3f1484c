/**
 * The commands of dm-verity.
 *
 * @module
 */
import { VERITY_FORMATS } from "../../lib/verity/format.ts";
import { command, examples, JSON_OPTION, operand, option, type OptionSpec } from "../command.ts";
import { forceOption } from "./options.ts";

/** Proves data and tree. `verify` has this option too. */
export const ROOT_HASH_OPTION: OptionSpec = option(
  "--root-hash HEX",
  "the expected root hash",
);

export const HASH_PLACE_OPTIONS: readonly OptionSpec[] = [
  option("--hash-file FILE", "the file of the hash tree, if it is not appended to the data"),
  option("--hash-offset SIZE", "offset of the verity superblock in its file", {
    defaultText: "detected; 0 in a separate file",
  }),
];

/** The source of the salt, in bless. */
export const VERITY_SALT_OPTION: OptionSpec = option(
  "--verity-salt HEX|random",
  "salt of the tree's hashes, at most 256 bytes; - for none",
  { defaultText: "32 zeros" },
);

export const ENVELOPE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--verity append|beside|FILE",
    "make the dm-verity tree in the same pass: appended to the image, in IMAGE.verity, or in FILE",
  ),
  VERITY_SALT_OPTION,
  option("--roothash", "also write the root hash to IMAGE.roothash, where systemd looks for it"),
  option(
    "--disk KIND",
    "make a disk with a GUID partition table and partitions for the image and its tree; --size is then the disk's",
    { choices: ["gpt"] },
  ),
  option("--esp FILE", "contents of an EFI system partition for the disk"),
  option(
    "--verity-signature FILE",
    "the JSON of a signed root hash, for a signature partition (Discoverable Partitions Specification)",
  ),
  option("--vhd", "append the footer of a fixed VHD, for Hyper-V"),
];

export const LAYERED_ENVELOPE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--verity append|beside",
    "make a dm-verity tree for each image in the same pass: appended to it, or in IMAGE.verity",
  ),
  VERITY_SALT_OPTION,
  option("--roothash", "also write the root hash of each image to IMAGE.roothash"),
  option(
    "--disk KIND",
    "also put all images on one disk, DIR/image-DIGEST.raw, one partition each; --size is then the disk's",
    { choices: ["gpt"] },
  ),
  option(
    "--vhd",
    "append the footer of a fixed VHD to the disk, or to each image if there is no disk",
  ),
];

const VERITY_IMAGE = operand(
  "IMAGE",
  "an image, a disk with a partition table, or a block device",
);

export const VERITY_FORMAT = command({
  name: "verity format",
  summary: "add a dm-verity hash tree to an image, as veritysetup format does",
  examples: examples(`
    # Append the tree to the image
    blessfs verity format root.ext4
    # Put it into a separate file
    blessfs verity format root.ext4 --hash-file root.verity
    # Get the root hash for a script
    blessfs verity format root.ext4 --json
  `),
  description: [
    "The tree has format 1, SHA-256 and blocks of 4096 bytes. Equal images get the same salt and UUID, unless --salt is " +
    "given. `blessfs bless --verity` makes the same tree while it writes the image.",
    "Mount the image only through dm-verity: if a kernel can write to it, for example because it has a journal, a plain " +
    "mount changes it, and it no longer matches its tree.",
  ],
  positionals: [VERITY_IMAGE],
  options: () => [
    { ...HASH_PLACE_OPTIONS[0]!, summary: "write the tree to this file instead of appending it" },
    option("--salt HEX|random", "salt of the tree's hashes, at most 256 bytes; - for none", {
      key: "veritySalt",
      defaultText: "32 zeros",
    }),
    option("--data-size SIZE", "how much of the image to hash", {
      key: "dataBytes",
      defaultText: "all of it",
    }),
    forceOption("replace an existing tree"),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verity.ts")).runFormat,
});

export const VERITY_VERIFY = command({
  name: "verity verify",
  summary: "check an image and its hash tree against a root hash",
  examples: examples(`
    # Check an image with an appended tree
    blessfs verity verify root.ext4 --root-hash HEX
    # Check an image whose tree is in a separate file
    blessfs verity verify root.ext4 --hash-file root.verity --root-hash HEX
  `),
  description: [
    "Reads data and tree once, without the kernel or any privileges. Damaged blocks are counted, and the exit code is 1 if " +
    "there are any. On a disk, the partitions are found by the root hash.",
  ],
  positionals: [VERITY_IMAGE],
  options: () => [
    { ...ROOT_HASH_OPTION, required: true },
    ...HASH_PLACE_OPTIONS,
    option(
      "--max-findings COUNT",
      "show at most this many damaged blocks; all of them are counted",
      {
        default: "100",
      },
    ),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verity.ts")).runVerify,
});

export const VERITY_DUMP = command({
  name: "verity dump",
  summary: "show the hash tree of an image, or how to open it",
  examples: examples(`
    # Show the superblock
    blessfs verity dump root.ext4
    # Get what the kernel needs to mount it as root, without an initial ramdisk
    blessfs verity dump root.ext4 --format kernel --device /dev/vda
    # Write the file that containerd keeps next to a layer
    blessfs verity dump layer.ext4 --format containerd > layer.ext4.dmverity
  `),
  description: [
    "The root hash shown is computed from the tree: it proves nothing until you compare it with one from a trusted source.",
    "--format kernel prints dm-mod.create= for the kernel command line, veritysetup the command that opens the device, " +
    "systemd a line for veritytab(5), containerd the JSON for its snapshotter.",
  ],
  positionals: [VERITY_IMAGE],
  options: () => [
    ROOT_HASH_OPTION,
    ...HASH_PLACE_OPTIONS,
    option("--format WHAT", "output format", {
      choices: ["text", ...VERITY_FORMATS],
      default: "text",
    }),
    option("--device DEVICE", "the device that will have the data", {
      defaultText: "the image",
    }),
    option("--hash-device DEVICE", "the device that will have the tree", {
      defaultText: "the data's device, or the file of the tree",
    }),
    option("--name NAME", "name of the opened device", { default: "root" }),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verity.ts")).runDump,
});
