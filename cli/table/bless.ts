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
  "write the config of the image (entry point, environment and so on) as it is stored; - writes it to standard output",
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
    # Write it onto a block device, with all of its space
    blessfs bless oci:images/vm -o /dev/vdb --size fill
    # Put it into a chunk store that casync and desync read, and make no image
    blessfs bless oci:images/vm -o none --store /srv/chunks --index vm.caibx
    # Make a root that proves itself, with its dm-verity tree appended
    blessfs bless oci:images/vm -o vm.ext4 --verity append --roothash
    # Make a disk that systemd boots by its root hash
    blessfs bless oci:vm -o vm.raw --disk gpt --verity append --esp esp.img
    # Add what a virtual machine needs to start
    blessfs bless oci:images/python -o vm.ext4 --add ./init:/sbin/init:mode=0755
    # Lay a rebuild out like the last build, so that few chunks are new
    blessfs bless oci:images/app -o app-2.ext4 --like app-1.ext4
    # Get the figures for a script
    blessfs bless oci:images/python -o python.ext4 --json
    # Make the images that a file lists
    blessfs bless --batch images.jsonl --jobs 4
  `),
  description: [
    "With --verity the image is never written to, so it has no journal, and asking for one is an error. `blessfs verity " +
    "dump` shows how to open it. On a disk, the root hash names the partitions of the root and its tree.",
    "A block device must be large enough, and neither mounted nor in use. All of the image is written to it, its zeros " +
    "included; the superblock comes last, so after an interrupted run nothing mounts there. What is on the device behind " +
    "the image stays.",
    'A batch is one JSON object a line: source, output, and options by their names, such as {"source": "oci:images/vm", ' +
    '"output": "vm.ext4", "options": {"size": "+2G", "compat": ["grub"]}}. Options on the command line hold for ' +
    "every line that has no other. Each line gets its report as one line of JSON on standard output, in their order, with " +
    "`line` and, where it failed, `error`; the exit code is 1 then. Layers that several images have are read once.",
    "The same source and options always give the same bytes, on every machine. The UUID is derived from the digest of " +
    "the source.",
  ],
  batchOption: "batch",
  positionals: [SOURCE_OPERAND],
  options: () => [
    option(
      "-o, --output IMAGE",
      "the image to make, or the block device to write; - streams it to standard output, none makes only what --store " +
        "asks for",
      { required: true },
    ),
    option(
      "--batch FILE",
      "make the image of each line of this file; - reads the lines from standard input",
    ),
    option(
      "--assume-zeroed",
      "the device reads zeros everywhere: do not write the zeros of the image",
    ),
    STORE_OPTION,
    option(
      "--index FILE.caibx",
      "the index of the chunks in the store; - writes it to standard output",
    ),
    ...CHUNK_OPTIONS,
    forceOption(),
    option("--uuid UUID", "UUID of the file system", { defaultText: "from the content" }),
    option("--label TEXT", "label of the file system, at most 16 bytes"),
    ...layoutOptions(MERGED_DEFAULTS),
    ...likeOptions("this image, or FILE#NUMBER, has"),
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
    # Add another image; existing layers are used again
    blessfs bless layered oci:images/node:latest -o layers
    # Put the images into a chunk store too, with one index per layer
    blessfs bless layered oci:images/python:latest -o layers --store /srv/chunks
    # Give each a dm-verity tree, and put all into one disk for a virtual machine
    blessfs bless layered oci:app -o layers --verity append --disk gpt
    # Get the names and figures of the images for a script
    blessfs bless layered oci:images/python -o layers --json
  `),
  description: [
    "Each layer becomes DIR/DIFFID.ext4, with a record DIR/DIFFID.json that proves that it is complete. What a layer " +
    "shows can depend on the layers below it. If DIFFID is taken by an image that shows something else, a part of the " +
    "digest of its tree is added to the name. An existing image that is complete and was made with the same options is " +
    "used again; if all are, no layer is read.",
    "DIR/image.json holds the config of the image, its layers from the bottom up and the options of the overlay mount. It " +
    "always describes the last image blessed; DIR/image-DIGEST.json is a copy that stays.",
    "With --store, DIR/NAME.caibx is the index of the chunks of each image, and image.json names it; the images stay in " +
    "DIR. image.json describes this run: without --store it names no index, and existing indexes are left alone.",
    "To mount it: mount each layer that has a mountPoint read-only on a directory of that name, make the directories " +
    "listed in overlay.emptyDirectories beside them, and run `mount -t overlay overlay -o OPTIONS TARGET` there.",
  ],
  positionals: [SOURCE_OPERAND],
  options: () => [
    option("-o, --output DIR", "the directory for the images; created if it is missing", {
      required: true,
    }),
    forceOption("replace images there that were made with other options, or are not whole"),
    STORE_OPTION,
    ...CHUNK_OPTIONS,
    option("--uuid UUID", "UUID of the file system, for a source of one layer", {
      defaultText: "from the layer and what it shows",
    }),
    option("--label TEXT", "label of the file systems, at most 16 bytes"),
    ...layoutOptions(LAYERED_DEFAULTS),
    ...likeOptions("the images in this directory of an earlier build have"),
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
  summary: "write what is in an ext4 image, or any other source, as one tar",
  examples: examples(`
    # Get the files back
    blessfs export python.ext4 -o python.tar
    # Unpack an image without a mount
    blessfs export vm.ext4 -o - | tar --xattrs --xattrs-include='*' -xpC root
    # Make the image of a layer a layer again, for an OCI layout
    blessfs export layers/0123abcd.ext4 --layer -o layer.tar
    # Flatten the layers of an image
    blessfs export oci:images/python:latest -o python.tar
  `),
  description: [
    "The tar is in the PAX format, with all attributes, ACLs, capabilities, hard links, devices, holes, names as bytes " +
    "and times to the nanosecond. Equal sources give equal tars. Sockets are left out with a warning, as tar has none.",
    "Blessing the tar with the same options gives the same image, byte for byte: the tar carries the UUID in a comment, " +
    "which other tools ignore.",
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
    # Make a layer of what was changed
    blessfs diff old.ext4 new.ext4 -o layer.tar
    # See whether two images show the same files
    blessfs diff oci:images/python:latest python.ext4 --exit-code
    # Squash the upper layers of an image
    blessfs diff oci:images/base oci:images/python -o - | gzip > layer.tar.gz
  `),
  description: [
    "It compares names, kinds, bytes, modes, owners, times, extended attributes and hard links. The layer holds what is " +
    "different: a whiteout for what was removed, an opaque directory where nothing was kept. A file with several names " +
    "comes with all of them.",
    "Blessing A with the layer on top gives the files of B.",
  ],
  positionals: [
    operand("A", "the source that the layer goes on", { completion: "source" }),
    operand("B", "the source that A becomes", { completion: "source" }),
  ],
  options: () => [
    option(
      "-o, --output TAR",
      "the layer to make, uncompressed; - streams it to standard output",
      { defaultText: "none: only compare" },
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
