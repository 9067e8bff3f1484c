/**
 * What lies at a path: whether it can be an output, what its real name is, and whether a loop device uses it.
 *
 * @module
 */
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  realpathSync,
  type Stats,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { IoError, optionError, UsageError } from "../errors.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "./system_error.ts";

/**
 * What lies at a path; undefined for nothing.
 *
 * @param stat follows a link at the path, unless it is lstatSync
 * @throws {IoError} when the path cannot be looked at
 */
export function statIfThere(
  path: string,
  stat: (path: string) => Stats = statSync,
): Stats | undefined {
  try {
    return stat(path);
  } catch (cause) {
    const code = systemErrorFacts(cause)?.code;
    // Below a file there is nothing either.
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw ioErrorFrom(path, "cannot be accessed", cause);
  }
}

/**
 * The real path of what is there, or would be. Two names of one file are the same then. Of a link's `..` the kernel takes
 * the parent of what it leads to, which only the native form knows under every runtime.
 */
export function realPathOf(path: string): string {
  if (existsSync(path)) return realpathSync.native(path);
  const parent = dirname(path);
  return parent === path ? resolve(path) : join(realPathOf(parent), basename(path));
}

/** What is allowed for an output. */
export interface OutputOptions {
  /** Replace a file that is there. */
  readonly force?: boolean | undefined;
  /** Files that are read and so must not be the output. Those that do not exist are passed over. */
  readonly sourcePaths?: readonly string[] | undefined;
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
      code: "notFound",
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
      code: "notFound",
      hint: "create it first",
    });
  }
  if (!found.isDirectory()) {
    throw new IoError(displayPath(path), `${displayPath(parent)} is not a directory`);
  }
  // The native form takes `..` behind a link as the kernel does, under every runtime.
  return realpathSync.native(parent);
}

/**
 * The loop device that a file is attached to, such as `/dev/loop0`; undefined when it is not, or the system does not
 * tell. A file that another name space attached under another name is not found.
 *
 * @param realPath of the file, without symbolic links
 * @param sysBlock where the kernel lists block devices
 */
export function loopDeviceOf(realPath: string, sysBlock = "/sys/block"): string | undefined {
  let names: string[];
  try {
    names = readdirSync(sysBlock).filter((name) => /^loop\d+$/.test(name)).sort();
  } catch {
    return undefined;
  }
  return names.map((name) => [name, backingFile(join(sysBlock, name))])
    .filter(([, file]) => file === realPath)
    .map(([name]) => `/dev/${name}`)[0];
}

function backingFile(device: string): string | undefined {
  try {
    return readFileSync(join(device, "loop/backing_file"), "utf8").replace(/\n$/, "");
  } catch {
    return undefined;
  }
}
