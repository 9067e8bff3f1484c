/**
 * `blessfs cat IMAGE PATH...`.
 *
 * @module
 */
import type { Ext4Image, ImageInode } from "../../lib/ext4/read/image.ts";
import { filePayload } from "../../lib/ext4/read/payload.ts";
import { InputError, throwIfAborted } from "../../lib/errors.ts";
import { readPayload } from "../../lib/model/payload.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { Command } from "../command.ts";
import { safeLine } from "../errors_output.ts";
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

const PIECE_BYTES = 1024 * 1024;

/** The command. */
export const catCommand: Command = {
  name: "cat",
  summary: "print files of an ext4 image",
  examples: [
    { purpose: "Look at a file", line: "blessfs cat image.ext4 /etc/os-release" },
    { purpose: "Take one out", line: "blessfs cat image.ext4 /usr/bin/env > env" },
  ],
  description: [
    "Symlinks are followed inside the image. Holes come out as zeros. All metadata on the way to a file is checked; a " +
    "file that is damaged is not printed.",
  ],
  positionals: [IMAGE_OPERAND, {
    name: "PATH",
    summary: "a file in the image, or <N> for an inode",
    repeated: true,
    completion: "none",
  }],
  options: [...REPLAY_OPTIONS, STRICT_IMAGE_OPTION],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const warnings = new Warnings(args.flag("strict"));
  await withImage(args.positional("IMAGE"), parseImageAccess(args), warnings, async (image) => {
    io.warn(warnings.list());
    for (const operand of args.positionals("PATH")) {
      const { inode } = findOperand(image, operand, { followsLast: true });
      if (inode.kind !== "file") {
        throw new InputError(safeLine(operand), `is a ${inode.kind}: wanted a regular file`);
      }
      await printFile(image, inode, io);
    }
  });
}

async function printFile(image: Ext4Image, inode: ImageInode, io: CommandIo): Promise<void> {
  const payload = filePayload(image, inode);
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, payload.sizeBytes));
  for (let offset = 0; offset < payload.sizeBytes; offset += PIECE_BYTES) {
    throwIfAborted(io.signal);
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, payload.sizeBytes - offset));
    readPayload(payload, piece, offset);
    await io.stdout.writeThrough(piece);
  }
}
