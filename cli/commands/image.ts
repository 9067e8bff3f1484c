/**
 * The operands `IMAGE` and `PATH` of the commands that read an image.
 *
 * @module
 */
import { type ByteString, byteStringFromText, displayName } from "../../lib/bytes/byte_string.ts";
import type { InputError } from "../../lib/errors.ts";
import { INODE_NUMBER } from "../../lib/ext4/format/constants.ts";
import { type Ext4Image, openExt4Image } from "../../lib/ext4/read/image.ts";
import { faultInImage } from "../../lib/ext4/volume/judge.ts";
import { findInode, type FoundInode } from "../../lib/ext4/read/directory.ts";
import type { RecoveryReport } from "../../lib/ext4/recovery/recover.ts";
import type { RandomReader } from "../../lib/io/random_reader.ts";
import { openNamedImage } from "../../lib/source/image_file.ts";
import type { ResolvedOptions } from "../../lib/source/types.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { EXIT, safeLine } from "../errors.ts";

/** Reads REPLAY_OPTIONS, and adds the run's signal and progress. */
export function parseImageAccess(args: ParsedArguments, io: CommandIo): ResolvedOptions {
  return {
    replay: args.flag("replay"),
    externalJournal: args.value("external-journal"),
    progress: io.progress,
    signal: io.signal,
    warnings: new Warnings(),
  };
}

/** Opens an image, works on it, and always closes it. Errors about the image carry its name. */
export async function withImage<T>(
  path: string,
  access: ResolvedOptions,
  warnings: Warnings,
  work: (image: Ext4Image) => Promise<T>,
): Promise<T> {
  return await withImageReader(path, access, (reader) => {
    return work(openExt4Image(reader, { warnings }));
  });
}

/** Like `withImage`, for work that opens the image itself. It receives a report if the journal had to be replayed. */
export async function withImageReader<T>(
  path: string,
  access: ResolvedOptions,
  work: (reader: RandomReader, replay: RecoveryReport | undefined) => Promise<T>,
): Promise<T> {
  const { reader, replay } = await openNamedImage(path, access);
  try {
    return await work(reader, replay);
  } catch (error) {
    throw faultInImage(path, error);
  } finally {
    reader.close();
  }
}

/** The number in `<N>`, which is how debugfs names an inode; undefined for a path. */
export function inodeNumberOf(operand: string): number | undefined {
  const match = /^<(\d{1,10})>$/.exec(operand);
  return match === null ? undefined : Number(match[1]);
}

/** Finds the inode that the operand `PATH` names: a number in angle brackets, or a path in the image. */
export function findOperand(
  image: Ext4Image,
  operand: string,
  options: { readonly followsLast: boolean },
): FoundInode {
  const inodeNumber = inodeNumberOf(operand);
  if (inodeNumber === undefined) return findInode(image, byteStringFromText(operand), options);
  const path = inodeNumber === INODE_NUMBER.ROOT ? "" : byteStringFromText(operand);
  return { inode: image.inode(inodeNumber), path };
}

/** What could not be read and was left out under --keep-going. */
export class LeftOut {
  readonly entries: { readonly path: string; readonly why: string }[] = [];
  /** Called for each fault; undefined when the first fault is an error. */
  readonly onFault: ((path: ByteString, error: InputError) => void) | undefined;

  constructor(args: ParsedArguments) {
    if (!args.flag("keep-going")) return;
    this.onFault = (path, error) => {
      this.entries.push({ path: displayName(path), why: error.message });
    };
  }

  /** What the JSON document says about it: nothing without --keep-going. */
  get document(): { readonly leftOut?: LeftOut["entries"] } {
    return this.onFault === undefined ? {} : { leftOut: this.entries };
  }

  /** Lists what was left out and returns the exit code. */
  finish(io: CommandIo): 1 | void {
    if (this.entries.length === 0) return;
    for (const { path, why } of this.entries) {
      io.stderr.write(`blessfs: left out ${path}: ${safeLine(why)}\n`);
    }
    return EXIT.answerNo;
  }
}
