/**
 * `--limit NAME=VALUE`: what a source may ask, where the usual bounds are too narrow or too wide.
 *
 * @module
 */
import { type LimitKey, limitOptions, LIMITS } from "../lib/bless/limits.ts";
import { UsageError } from "../lib/errors.ts";
import type { SourceOptions } from "../lib/source/source.ts";
import { kebabCase } from "./option_names.ts";
import type { OptionSpec } from "./option_spec.ts";
import { safeLine } from "./errors_output.ts";
import { parseSize } from "./sizes.ts";
import { choiceError, parseCount } from "./values.ts";

const RAISABLE = LIMITS.filter(({ isFixed }) => !isFixed);
const NAMES = RAISABLE.map(({ name }) => kebabCase(name));

/** The option. */
export const LIMIT_OPTION: OptionSpec = {
  name: "limit",
  value: "NAME=VALUE",
  list: true,
  choices: NAMES.map((name) => `${name}=`),
  open: true,
  summary: "allow the source more, or less, than is usual; docs/LIMITS.md has the names: " +
    "layers, layer-entries, unpacked-bytes, unpacked-ratio and so on",
};

/**
 * Reads the values of the option.
 *
 * @throws UsageError for a name that there is not, one that is given twice, or a value that cannot be read
 */
export function parseLimits(
  texts: readonly string[],
): Pick<SourceOptions, "limits" | "tarLimits" | "treeLimits"> {
  const values = new Map<LimitKey, number>();
  for (const text of texts) {
    const [name = "", value, ...more] = text.split("=");
    const fact = RAISABLE[NAMES.indexOf(name)];
    if (fact === undefined) {
      throw choiceError(
        safeLine(name),
        "--limit",
        "NAME=VALUE with one of the names in docs/LIMITS.md",
        NAMES,
      );
    }
    if (value === undefined || more.length > 0) {
      throw new UsageError("--limit", `\`${safeLine(text)}\`: wanted ${name}=VALUE`);
    }
    if (values.has(fact.name)) throw new UsageError("--limit", `${name} is given more than once`);
    const what = `--limit ${name}`;
    values.set(
      fact.name,
      fact.unit === "bytes" ? parseSize(value, what) : parseCount(value, what, 0),
    );
  }
  return values.size === 0 ? {} : limitOptions(values);
}
