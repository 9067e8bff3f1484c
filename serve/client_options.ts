/**
 * Which options of `bless` clients may set. On its own, so that the table of commands loads nothing else of the server.
 *
 * @module
 */

/**
 * Options that only decide what the image is. Those that name files of this machine, lift limits or say where things go are
 * the server's own.
 */
export const CLIENT_OPTIONS: readonly string[] = [
  "align-threshold",
  "backups",
  "chunker",
  "compat",
  "grid",
  "ignore-diffid",
  "ignore-zeros",
  "inline-data",
  "inodes",
  "journal",
  "label",
  "metadata-csum",
  "packing",
  "platform",
  "reserved",
  "size",
  "strict",
  "uuid",
  "verity",
];

/** Where clients have fewer choices than the command line: a client names no file here, and the server keeps one an image. */
export const CLIENT_CHOICES: Readonly<Record<string, readonly string[]>> = { verity: ["append"] };
