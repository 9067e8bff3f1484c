/**
 * The commands of chunk stores.
 *
 * @module
 */
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { command, examples, JSON_OPTION, operand, option, type OptionSpec } from "../command.ts";
import { sizeOption } from "../values.ts";
import { CERTIFICATE_OPTIONS, CHUNK_OPTIONS, forceOption, STORE_OPTION } from "./options.ts";

const STORE: OptionSpec = {
  ...STORE_OPTION,
  required: true,
  summary: "the chunk store: a directory, or s3+https://HOST/BUCKET/PREFIX",
};

export const CHUNK = command({
  name: "chunk",
  summary: "put an existing image into a chunk store for casync and desync",
  examples: examples(`
    # Put an image into a store in a directory
    blessfs chunk python.ext4 --store /srv/chunks -o python.caibx
    # Put it into a bucket
    blessfs chunk vm.ext4 --store s3+https://host/bucket/chunks -o vm.caibx
    # Check how much of an image is new
    blessfs chunk python.ext4 --store /srv/chunks --dry-run
  `),
  description: [
    "The index is byte for byte that of `casync make --chunk-size=131072:131072:131072`. Chunks are stored as casync and " +
    "desync store them, each once. The index appears when all of them are in the store.",
    "`casync extract --store=http://host/chunks FILE.caibx IMAGE` and `desync extract -s STORE FILE.caibx IMAGE` restore " +
    "the image; `desync mount-index -s STORE FILE.caibx DIR` shows it and fetches only what is read.",
    "Several hosts can write to a store at the same time.",
  ],
  positionals: [operand("IMAGE", "a file or a block device, or - for standard input")],
  options: () => [
    { ...STORE_OPTION, required: true },
    option(
      "-o, --output FILE.caibx",
      "the index to make; - writes it to standard output; optional with --dry-run",
    ),
    option("--grid SIZE", "chunk size: the grid that the image was made for", {
      key: "chunkBytes",
      default: sizeOption(MERGED_DEFAULTS.gridBytes),
    }),
    forceOption("replace an existing index"),
    ...CHUNK_OPTIONS,
    ...CERTIFICATE_OPTIONS,
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/chunk.ts")).run,
});

export const RESTORE = command({
  name: "restore",
  summary: "get an image back from a chunk store",
  examples: examples(`
    # Restore an image
    blessfs restore vm.caibx --store /srv/chunks -o vm.ext4
    # Fetch only what is not in an older image
    blessfs restore b.caibx --store s3+https://host/vm -o b.ext4 --seed a.ext4
    # Write it to a disk
    blessfs restore vm.caibx --store /srv/chunks -o /dev/vdb
  `),
  description: [
    "Every chunk is checked against its digest. Chunks of zeros become holes. Indexes made by casync and desync can be " +
    "restored as well.",
    "An interrupted restore leaves OUTPUT.restoring, and the same command resumes it. A block device is read first, and " +
    "only what differs is written.",
  ],
  positionals: [operand("INDEX", "a .caibx file, or - for standard input")],
  options: () => [
    STORE,
    option("-o, --output IMAGE|DEVICE", "the file or block device to write", { required: true }),
    option(
      "--seed IMAGE,...",
      "copy chunks that this file has, such as an older image, instead of fetching them",
    ),
    forceOption(),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/stores.ts")).runRestore,
});

export const PRUNE = command({
  name: "prune",
  summary: "remove chunks that no index uses from a store",
  examples: examples(`
    # Keep two images
    blessfs prune vm-1.caibx vm-2.caibx --store /srv/chunks
    # See what would be removed
    blessfs prune *.caibx --store /srv/chunks --dry-run
  `),
  description: [
    "Name the indexes of all images that you want to keep. While a store is pruned, blessfs writers wait, and a store that " +
    "is being written to is not pruned; the grace period protects chunks of other programs. A run that was killed leaves a " +
    "lock below .blessfs in the store: the next run on the same host removes it, and other hosts ignore it after a day.",
  ],
  positionals: [operand("INDEX...", "the .caibx files of all images to keep")],
  options: () => [
    STORE,
    option("--grace TIME", "keep chunks stored less than this long ago, such as 30m, 24h or 7d", {
      default: "24h",
    }),
    option("--dry-run", "remove nothing, only report what would be removed"),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/stores.ts")).runPrune,
});

export const STORE_VERIFY = command({
  name: "store verify",
  summary: "read every chunk of a store and check its digest",
  examples: examples(`
    # Check a store
    blessfs store verify --store /srv/chunks
  `),
  description: ["The exit code is 1 if a chunk is damaged. Nothing is changed."],
  positionals: [],
  options: () => [STORE, JSON_OPTION],
  load: async () => (await import("../commands/stores.ts")).runVerify,
});
