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
  {
    name: "exclude",
    key: "additions",
    value: "PATTERN",
    list: true,
    whole: true,
    summary:
      "leave out what matches, of the image and of what was added before: a path of the image with the wildcards and the ! " +
      "of .dockerignore files",
  },
  ...["uid", "gid"].map((kind): OptionSpec => ({
    name: `${kind}-map`,
    value: "FROM:TO:COUNT",
    list: true,
    whole: true,
    summary:
      `map the ${kind}s from FROM on to those from TO on, COUNT of them; repeated for more. All must be mapped`,
  })),
];

/** Those that are done in the order that they are given in. */
export const ADDITION_NAMES: readonly string[] = ["add", "add-tar", "exclude"];
