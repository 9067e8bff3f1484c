/**
 * What a command gets of its command line.
 *
 * @module
 */
import { invariant } from "../lib/errors.ts";
import type { OptionSpec } from "./option_spec.ts";

/** The arguments of one command, checked against its table. Names that the table has not are a fault of the program. */
export class ParsedArguments {
  readonly #options: ReadonlyMap<string, OptionSpec>;
  readonly #flags: ReadonlyMap<string, boolean>;
  readonly #values: ReadonlyMap<string, readonly string[]>;
  readonly #positionals: ReadonlyMap<string, readonly string[]>;

  constructor(
    options: readonly OptionSpec[],
    flags: ReadonlyMap<string, boolean>,
    values: ReadonlyMap<string, readonly string[]>,
    positionals: ReadonlyMap<string, readonly string[]>,
  ) {
    this.#options = new Map(options.map((option) => [option.name, option]));
    this.#flags = flags;
    this.#values = values;
    this.#positionals = positionals;
  }

  /** Whether a flag is on. */
  flag(name: string): boolean {
    const option = this.#options.get(name);
    invariant(option !== undefined && option.value === undefined, `flag --${name} is in the table`);
    return this.#flags.get(name) ?? option.on ?? false;
  }

  /** The value of an option; undefined when it was not given. */
  value(name: string): string | undefined {
    const option = this.#options.get(name);
    invariant(option?.value !== undefined && !option.list, `option --${name} is in the table`);
    return this.#values.get(name)?.[0];
  }

  /** The values of an option that takes a list; undefined when it was not given. */
  values(name: string): readonly string[] | undefined {
    invariant(this.#options.get(name)?.list === true, `list --${name} is in the table`);
    return this.#values.get(name);
  }

  /** An operand that is there once. */
  positional(name: string): string {
    const [value] = this.positionals(name);
    invariant(value !== undefined, `operand ${name} was checked`);
    return value;
  }

  /** All operands of a name; none when it may be missing and is. */
  positionals(name: string): readonly string[] {
    const found = this.#positionals.get(name);
    invariant(found !== undefined, `operand ${name} is in the table`);
    return found;
  }
}
