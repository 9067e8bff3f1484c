/**
 * Looking whether something is there.
 *
 * @module
 */
import { type Stats, statSync } from "node:fs";
import { ioErrorFrom, systemErrorFacts } from "./system_error.ts";

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
    if (systemErrorFacts(cause)?.code === "ENOENT") return undefined;
    throw ioErrorFrom(path, undefined, cause);
  }
}
