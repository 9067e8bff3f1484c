/**
 * Colours, decided for each stream by itself.
 *
 * @module
 */

/** Marks parts of a text. Without colour every function gives back what it got. */
export interface Style {
  readonly isColoured: boolean;
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

/** What `--color` says. */
export type ColourChoice = "auto" | "always" | "never";

/** The styles of a stream that is coloured or not. */
export function styleOf(isColoured: boolean): Style {
  // ECMA-48, 8.3.117 (SGR): a code to begin and one to end each rendition.
  const mark = (begin: number, end: number) => (text: string) =>
    isColoured ? `\x1b[${begin}m${text}\x1b[${end}m` : text;
  return {
    isColoured,
    bold: mark(1, 22),
    dim: mark(2, 22),
    red: mark(31, 39),
    green: mark(32, 39),
    yellow: mark(33, 39),
    cyan: mark(36, 39),
  };
}

/**
 * Whether a stream is coloured. The option counts first, then NO_COLOR (any value but an empty one), FORCE_COLOR
 * (anything but `0` and `false`), TERM=dumb, and at last whether it is a terminal.
 */
export function isColoured(
  choice: ColourChoice,
  env: Readonly<Record<string, string | undefined>>,
  isTerminal: boolean,
): boolean {
  if (choice !== "auto") return choice === "always";
  if (env["NO_COLOR"]) return false;
  const force = env["FORCE_COLOR"];
  if (force !== undefined) return force !== "0" && force !== "false";
  return isTerminal && env["TERM"] !== "dumb";
}
