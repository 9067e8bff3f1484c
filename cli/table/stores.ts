/**
 * The commands of chunk stores, besides `chunk`.
 *
 * @module
 */
import { type Command, JSON_OPTION, type OptionSpec } from "../command.ts";
import { forceOption, outputOption, STORE_OPTION } from "./options.ts";

const STORE: OptionSpec = {
  ...STORE_OPTION,
  required: true,
  summary: "the chunk store: a directory, or s3+https://HOST/BUCKET/PREFIX",
};

/** `blessfs restore`. */
export const RESTORE: Command = {
  name: "restore",
  summary: "get an image back from a chunk store",
  examples: [
    ["Restore an image", "blessfs restore vm.caibx --store /srv/chunks -o vm.ext4"],
    [
      "Fetch only what an older image does not have",
      "blessfs restore b.caibx --store s3+https://host/vm -o b.ext4 --seed a.ext4",
    ],
    ["Write it onto a disk", "blessfs restore vm.caibx --store /srv/chunks -o /dev/vdb"],
  ],
  description: [
    "Every chunk is checked by its digest. Chunks of zeros are holes. Indexes of casync and desync are restored as well.",
    "An interrupted restore keeps what it has in OUTPUT.restoring; the same command goes on there. A block device is read " +
    "first, and only what differs is written.",
  ],
  positionals: [{
    name: "INDEX",
    summary: "a .caibx file, or - for standard input",
    completion: "file",
  }],
  options: [
    STORE,
    outputOption({
      value: "IMAGE|DEVICE",
      required: true,
      summary: "the file or block device to write",
    }),
    {
      name: "seed",
      value: "IMAGE",
      list: true,
      completion: "file",
      summary: "take equal chunks from this file, such as an older image, and not from the store",
    },
    forceOption(),
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/stores.ts")).runRestore,
};

/** `blessfs prune`. */
export const PRUNE: Command = {
  name: "prune",
  summary: "remove chunks from a store that no index names",
  examples: [
    ["Keep two images", "blessfs prune vm-1.caibx vm-2.caibx --store /srv/chunks"],
    ["Ask what would go", "blessfs prune *.caibx --store /srv/chunks --dry-run"],
  ],
  description: [
    "All indexes whose images shall stay must be named. Writers of blessfs wait while a store is pruned, and a store that " +
    "is being written to is not pruned; chunks of other programs are safe for the grace period. A run that was killed leaves a " +
    "mark below .blessfs in the store: the next run on the same host removes it, for others it counts for a day.",
  ],
  positionals: [{
    name: "INDEX",
    summary: "the .caibx files of all images to keep",
    repeated: true,
    completion: "file",
  }],
  options: [
    STORE,
    {
      name: "grace",
      value: "TIME",
      defaultText: "24h",
      summary: "keep chunks that were stored less than this ago: 30m, 24h, 7d",
    },
    { name: "dry-run", summary: "remove nothing, and report what would be removed" },
    JSON_OPTION,
  ],
  load: async () => (await import("../commands/stores.ts")).runPrune,
};

/** `blessfs store verify`. */
export const STORE_VERIFY: Command = {
  name: "store verify",
  summary: "read every chunk of a store and check its digest",
  examples: [["Check a store", "blessfs store verify --store /srv/chunks"]],
  description: ["Exits with 1 if a chunk is damaged. Nothing is changed."],
  positionals: [],
  options: [STORE, JSON_OPTION],
  load: async () => (await import("../commands/stores.ts")).runVerify,
};
