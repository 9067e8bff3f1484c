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
  "the root hash that data and tree must have",
);

export const HASH_PLACE_OPTIONS: readonly OptionSpec[] = [
  option("--hash-file FILE", "the file of the hash tree, where it is not behind the data"),
  option("--hash-offset SIZE", "where the verity superblock is in its file", {
    defaultText: "found; 0 in a file of its own",
  }),
];

/** The source of the salt, in bless. */
export const VERITY_SALT_OPTION: OptionSpec = option(
  "--verity-salt HEX|random",
  "the salt of every hash of the tree, at most 256 bytes; - for none",
  { defaultText: "32 zeros" },
);

export const ENVELOPE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--verity append|beside|FILE",
    "make the dm-verity tree in the same pass: behind the image, in IMAGE.verity, or in a file of its own",
  ),
  VERITY_SALT_OPTION,
  option("--roothash", "write the root hash to IMAGE.roothash too, where systemd looks for it"),
  option(
    "--disk KIND",
    "make a disk with a GUID partition table, the image and its tree in partitions; --size is then that of the disk",
    { choices: ["gpt"] },
  ),
  option("--esp FILE", "an EFI system partition for the disk, as it is"),
  option(
    "--verity-signature FILE",
    "the JSON of a signed root hash, for a partition of its own (Discoverable Partitions Specification)",
  ),
  option("--vhd", "end the output with the footer of a fixed VHD, for Hyper-V"),
];

export const LAYERED_ENVELOPE_OPTIONS: readonly OptionSpec[] = [
  option(
    "--verity append|beside",
    "make a dm-verity tree of each image, in the same pass: behind it, or in IMAGE.verity",
  ),
  VERITY_SALT_OPTION,
  option("--roothash", "write the root hash of each image to IMAGE.roothash too"),
  option(
    "--disk KIND",
    "put all images into one disk as well, DIR/image-DIGEST.raw, a partition each; --size is then that of the disk",
    { choices: ["gpt"] },
  ),
  option("--vhd", "end the disk, or without one each image, with the footer of a fixed VHD"),
];

const VERITY_IMAGE = operand(
  "IMAGE",
  "an image, a disk with a partition table, or a block device",
);

export const VERITY_FORMAT = command({
  name: "verity format",
  summary: "give an image a dm-verity hash tree, as veritysetup format does",
  examples: examples(`
    # Put the tree behind the image
    blessfs verity format root.ext4
    # Put it into a file of its own
    blessfs verity format root.ext4 --hash-file root.verity
    # Get the root hash for a script
    blessfs verity format root.ext4 --json
  `),
  description: [
    "Format 1 with SHA-256 and blocks of 4096 bytes. Salt and UUID are the same for equal images, unless --salt says " +
    "otherwise. `blessfs bless --verity` makes the same tree while it writes the image.",
    "An image that a kernel may write to, such as one with a journal, does not match its tree any more once it was mounted: " +
    "mount it through dm-verity only.",
  ],
  positionals: [VERITY_IMAGE],
  options: () => [
    { ...HASH_PLACE_OPTIONS[0]!, summary: "write the tree here, not behind the image" },
    option("--salt HEX|random", "the salt of every hash, at most 256 bytes; - for none", {
      key: "veritySalt",
      defaultText: "32 zeros",
    }),
    option("--data-size SIZE", "how much of the image is hashed", {
      key: "dataBytes",
      defaultText: "all of it",
    }),
    forceOption("replace a tree that is there"),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verity.ts")).runFormat,
});

export const VERITY_VERIFY = command({
  name: "verity verify",
  summary: "check an image and its hash tree against a root hash",
  examples: examples(`
    # Check an image with its tree behind it
    blessfs verity verify root.ext4 --root-hash HEX
    # Check an image whose tree is in another file
    blessfs verity verify root.ext4 --hash-file root.verity --root-hash HEX
  `),
  description: [
    "Reads data and tree once, without any right and without the kernel. Every damaged block is counted. The exit code is 1 " +
    "when there is one. On a disk, the partitions are found by the root hash.",
  ],
  positionals: [VERITY_IMAGE],
  options: () => [
    { ...ROOT_HASH_OPTION, required: true },
    ...HASH_PLACE_OPTIONS,
    option("--max-findings COUNT", "how many damaged blocks are shown; all are counted", {
      default: "100",
    }),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verity.ts")).runVerify,
});

export const VERITY_DUMP = command({
  name: "verity dump",
  summary: "show the hash tree of an image, or how to open it",
  examples: examples(`
    # Show what the superblock says
    blessfs verity dump root.ext4
    # Get what the kernel needs to mount it as root, without an initial ramdisk
    blessfs verity dump root.ext4 --format kernel --device /dev/vda
    # Write the file that containerd keeps beside a layer
    blessfs verity dump layer.ext4 --format containerd > layer.ext4.dmverity
  `),
  description: [
    "The root hash is that of the tree: it proves nothing unless it is compared with one from somewhere else.",
    "--format kernel gives dm-mod.create= for the command line, veritysetup the command that opens the device, systemd a " +
    "line of veritytab(5), containerd the JSON of its snapshotter.",
  ],
  positionals: [VERITY_IMAGE],
  options: () => [
    ROOT_HASH_OPTION,
    ...HASH_PLACE_OPTIONS,
    option("--format WHAT", "for whom it is written", {
      choices: ["text", ...VERITY_FORMATS],
      default: "text",
    }),
    option("--device DEVICE", "where the data will be when it is opened", {
      defaultText: "the image",
    }),
    option("--hash-device DEVICE", "where the tree will be", {
      defaultText: "that of the data, or the file of the tree",
    }),
    option("--name NAME", "what the opened device is called", { default: "root" }),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/verity.ts")).runDump,
});
