/**
 * `blessfs ls IMAGE [PATH]`.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import type { Ext4Image } from "../../lib/ext4/read/image.ts";
import { listNames } from "../../lib/ext4/read/listing.ts";
import type { FoundInode } from "../../lib/ext4/read/path.ts";
import { throwIfAborted } from "../../lib/errors.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import {
  findOperand,
  IMAGE_OPERAND,
  parseImageAccess,
  REPLAY_OPTIONS,
  STRICT_IMAGE_OPTION,
  withImage,
} from "./image_argument.ts";
import { listedEntry, longLine, shortName } from "./ls_entry.ts";

const YIELD_AFTER_NAMES = 256;

/** The command. */
export const lsCommand: Command = {
  name: "ls",
  summary: "list files of an ext4 image",
  examples: [
    { purpose: "List the root", line: "blessfs ls image.ext4" },
    { purpose: "Everything below a directory, at length", line: "blessfs ls -lR image.ext4 /usr" },
    { purpose: "All of it for a script", line: "blessfs ls --recursive --json image.ext4" },
  ],
  description: [
    "Names come in byte order, one a line, with --recursive as paths from the root. Bytes that are not UTF-8 and " +
    "control characters are shown as \\xNN. A long line has inode, mode, links, owner, group, size (of a device its " +
    "numbers), time of modification in UTC, and name.",
    "A PATH that is a symlink is followed, unless --directory is given.",
  ],
  positionals: [IMAGE_OPERAND, {
    name: "PATH",
    summary: "a name in the image, or <N> for an inode; the root when left out",
    least: 0,
    completion: "none",
  }],
  options: [
    { name: "long", short: "l", summary: "show what the inodes say" },
    { name: "recursive", short: "R", summary: "list what is below directories as well" },
    { name: "directory", short: "d", summary: "list a directory or symlink itself" },
    ...REPLAY_OPTIONS,
    STRICT_IMAGE_OPTION,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const imagePath = args.positional("IMAGE");
  const warnings = new Warnings(args.flag("strict"));
  await withImage(imagePath, parseImageAccess(args), warnings, async (image) => {
    io.warn(warnings.list());
    const itself = args.flag("directory");
    const start = findOperand(image, args.positionals("PATH")[0] ?? "/", { followsLast: !itself });
    const recursive = args.flag("recursive");
    const isListed = start.inode.kind === "directory" && !itself;
    const names = isListed ? listNames(image, start, { recursive }) : [start];
    if (io.json) {
      const entries: ReturnType<typeof listedEntry>[] = [];
      await forEachName(names, io, (name) => void entries.push(listedEntry(image, name)));
      await io.writeJson({ image: imagePath, entries, warnings: warnings.list() });
      return;
    }
    const isWhole = recursive || !isListed;
    const lineOf = args.flag("long") ? longLine : shortLine;
    await forEachName(names, io, (name) => io.stdout.write(lineOf(image, name, isWhole)));
  });
}

function shortLine(_image: Ext4Image, found: FoundInode, isWhole: boolean): string {
  return `${shortName(found, isWhole)}\n`;
}

async function forEachName(
  names: Iterable<FoundInode>,
  io: CommandIo,
  take: (name: FoundInode) => void | Promise<void>,
): Promise<void> {
  let count = 0;
  for (const name of names) {
    await take(name);
    if (++count % YIELD_AFTER_NAMES !== 0) continue;
    await setImmediate();
    throwIfAborted(io.signal);
  }
}
