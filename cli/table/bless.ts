/**
 * The commands that make something of a source.
 *
 * @module
 */
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { sizeOption } from "../values.ts";
import {
  CHUNK_OPTIONS,
  forceOption,
  layoutOptions,
  outputOption,
  SOURCE_OPERAND,
  SOURCE_OPTIONS,
  STORE_OPTION,
} from "./options.ts";
import { ENVELOPE_OPTIONS, LAYERED_ENVELOPE_OPTIONS } from "./verity.ts";

/** `blessfs bless merged`. */
export const BLESS_MERGED: Command = {
  name: "bless merged",
  aliases: ["bless"],
  summary: "make one ext4 image with all layers applied",
  examples: [
    [
      "Bless an image that skopeo copied here",
      "blessfs bless oci:images/python:latest -o python.ext4",
    ],
    [
      "Bless an image straight from its registry",
      "blessfs bless docker://registry.example.com/team/app:1.2 -o app.ext4",
    ],
    [
      "Leave 2 GiB of free space in it, for a virtual machine that writes",
      "blessfs bless oci:images/python:latest -o vm.ext4 --size +2G",
    ],
    ["Stream it into a block device", "blessfs bless tar:root.tar.gz -o - | dd of=/dev/vdb bs=1M"],
    [
      "Put it into a chunk store that casync and desync read, and make no image",
      "blessfs bless oci:images/vm -o none --store /srv/chunks --index vm.caibx",
    ],
    [
      "Make a root that proves itself, with its dm-verity tree behind it",
      "blessfs bless oci:images/vm -o vm.ext4 --verity append --roothash",
    ],
    [
      "Make a disk that systemd boots by its root hash",
      "blessfs bless oci:vm -o vm.raw --disk gpt --verity append --esp esp.img",
    ],
    ["Get the figures for a script", "blessfs bless oci:images/python -o python.ext4 --json"],
  ],
  description: [
    "With --verity there is no journal unless one is asked for, which is an error: the image is never written to. `blessfs " +
    "verity dump` shows how to open it. On a disk, the partitions of root and tree are named by the root hash.",
    "Equal sources and options give equal bytes, whoever blesses them, where and when. The UUID is derived from " +
    "the source's digest.",
  ],
  positionals: [SOURCE_OPERAND],
  options: [
    outputOption({
      value: "IMAGE",
      required: true,
      summary:
        "the image to make; - streams it to standard output, none makes only what --store asks for",
    }),
    STORE_OPTION,
    {
      name: "index",
      value: "FILE.caibx",
      completion: "file",
      summary: "the index of the chunks in the store; - writes it to standard output",
    },
    ...CHUNK_OPTIONS,
    forceOption(),
    {
      name: "uuid",
      value: "UUID",
      defaultText: "from the content",
      summary: "UUID of the file system",
    },
    { name: "label", value: "TEXT", summary: "label of the file system, at most 16 bytes" },
    ...layoutOptions(MERGED_DEFAULTS),
    ...ENVELOPE_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/bless.ts")).runMerged,
};

/** `blessfs bless layered`. */
export const BLESS_LAYERED: Command = {
  name: "bless layered",
  summary: "make one ext4 image a layer, for overlayfs",
  examples: [
    [
      "Bless every layer of an image that skopeo copied here",
      "blessfs bless layered oci:images/python:latest -o layers",
    ],
    [
      "Add another image; layers that are there already are used again",
      "blessfs bless layered oci:images/node:latest -o layers",
    ],
    [
      "Put the images into a chunk store too, with one index a layer",
      "blessfs bless layered oci:images/python:latest -o layers --store /srv/chunks",
    ],
    [
      "Give each a dm-verity tree, and put all into one disk for a virtual machine",
      "blessfs bless layered oci:app -o layers --verity append --disk gpt",
    ],
    [
      "Get the names and figures of the images for a script",
      "blessfs bless layered oci:images/python -o layers --json",
    ],
  ],
  description: [
    "Each layer becomes DIR/DIFFID.ext4, with a record DIR/DIFFID.json that proves it to be whole. What a layer " +
    "shows can depend on those below it; where its name has an image that shows something else, its name goes on with a part " +
    "of its tree's digest. An image that is there, whole and made with the same options is left alone; where that is so " +
    "for all, no layer is read.",
    "DIR/image.json holds the image's config, its layers from the bottom up and the options of the overlay mount. It is " +
    "always that of the last image; DIR/image-DIGEST.json is the same and stays.",
    "With --store the index of each image's chunks is DIR/NAME.caibx, named in image.json; the images stay where they are. " +
    "image.json says what this run made: without --store it names no index, and those of earlier runs are left as they are.",
    "Mount each layer that has a mountPoint read-only at a directory of that name, make the directories listed under " +
    "overlay.emptyDirectories beside them, and there run `mount -t overlay overlay -o OPTIONS TARGET`.",
  ],
  positionals: [SOURCE_OPERAND],
  options: [
    outputOption({
      value: "DIR",
      required: true,
      completion: "directory",
      summary: "the directory of the images; made when it is missing",
    }),
    forceOption("replace images there that were made with other options, or are not whole"),
    STORE_OPTION,
    ...CHUNK_OPTIONS,
    {
      name: "uuid",
      value: "UUID",
      defaultText: "from the layer and what it shows",
      summary: "UUID of the file system, for a source of one layer",
    },
    { name: "label", value: "TEXT", summary: "label of the file systems, at most 16 bytes" },
    ...layoutOptions(LAYERED_DEFAULTS),
    ...LAYERED_ENVELOPE_OPTIONS,
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/bless.ts")).runLayered,
};

/** `blessfs chunk`. */
export const CHUNK: Command = {
  name: "chunk",
  summary: "put an existing image into a chunk store of casync and desync",
  examples: [
    [
      "Put an image into a store in a directory",
      "blessfs chunk python.ext4 --store /srv/chunks -o python.caibx",
    ],
    [
      "Put it into a bucket",
      "blessfs chunk vm.ext4 --store s3+https://host/bucket/chunks -o vm.caibx",
    ],
    ["Ask how much of an image is new", "blessfs chunk python.ext4 --store /srv/chunks --dry-run"],
  ],
  description: [
    "The index is byte for byte that of `casync make --chunk-size=131072:131072:131072`. Chunks are stored as casync and " +
    "desync store them, each once. All of them are in the store before the index gets its name.",
    "`casync extract --store=http://host/chunks FILE.caibx IMAGE` and `desync extract -s STORE FILE.caibx IMAGE` get the " +
    "image back; `desync mount-index -s STORE FILE.caibx DIR` shows it without fetching more than is read.",
    "Many may write to one store at once, from several hosts.",
  ],
  positionals: [{
    name: "IMAGE",
    summary: "a file or a block device, or - for standard input",
    completion: "file",
  }],
  options: [
    { ...STORE_OPTION, required: true },
    outputOption({
      value: "FILE.caibx",
      summary: "the index to make; - writes it to standard output. Left out only with --dry-run",
    }),
    {
      name: "grid",
      key: "chunkBytes",
      value: "SIZE",
      defaultText: sizeOption(MERGED_DEFAULTS.gridBytes),
      summary: "the size of chunks: the grid that the image was made for",
    },
    forceOption("replace an index that exists"),
    ...CHUNK_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/chunk.ts")).run,
};

/** `blessfs export`. */
export const EXPORT: Command = {
  name: "export",
  summary: "write what is in an ext4 image, or any other source, as one tar",
  examples: [
    ["Get the files back", "blessfs export python.ext4 -o python.tar"],
    [
      "Unpack an image without a mount",
      "blessfs export vm.ext4 -o - | tar --xattrs --xattrs-include='*' -xpC root",
    ],
    [
      "Make the image of a layer a layer again, for an OCI layout",
      "blessfs export layers/0123abcd.ext4 --layer -o layer.tar",
    ],
    ["Flatten the layers of an image", "blessfs export oci:images/python:latest -o python.tar"],
  ],
  description: [
    "The tar is in the PAX format, with all attributes, ACLs, capabilities, hard links, devices, holes, names as bytes " +
    "and times to the nanosecond. Equal sources give equal tars. Sockets, which tar has not, are left out with a warning.",
    "An image that is blessed from the tar with the same options is the same image, byte for byte: the tar carries " +
    "the UUID in a comment, which other tools pass over.",
  ],
  positionals: [{ name: "IMAGE", summary: "an ext4 image, or any source", completion: "source" }],
  options: [
    outputOption({
      value: "TAR",
      required: true,
      summary: "the tar to make; - streams it to standard output",
    }),
    forceOption(),
    {
      name: "layer",
      summary: "write a layer's image as an OCI layer: whiteouts in place of overlayfs's marks",
    },
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/export.ts")).runExport,
};

/** `blessfs diff`. */
export const DIFF: Command = {
  name: "diff",
  summary: "write the OCI layer that turns one image into another",
  examples: [
    ["Make a layer of what was changed", "blessfs diff old.ext4 new.ext4 -o layer.tar"],
    [
      "See whether two images show the same files",
      "blessfs diff oci:images/python:latest python.ext4 --exit-code",
    ],
    [
      "Squash the upper layers of an image",
      "blessfs diff oci:images/base oci:images/python -o - | gzip > layer.tar.gz",
    ],
  ],
  description: [
    "Compared are names, kinds, bytes, modes, owners, times, extended attributes and hard links. What is equal is not in " +
    "the layer; what is gone is there as a whiteout, and a directory of which nothing stays is made opaque. A file " +
    "with several names comes with all of them.",
    "Blessing A with the layer on top gives the files of B.",
  ],
  positionals: [
    { name: "A", summary: "the source that the layer lies on", completion: "source" },
    { name: "B", summary: "the source that comes of it", completion: "source" },
  ],
  options: [
    outputOption({
      value: "TAR",
      defaultText: "none: only compare",
      summary: "the layer to make, uncompressed; - streams it to standard output",
    }),
    forceOption(),
    { name: "exit-code", summary: "exit with 1 when there is a difference" },
    ...SOURCE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/export.ts")).runDiff,
};
