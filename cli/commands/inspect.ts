/**
 * `blessfs inspect IMAGE [PATH]`.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import { openExt4Image } from "../../lib/ext4/read/image.ts";
import type { GroupInspection } from "../../lib/ext4/read/inspect_image.ts";
import { inspectImage } from "../../lib/ext4/read/inspect_image.ts";
import { inspectInode } from "../../lib/ext4/read/inspect_inode.ts";
import { findInode } from "../../lib/ext4/read/path.ts";
import { throwIfAborted } from "../../lib/errors.ts";
import type { RandomReader } from "../../lib/io/random_reader.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { parseCount } from "../values.ts";
import {
  IMAGE_OPERAND,
  inodeNumberOf,
  parseImageAccess,
  REPLAY_OPTIONS,
  STRICT_IMAGE_OPTION,
  withImageReader,
} from "./image_argument.ts";
import { groupJson, imageJson } from "./inspect_image_json.ts";
import { groupText, imageText } from "./inspect_image_text.ts";
import { inodeJson, inodeText } from "./inspect_inode_text.ts";

const DEFAULT_EXTENT_COUNT = 1000;
/** More groups than these (8 TiB) are not put into one JSON document. */
const JSON_GROUPS_MAX = 65_536;
const YIELD_AFTER_GROUPS = 256;

/** The command. */
export const inspectCommand: Command = {
  name: "inspect",
  summary: "show the superblock and groups of an ext4 image, or one of its inodes",
  examples: [
    { purpose: "Features, sizes, groups and checksums", line: "blessfs inspect image.ext4" },
    { purpose: "Where a file lies", line: "blessfs inspect image.ext4 /usr/bin/env" },
    { purpose: "An inode by its number", line: "blessfs inspect image.ext4 '<8>'" },
    {
      purpose: "One fact for a script",
      line: "blessfs inspect --json image.ext4 | jq -r .superblock.uuid",
    },
  ],
  description: [
    "What dumpe2fs and debugfs's stat show. Checksums are shown as they are stored and, where that is another number, " +
    "as they should be. A damaged structure is shown as far as it goes, with what is wrong with it; whether an image is " +
    "sound is for verify to say.",
    "With a PATH its inode is shown: symlinks on the way are followed, the last name is not.",
  ],
  positionals: [IMAGE_OPERAND, {
    name: "PATH",
    summary: "a name in the image, or <N> for an inode",
    least: 0,
    completion: "none",
  }],
  options: [
    {
      name: "max-extents",
      value: "N",
      defaultText: `${DEFAULT_EXTENT_COUNT}`,
      summary: "list at most so many extents of an inode",
    },
    ...REPLAY_OPTIONS,
    STRICT_IMAGE_OPTION,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const extents = args.value("max-extents");
  const maxRunCount = extents === undefined
    ? DEFAULT_EXTENT_COUNT
    : parseCount(extents, "--max-extents", 0, 100_000_000);
  const [operand] = args.positionals("PATH");
  const warnings = new Warnings(args.flag("strict"));
  await withImageReader(args.positional("IMAGE"), parseImageAccess(args), async (reader) => {
    if (operand === undefined) await showImage(reader, warnings, io);
    else await showInode(reader, operand, { warnings, maxRunCount }, io);
  });
}

async function showImage(reader: RandomReader, warnings: Warnings, io: CommandIo): Promise<void> {
  const inspection = inspectImage(reader);
  if (warnings.strict) openExt4Image(reader, { warnings });
  const groups: GroupInspection[] = [];
  if (!io.json) await io.stdout.write(imageText(inspection, io.style));
  let count = 0;
  for (const group of inspection.groups()) {
    if (!io.json) await io.stdout.write(groupText(group, inspection, io.style));
    else if (count < JSON_GROUPS_MAX) groups.push(group);
    else break;
    if (++count % YIELD_AFTER_GROUPS !== 0) continue;
    await setImmediate();
    throwIfAborted(io.signal);
  }
  if (!io.json) return;
  await io.writeJson({ ...imageJson(inspection), groups: groups.map(groupJson) });
}

async function showInode(
  reader: RandomReader,
  operand: string,
  options: { readonly warnings: Warnings; readonly maxRunCount: number },
  io: CommandIo,
): Promise<void> {
  const image = openExt4Image(reader, { warnings: options.warnings });
  io.warn(options.warnings.list());
  const byNumber = inodeNumberOf(operand);
  const found = byNumber === undefined
    ? findInode(image, byteStringFromText(operand), { followsLast: false })
    : undefined;
  const inspection = inspectInode(image, byNumber ?? found!.inode.number, options);
  if (io.json) await io.writeJson(inodeJson(image.name, found?.path, inspection));
  else await io.stdout.write(inodeText(found?.path, inspection, io.style));
}
