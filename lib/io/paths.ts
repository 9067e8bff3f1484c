/**
 * Checks on paths: whether one can be an output, its real name, and whether a loop device uses it.
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
 * The status of a path; undefined if nothing exists there.
 *
 * @param stat follows a link at the path, unless it is lstatSync
 * @throws {IoError} if the status cannot be read
 */
export function statIfThere(
  path: string,
  stat: (path: string) => Stats = statSync,
): Stats | undefined {
  try {
    return stat(path);
  } catch (cause) {
    const code = systemErrorFacts(cause)?.code;
    // A path below a file does not exist either.
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw ioErrorFrom(path, "cannot be accessed", cause);
  }
}

/**
 * The real path of an existing or future file, so that two names of one file compare equal. The kernel resolves `..` after
 * a link to the parent of the link's target; only the native function does so under every runtime.
 */
export function realPathOf(path: string): string {
  if (existsSync(path)) return realpathSync.native(path);
  const parent = dirname(path);
  return parent === path ? resolve(path) : join(realPathOf(parent), basename(path));
}

/** Options for checking an output. */
export interface OutputOptions {
  /** Replace an existing file. */
  readonly force?: boolean | undefined;
  /** Input files, which must not be the output. Files that do not exist are ignored. */
  readonly sourcePaths?: readonly string[] | undefined;
}

/**
 * Checks that `path` can be written as a new regular file and returns the real path to write to. For a symbolic link to a
 * file, that is the file: the link stays and its target is replaced.
 *
 * @throws UsageError if it can never be an output: a directory, a device or pipe, or one of the sources
 * @throws IoError if it exists and `force` is not set, or if its directory is missing
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

/** The error for an output that already exists and may not be replaced. */
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
  // The native function resolves `..` after a link as the kernel does, under every runtime.
  return realpathSync.native(parent);
}

/**
 * The loop device that a file is attached to, such as `/dev/loop0`; undefined if there is none or the system does not say.
 * Files attached under another name in another namespace are not found.
 *
 * @param realPath the file's path, without symbolic links
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
