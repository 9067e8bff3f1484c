/**
 * The errors that callers have to expect. Each class is one category of exit codes, each code one reason; the message is always
 * `WHAT: WHY`, with the path or offset, the found and the wanted value in it. Anything else that is thrown is a fault of the
 * program itself.
 *
 * @module
 */

/** Every code of an error, with its meaning. docs/ERRORS.md is held to it. */
export const ERROR_CODES = {
  invalidOption: "An option, or an argument, has an invalid value, or does not go with another.",
  alreadyExists: "Something is there already, and replacing it was not asked for.",
  ambiguous: "Several things fit, such as the images of an archive, and none was chosen.",
  changed: "The input changed while it was read.",
  closedPipe: "The reader of the output went away.",
  damaged: "The input contradicts itself, its checksums or the rules of its format.",
  digestMismatch: "The input is another one than its digest says.",
  doesNotFit: "The content does not fit into the size or the format.",
  inUse: "The input or the output is in use, or was not closed properly.",
  interrupted: "The signal was aborted; `cause` is its reason.",
  ioFailed: "The system or the device failed for another reason: see `data.code`.",
  limitExceeded: "The input goes beyond a limit; `data.limit` names one that can be raised.",
  missingPart: "The input lacks a part that it names: a blob, a layer, a chunk.",
  missingProgram: "A program that is needed is not installed or cannot be run.",
  noSpace: "The disk, a quota or the store is full.",
  notFound: "There is no such file, image, platform, partition or inode.",
  notStorable: "ext4 or a layer cannot hold what the input has.",
  permissionDenied: "The operating system refuses access.",
  platformMismatch: "The image is for another platform.",
  refused: "A server refuses access, or the request.",
  rejectedWarning: "A warning, where `strict` makes warnings errors; `data.kind` is its kind.",
  tooManyOpenFiles: "The process or the system has no more file descriptors.",
  unreachable: "A server gives no answer, breaks off, or cannot answer now.",
  unsupported: "The input is sound but uses something that is not supported.",
  wrongKind: "The input is something else than what was wanted.",
} as const;

/** Why something failed. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** Errors of the operating system that have codes of their own. */
const CODES_BY_SYSTEM: Readonly<Record<string, ErrorCode>> = {
  EACCES: "permissionDenied",
  EDQUOT: "noSpace",
  EEXIST: "alreadyExists",
  EFBIG: "noSpace",
  EMFILE: "tooManyOpenFiles",
  ENFILE: "tooManyOpenFiles",
  ENOENT: "notFound",
  ENOSPC: "noSpace",
  ENOTDIR: "notFound",
  EPERM: "permissionDenied",
  EPIPE: "closedPipe",
  EROFS: "permissionDenied",
};

const CODES_BY_CATEGORY = {
  usage: "invalidOption",
  input: "damaged",
  io: "ioFailed",
  interrupted: "interrupted",
} as const;

/** What an error may carry beside its message. */
export interface ErrorDetails {
  /** Why; by default `invalidOption`, `damaged`, `interrupted`, or what the system's code means. */
  readonly code?: ErrorCode | undefined;
  /** One sentence that says what the user can do. It names no option: that is what `remedies` are for. */
  readonly hint?: string | undefined;
  /** The key of the option at fault in the options of the call, such as `gridBytes`. */
  readonly option?: string | undefined;
  /** Options that help. */
  readonly remedies?: readonly Remedy[] | undefined;
  /** Options whose values differ from the wanted ones; the message ends with them. */
  readonly differences?: readonly OptionDifference[] | undefined;
  /** Machine-readable facts for `--json`: path, offset, expected, actual. */
  readonly data?: Readonly<Record<string, string | number | boolean | null>> | undefined;
  /** The error that caused this one. */
  readonly cause?: unknown;
}

/** An option that makes the call succeed when it is set, or left out. */
export interface Remedy {
  /** Its key in the options of the call, such as `plainHttp`, or the key of a limit, such as `layerEntries`. */
  readonly option: string;
  /** What to do with it. */
  readonly change: "set" | "omit";
  /** A value to set it to, where there is one to suggest. */
  readonly value?: string | undefined;
  /** The condition, such as `if the registry has no TLS`. */
  readonly when?: string | undefined;
  /** The purpose, such as `replace it`. */
  readonly to?: string | undefined;
}

/** An option that was found with one value and wanted with another. */
export interface OptionDifference {
  /** Its key in the options of the call, such as `gridBytes`. */
  readonly option: string;
  /** Its value, as text. */
  readonly found: string;
  /** The value that was wanted, as text. */
  readonly wanted: string;
}

/** Base of every expected error. `category` picks the exit code. */
export abstract class BlessfsError extends Error {
  /** What kind of failure it is; the command line derives its exit code from it. */
  abstract readonly category: "usage" | "input" | "io" | "interrupted";
  readonly #code: ErrorCode | undefined;
  /** What the error is about: a path, a place in a file, or an option. */
  readonly what: string;
  /** What is wrong with it. */
  readonly why: string;
  /** What the user can do, where there is something. */
  readonly hint: string | undefined;
  /** The key of the option at fault. */
  readonly option: string | undefined;
  /** Options that help. */
  readonly remedies: readonly Remedy[];
  /** Options whose values differ from the wanted ones. */
  readonly differences: readonly OptionDifference[];
  /** Facts about the failure, for programs. */
  readonly data: Readonly<Record<string, string | number | boolean | null>>;

  /** The message becomes `WHAT: WHY`. */
  constructor(what: string, why: string, details: ErrorDetails = {}) {
    const differences = details.differences ?? [];
    const shown = differences.length === 0 ? "" : `: ${differencesText(differences, (key) => key)}`;
    super(
      `${what}: ${why}${shown}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.#code = details.code;
    this.what = what;
    this.why = why;
    this.hint = details.hint;
    this.option = details.option;
    this.remedies = details.remedies ?? [];
    this.differences = differences;
    this.data = details.data ?? {};
  }

  /** Why, for programs: the meaning of each is in `ERROR_CODES`. */
  get code(): ErrorCode {
    const { category, data, cause } = this;
    const system = data["code"] ?? (cause as { readonly code?: unknown } | undefined)?.code;
    const known = category === "io" && CODES_BY_SYSTEM[String(system)];
    return this.#code ?? (known || CODES_BY_CATEGORY[category]);
  }
}

/** The command line is wrong, or an option has an invalid value. */
export class UsageError extends BlessfsError {
  /** Always `UsageError`, however a bundler calls the class. */
  override readonly name: string = "UsageError";
  /** Always `usage`. */
  readonly category = "usage";
}

/** The input is damaged, unsupported or not what it says it is. */
export class InputError extends BlessfsError {
  /** Always `InputError`, however a bundler calls the class. */
  override readonly name: string = "InputError";
  /** Always `input`. */
  readonly category = "input";
}

/** Reading or writing failed: a full disk, a missing permission, a network fault. */
export class IoError extends BlessfsError {
  /** Always `IoError`, however a bundler calls the class. */
  override readonly name: string = "IoError";
  /** Always `io`. */
  readonly category = "io";
}

/** The work was interrupted (SIGINT, SIGTERM, an aborted signal). */
export class InterruptedError extends BlessfsError {
  /** Always `InterruptedError`, however a bundler calls the class. */
  override readonly name: string = "InterruptedError";
  /** Always `interrupted`. */
  readonly category = "interrupted";
}

/**
 * The error for an option with an invalid value.
 *
 * @param option its key in the options of the call, such as `gridBytes`
 * @param why what was wanted and found
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { optionError } from "./errors.ts";
 * const error = optionError("gridBytes", "wanted a power of two, found 5000");
 * assertEquals(error.message, "gridBytes: wanted a power of two, found 5000");
 * assertEquals(error.option, "gridBytes");
 * ```
 */
export function optionError(option: string, why: string, details: ErrorDetails = {}): UsageError {
  return new UsageError(option, why, { ...details, option });
}

/** Differences as the end of a message: `gridBytes 65536 (wanted 131072), label "x" (wanted "")`. */
export function differencesText(
  differences: readonly OptionDifference[],
  nameOf: (option: string) => string,
): string {
  return differences
    .map(({ option, found, wanted }) => `${nameOf(option)} ${found} (wanted ${wanted})`)
    .join(", ");
}

/** The error for an input that exceeds a limit. Its data names the limit, its remedy is to raise it. */
export function limitError(what: string, why: string, limit: {
  /** Its key in the limits of the part that sets it, such as `layerEntries`. */
  readonly name: string;
  /** The largest value that is accepted. */
  readonly expected: number;
  readonly actual?: number | undefined;
  /** More facts for the error's data. */
  readonly data?: ErrorDetails["data"] | undefined;
  /** The limit cannot be raised, because more could not be stored. */
  readonly isFixed?: boolean | undefined;
}): InputError {
  const { name, expected, actual, data, isFixed = false } = limit;
  return new InputError(what, why, {
    code: "limitExceeded",
    data: { ...data, limit: name, ...actual === undefined ? {} : { actual }, expected },
    remedies: isFixed ? [] : [{ option: name, change: "set", when: "if you trust the source" }],
  });
}

/** Throws when a condition that this program guarantees itself does not hold. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${message}`);
}

/** Throws {@linkcode abortError} when the signal has been aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

/** The error of work that a signal ended: its reason, if that is a BlessfsError; else one with the reason as cause. */
export function abortError({ reason }: AbortSignal): BlessfsError {
  if (reason instanceof BlessfsError) return reason;
  return new InterruptedError("interrupted", "the work was stopped", { cause: reason });
}
