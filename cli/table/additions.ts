/**
 * The options that put something on top of a source.
 *
 * @module
 */
import type { OptionSpec } from "../command.ts";

/** What becomes one more layer. */
export const ADDITION_OPTIONS: readonly OptionSpec[] = [
  {
    name: "add",
    key: "additions",
    value: "HOST:GUEST[:mode=MODE,uid=UID,gid=GID]",
    list: true,
    whole: true,
    completion: "file",
    summary:
      "add a file of this machine, or what is in a directory, at the path GUEST of the image; a file lands inside of a " +
      "directory that ends with a slash. Owner and group are 0 and modes are those of HOST if they are not given",
  },
  {
    name: "add-tar",
    key: "additions",
    value: "TAR",
    list: true,
    whole: true,
    completion: "file",
    summary: "apply a tar on top by the rules of layers, whiteouts included",
  },
];

/** Their names. */
export const ADDITION_NAMES: readonly string[] = ADDITION_OPTIONS.map(({ name }) => name);
