/**
 * Whether a name can be an output, checked before any work is done.
 *
 * @module
 */
import { lstatSync, realpathSync } from "node:fs";
import type { Stats } from "node:fs";
import { basename, dirname, join } from "node:path";
import { IoError, optionError, UsageError } from "../errors.ts";
import { statIfThere } from "./stat_if_there.ts";
import { displayPath } from "./system_error.ts";

/** What is allowed for an output. */
export interface OutputOptions {
  /** Replace a file that is there. */
  readonly force?: boolean;
  /** Files that are read and so must not be the output. Those that do not exist are passed over. */
  readonly sourcePaths?: readonly string[];
}

/**
 * Checks that `path` can be written as a new regular file and returns the real path to write to.
 * A symbolic link to a file stands for that file: the link stays and the file it names is replaced.
 *
 * @throws UsageError when it can never be an output: a directory, a device or pipe, or one of the sources
 * @throws IoError when it exists and `force` is not set, or when its directory is missing
 */
export function checkOutput(path: string, options: OutputOptions = {}): string {
  const shown = displayPath(path);
  if (path === "") throw optionError("output", "the name is empty");
  if (path.endsWith("/")) throw directoryError(shown);
  const found = statIfThere(path, lstatSync);
  if (found === undefined) return join(checkedParent(path), basename(path));
  if (!found.isSymbolicLink()) {
    checkExisting(shown, found, options);
    return join(checkedParent(path), basename(path));
  }
  const target = statIfThere(path);
  if (target === undefined) {
    throw new IoError(shown, "is a symbolic link to nothing", {
      hint: "remove the link, or name its target",
    });
  }
  checkExisting(shown, target, options);
  return realpathSync.native(path);
}

/** The error of an output that is already there and may not be replaced. */
export function outputExistsError(shownPath: string): IoError {
  return new IoError(shownPath, "already exists", {
    remedies: [{ option: "force", change: "set", to: "replace it" }],
    data: { path: shownPath, code: "EEXIST" },
  });
}

function checkExisting(shown: string, found: Stats, options: OutputOptions): void {
  if (found.isDirectory()) throw directoryError(shown);
  if (!found.isFile()) {
    throw new UsageError(shown, `is ${kindOf(found)}: wanted the name of a regular file`, {
      remedies: [{
        option: "output",
        change: "set",
        value: "-",
        to: "write it there as a stream",
      }],
    });
  }
  for (const source of options.sourcePaths ?? []) {
    const other = statIfThere(source);
    if (other !== undefined && other.dev === found.dev && other.ino === found.ino) {
      throw new UsageError(shown, "is the source too: the output must be another file");
    }
  }
  if (options.force !== true) throw outputExistsError(shown);
}

function directoryError(shown: string): UsageError {
  return new UsageError(shown, "is a directory: wanted the name of a file", {
    hint: `name a file in it, such as ${shown.replace(/\/*$/, "/")}image.ext4`,
  });
}

function kindOf(found: Stats): string {
  if (found.isBlockDevice()) return "a block device";
  if (found.isCharacterDevice()) return "a character device";
  if (found.isFIFO()) return "a pipe";
  return "a socket";
}

function checkedParent(path: string): string {
  const parent = dirname(path);
  const found = statIfThere(parent);
  if (found === undefined) {
    throw new IoError(displayPath(path), `the directory ${displayPath(parent)} does not exist`, {
      hint: "create it first",
    });
  }
  if (!found.isDirectory()) {
    throw new IoError(displayPath(path), `${displayPath(parent)} is not a directory`);
  }
  // The native form takes `..` behind a link as the kernel does, under every runtime.
  return realpathSync.native(parent);
}
