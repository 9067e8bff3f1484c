/**
 * The output directory, and small files in it.
 *
 * @module
 */
import { mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { dirname } from "node:path";
import { IoError, UsageError } from "../errors.ts";
import { createFileSink } from "../io/file_sink.ts";
import { statIfThere } from "../io/paths.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../io/system_error.ts";

/**
 * Checks that a directory is there or can be made.
 *
 * @returns whether it is still to be made
 * @throws {UsageError} when it can never be one
 * @throws {IoError} when what is above it is missing
 */
export function checkDirectory(path: string): boolean {
  if (path === "") throw new UsageError("output", "the name is empty");
  const shown = displayPath(path);
  const found = statIfThere(path);
  if (found?.isDirectory()) return false;
  if (found) throw new UsageError(shown, "is no directory: wanted one for the layers' images");
  const parent = dirname(path);
  if (statIfThere(parent)?.isDirectory()) return true;
  throw new IoError(shown, `the directory ${displayPath(parent)} does not exist`, {
    hint: "create it first",
  });
}

/**
 * Makes a directory, unless another process has just done so.
 *
 * @returns whether it was made here
 * @throws {IoError} when it cannot be made
 */
export function makeDirectory(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch (cause) {
    if (systemErrorFacts(cause)?.code === "EEXIST" && statIfThere(path)?.isDirectory()) {
      return false;
    }
    throw ioErrorFrom(path, "cannot be created", cause);
  }
}

/** The path of a name in a directory. Not shortened as join() does it: what `..` behind a link is, the kernel says. */
export function pathIn(directory: string, name: string): string {
  return directory.endsWith("/") ? `${directory}${name}` : `${directory}/${name}`;
}

/** Takes a directory away again unless something is in it. */
export function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Whole images stay; and the error that led here is the one to tell.
  }
}

/** @throws {IoError} when the file cannot be read */
export function readFileWhole(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be read", cause);
  }
}

/**
 * Writes a small file so that it has its name when it is whole, and replaces what is there.
 *
 * @throws {IoError} when it cannot be written
 */
export async function writeFileWhole(
  path: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const sink = createFileSink(path, { force: true, ...signal === undefined ? {} : { signal } });
  try {
    await sink.write(bytes, 0);
    await sink.finish(bytes.length);
  } catch (error) {
    await sink.abort();
    throw error;
  }
}
