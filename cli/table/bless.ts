/**
 * The commands that make something from a source.
 *
 * @module
 */
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { command, examples, JSON_OPTION, operand, option, type OptionSpec } from "../command.ts";
import {
  ADDITION_OPTIONS,
  CHUNK_OPTIONS,
  forceOption,
  HOT_OPTIONS,
  KEEP_GOING_OPTION,
  layoutOptions,
  likeOptions,
  SOURCE_OPERAND,
  SOURCE_OPTIONS,
  STORE_OPTION,
} from "./options.ts";
import { ENVELOPE_OPTIONS, LAYERED_ENVELOPE_OPTIONS } from "./verity.ts";

const CONFIG_OPTION: OptionSpec = option(
  "--config FILE",
  "write the image's config (entry point, environment and so on) unchanged; - writes it to standard output",
);

export const BLESS_MERGED = command({
  name: "bless merged",
  aliases: ["bless"],
  summary: "make one ext4 image with all layers applied",
  examples: examples(`
    # Bless an image that skopeo copied here
    blessfs bless oci:images/python:latest -o python.ext4
    # Bless an image straight from its registry
    blessfs bless docker://registry.example.com/team/app:1.2 -o app.ext4
    # Leave 2 GiB of free space in it, for a virtual machine that writes
    blessfs bless oci:images/python:latest -o vm.ext4 --size +2G
    # Write it to a block device, and use all of the device
    blessfs bless oci:images/vm -o /dev/vdb --size fill
    # Only put it into a chunk store that casync and desync can read
    blessfs bless oci:images/vm -o none --store /srv/chunks --index vm.caibx
    # Make a verified root: append its dm-verity tree
    blessfs bless oci:images/vm -o vm.ext4 --verity append --roothash
    # Make a disk that systemd boots by its root hash
    blessfs bless oci:vm -o vm.raw --disk gpt --verity append --esp esp.img
    # Add an init for a virtual machine
    blessfs bless oci:images/python -o vm.ext4 --add ./init:/sbin/init:mode=0755
    # Lay out a rebuild like the last build, so that few chunks are new
    blessfs bless oci:images/app -o app-2.ext4 --like app-1.ext4
    # Get the figures for a script
    blessfs bless oci:images/python -o python.ext4 --json
    # Make all images listed in a file
    blessfs bless --batch images.jsonl --jobs 4
  `),
  description: [
    "An image with --verity is read-only, so it has no journal, and --journal is an error. `blessfs verity dump` shows " +
    "how to open it. On a disk, the UUIDs of the root partition and of its tree come from the root hash.",
    "A block device must be large enough, and neither mounted nor in use. The whole image is written to it, including " +
    "zeros. The superblock is written last, so that nothing can be mounted after an interrupted run. The rest of the " +
    "device is left alone.",
    'A batch has one JSON object per line, with source, output and options by name, such as {"source": "oci:images/vm", ' +
    '"output": "vm.ext4", "options": {"size": "+2G", "compat": ["grub"]}}. Options on the command line are the ' +
    "defaults of every line. Standard output has one line of JSON per image, in the same order: its report with `line` and, " +
    "if it failed, `error`. The exit code is 1 if one failed. Layers that images share are read once.",
    "The same source and options always give the same bytes, on every machine. The UUID is derived from the digest of " +
    "the source.",
  ],
  batchOption: "batch",
  positionals: [SOURCE_OPERAND],
  options: () => [
    option(
      "-o, --output IMAGE",
      "the image to make, or the block device to write; - streams it to standard output, none only fills the store of " +
        "--store",
      { required: true },
    ),
    option(
      "--batch FILE",
      "make one image per line of this file; - reads standard input",
    ),
    option(
      "--assume-zeroed",
      "do not write zeros, because the device already reads as zeros",
    ),
    STORE_OPTION,
    option(
      "--index FILE.caibx",
      "the index of the chunks to write; - writes it to standard output",
    ),
    ...CHUNK_OPTIONS,
    forceOption(),
    option("--uuid UUID", "UUID of the file system", { defaultText: "from the content" }),
    option("--label TEXT", "label of the file system, at most 16 bytes"),
    ...layoutOptions(MERGED_DEFAULTS),
    ...likeOptions("this image (or FILE#NUMBER) uses"),
    ...HOT_OPTIONS,
    ...ENVELOPE_OPTIONS,
    CONFIG_OPTION,
    ...ADDITION_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => {
    const { runMerged } = await import("../commands/bless.ts");
    return async (args, io) => {
      if (args.value("batch") === undefined) return await runMerged(args, io);
      return await (await import("../commands/batch.ts")).runBatch(args, io);
    };
  },
});

export const BLESS_LAYERED = command({
  name: "bless layered",
  summary: "make one ext4 image per layer, for overlayfs",
  examples: examples(`
    # Bless every layer of an image that skopeo copied here
    blessfs bless layered oci:images/python:latest -o layers
    # Add another image; layers that are already there are reused
    blessfs bless layered oci:images/node:latest -o layers
    # Put the images into a chunk store too, with one index per layer
    blessfs bless layered oci:images/python:latest -o layers --store /srv/chunks
    # Give each a dm-verity tree, and put all on one disk for a virtual machine
    blessfs bless layered oci:app -o layers --verity append --disk gpt
    # Get the names and figures of the images for a script
    blessfs bless layered oci:images/python -o layers --json
  `),
  description: [
    "Each layer becomes DIR/DIFFID.ext4, and DIR/DIFFID.json records that it is complete. What a layer shows can depend " +
    "on the layers below it: if an image with other contents has the name DIFFID, part of the digest of the tree is added " +
    "to the name. Existing images that are complete and were made with the same options are reused; if all are, no layer " +
    "is read.",
    "DIR/image.json has the image's config, its layers from the bottom up and the options of the overlay mount. It " +
    "describes the last image blessed; the copy DIR/image-DIGEST.json is kept.",
    "With --store, DIR/NAME.caibx is the chunk index of each image, and image.json names it; the images stay in DIR. " +
    "Without --store, image.json names no index, and existing indexes are left alone.",
    "To mount it, mount each layer that has a mountPoint read-only on a directory of that name, create the directories in " +
    "overlay.emptyDirectories next to them, and run `mount -t overlay overlay -o OPTIONS TARGET` there.",
  ],
  positionals: [SOURCE_OPERAND],
  options: () => [
    option("-o, --output DIR", "the directory for the images; created if it is missing", {
      required: true,
    }),
    forceOption("replace images that were made with other options or are incomplete"),
    STORE_OPTION,
    ...CHUNK_OPTIONS,
    option("--uuid UUID", "UUID of the file system, for a source of one layer", {
      defaultText: "from the layer and what it shows",
    }),
    option("--label TEXT", "label of the file systems, at most 16 bytes"),
    ...layoutOptions(LAYERED_DEFAULTS),
    ...likeOptions("the images of an earlier build, in this directory, use"),
    ...LAYERED_ENVELOPE_OPTIONS,
    CONFIG_OPTION,
    ...ADDITION_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/bless.ts")).runLayered,
});

export const EXPORT = command({
  name: "export",
  summary: "write the contents of an ext4 image, or of any other source, as one tar",
  examples: examples(`
    # Get the files back
    blessfs export python.ext4 -o python.tar
    # Unpack an image without a mount
    blessfs export vm.ext4 -o - | tar --xattrs --xattrs-include='*' -xpC root
    # Turn the image of a layer back into a layer, for an OCI layout
    blessfs export layers/0123abcd.ext4 --layer -o layer.tar
    # Flatten the layers of an image
    blessfs export oci:images/python:latest -o python.tar
  `),
  description: [
    "The tar is in the PAX format, with all attributes, ACLs, capabilities, hard links, devices, holes, names as bytes " +
    "and times to the nanosecond. Equal sources give equal tars. Sockets are left out with a warning: tar cannot store " +
    "them.",
    "Blessing the tar with the same options gives the same image, byte for byte: the tar has the UUID in a comment, which " +
    "other tools ignore.",
  ],
  positionals: [operand("IMAGE", "an ext4 image, or any source", { completion: "source" })],
  options: () => [
    option("-o, --output TAR", "the tar to make; - streams it to standard output", {
      required: true,
    }),
    forceOption(),
    option(
      "--layer",
      "write the image of a layer as an OCI layer, with whiteouts instead of overlayfs's marks",
    ),
    KEEP_GOING_OPTION,
    ...ADDITION_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/export.ts")).runExport,
});

export const DIFF = command({
  name: "diff",
  summary: "write the OCI layer that turns one image into another",
  examples: examples(`
    # Make a layer from the changes
    blessfs diff old.ext4 new.ext4 -o layer.tar
    # Check whether two images have the same files
    blessfs diff oci:images/python:latest python.ext4 --exit-code
    # Squash the upper layers of an image
    blessfs diff oci:images/base oci:images/python -o - | gzip > layer.tar.gz
  `),
  description: [
    "Names, kinds, bytes, modes, owners, times, extended attributes and hard links are compared. The layer has what " +
    "differs, a whiteout for everything that was removed, and an opaque directory where nothing was kept. A file with " +
    "several names comes with all of them.",
    "Applying the layer to A gives the files of B.",
  ],
  positionals: [
    operand("A", "the source that the layer applies to", { completion: "source" }),
    operand("B", "the source that the layer turns A into", { completion: "source" }),
  ],
  options: () => [
    option(
      "-o, --output TAR",
      "the layer to make, uncompressed; - streams it to standard output",
      { defaultText: "none, only compare" },
    ),
    forceOption(),
    option("--exit-code", "exit with 1 if there is a difference"),
    KEEP_GOING_OPTION,
    ...ADDITION_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/export.ts")).runDiff,
});
