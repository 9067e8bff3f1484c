/**
 * What an option and an operand say about themselves.
 *
 * @module
 */

/** What a shell offers for a value. */
export type Completion = "file" | "directory" | "source" | "command" | "none";

/** One option. */
export interface OptionSpec {
  /** The name without dashes. */
  readonly name: string;
  /** Its key in the options of the library, which errors name; the name in camel case when left out. */
  readonly key?: string;
  /** One letter. */
  readonly short?: string;
  /** What stands for the value in the help, such as `SIZE`; an option without it is a flag. */
  readonly value?: string;
  /** One or two sentences, without a final stop. */
  readonly summary: string;
  /** The words that are possible. Others are refused, unless `open` is set. */
  readonly choices?: readonly string[];
  /** `choices` are only some of the possible values. */
  readonly open?: boolean;
  /** What holds when it is not given, for the help; the command itself applies it. */
  readonly defaultText?: string;
  /** Several values: repeated or with commas between. */
  readonly list?: boolean;
  /** A flag that is on unless `--no-NAME` is given. */
  readonly on?: boolean;
  readonly required?: boolean;
  readonly completion?: Completion;
}

/** One operand. */
export interface PositionalSpec {
  /** In capitals, such as `SOURCE`. */
  readonly name: string;
  readonly summary: string;
  readonly completion?: Completion;
  /** How many are needed; 1 when left out, 0 for one that may be missing. */
  readonly least?: number;
  /** Takes all that follow. Only the last one may. */
  readonly repeated?: boolean;
  /** The words that are possible. */
  readonly choices?: readonly string[];
}
