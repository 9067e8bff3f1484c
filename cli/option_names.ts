/**
 * How the options of the library are spelled on the command line. Errors of the library name an option by its key.
 *
 * @module
 */
import { LIMITS } from "../lib/bless/limits.ts";
import { type BlessfsError, differencesText, type Remedy } from "../lib/errors.ts";
import type { OptionSpec } from "./option_spec.ts";

/** Options of the library that only the environment sets. */
const VARIABLES: Readonly<Record<string, string>> = { timestamp: "SOURCE_DATE_EPOCH" };

/** A key as it is typed: `layerEntries` is `layer-entries`. */
export function kebabCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** What an error is about and what is wrong, with the option spelled as the command has it. */
export function messageOf(error: BlessfsError, options: readonly OptionSpec[]): string {
  const { option, what, why, differences } = error;
  const name = option === undefined ? undefined : nameOf(option, options);
  const list = differencesText(differences, (key) => {
    const spec = specOf(key, options);
    return spec === undefined ? VARIABLES[key] ?? key : `--${spec.name}`;
  });
  return `${name ?? what}: ${why}${list === "" ? "" : `: ${list}`}`;
}

/** The hint of an error and the options that help, if the command has them; undefined when nothing is known to help. */
export function hintOf(error: BlessfsError, options: readonly OptionSpec[]): string | undefined {
  const parts = [
    error.hint,
    ...error.remedies.map((remedy) => remedyText(remedy, options)),
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? undefined : parts.join("; ");
}

function remedyText(remedy: Remedy, options: readonly OptionSpec[]): string | undefined {
  const { option, change, value, when, to } = remedy;
  const name = nameOf(option, options);
  if (name === undefined) return undefined;
  const wanted = value ?? (isLimit(option) ? undefined : specOf(option, options)?.value);
  const advice = change === "omit"
    ? `leave out ${name}`
    : `use ${name}${wanted === undefined ? "" : ` ${wanted}`}`;
  return `${when === undefined ? "" : `${when}, `}${advice}${to === undefined ? "" : ` to ${to}`}`;
}

function nameOf(key: string, options: readonly OptionSpec[]): string | undefined {
  const spec = specOf(key, options);
  if (spec !== undefined) return `--${spec.on ? "no-" : ""}${spec.name}`;
  const hasLimits = options.some(({ name }) => name === "limit");
  if (hasLimits && isLimit(key)) return `--limit ${kebabCase(key)}=VALUE`;
  return VARIABLES[key];
}

function specOf(key: string, options: readonly OptionSpec[]): OptionSpec | undefined {
  return options.find((spec) => spec.key === key) ??
    options.find((spec) => spec.key === undefined && spec.name === kebabCase(key));
}

function isLimit(key: string): boolean {
  return LIMITS.some(({ name, isFixed }) => name === key && !isFixed);
}
