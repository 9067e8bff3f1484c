/**
 * Text for people: columns, and colours, which are decided for each stream separately.
 *
 * @module
 */

/** Marks parts of a text. Without colour, every function returns its argument unchanged. */
export interface Style {
  readonly isColoured: boolean;
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

export type ColourChoice = "auto" | "always" | "never";

export function styleOf(isColoured: boolean): Style {
  // ECMA-48, 8.3.117 (SGR): one code begins each rendition and another ends it.
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
 * Whether a stream is coloured. The option takes precedence, then NO_COLOR (any non-empty value), FORCE_COLOR (anything
 * but `0` and `false`), TERM=dumb, and finally whether it is a terminal.
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

/** Breaks text into lines of at most `columns`; a longer word gets a line of its own. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  if (line !== "") lines.push(line);
  return lines;
}

export function paragraph(text: string, columns: number, indent = 0): string[] {
  return wrap(text, columns - indent).map((line) => " ".repeat(indent) + line);
}

/**
 * Two columns: terms and their wrapped meanings. A term that is too wide gets a line of its own.
 *
 * @param termColumns where the second column begins, counted from the indent
 */
export function definitions(
  entries: readonly (readonly [term: string, meaning: string])[],
  columns: number,
  indent = 2,
  termColumns = Math.min(Math.max(...entries.map(([term]) => term.length)) + 2, 28),
): string[] {
  const margin = " ".repeat(indent);
  return entries.flatMap(([term, meaning]) => {
    const lines = wrap(meaning, columns - indent - termColumns);
    const rest = lines.map((line) => margin + " ".repeat(termColumns) + line);
    if (term.length + 2 > termColumns) return [margin + term, ...rest];
    return [(margin + term.padEnd(termColumns) + (lines[0] ?? "")).trimEnd(), ...rest.slice(1)];
  });
}

/** Labels and values; rows without a value are not shown. */
export type Rows = readonly (readonly [label: string, value: string | undefined])[];

/** Lines of labels and values, with the values aligned in one column. */
export function aligned(rows: Rows): string {
  const shown = rows.filter(([, value]) => value !== undefined);
  const columns = Math.max(...shown.map(([label]) => label.length)) + 2;
  return shown.map(([label, value]) => `${label.padEnd(columns)}${value}\n`).join("");
}

export function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}
