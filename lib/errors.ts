/**
 * Errors that callers should expect. Each class is one category of exit codes, each code one reason. The message is always
 * `WHAT: WHY` and includes the path or offset, the value found and the value expected. Any other exception is a bug in the
 * program itself.
 *
 * @module
 */

/** Every error code and its meaning. Tests keep docs/ERRORS.md in step with it. */
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

/** Operating system errors that have codes of their own. */
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

/** Optional details of an error. */
export interface ErrorDetails {
  /** The reason; defaults to `invalidOption`, `damaged`, `interrupted`, or the meaning of the system's code. */
  readonly code?: ErrorCode | undefined;
  /** One sentence on what the user can do. It names no options; `remedies` do that. */
  readonly hint?: string | undefined;
  /** The key of the offending option in the options of the call, such as `gridBytes`. */
  readonly option?: string | undefined;
  /** Options that help. */
  readonly remedies?: readonly Remedy[] | undefined;
  /** Options whose values differ from the expected ones; they are listed at the end of the message. */
  readonly differences?: readonly OptionDifference[] | undefined;
  /** Machine-readable facts for `--json`: path, offset, expected, actual. */
  readonly data?: Readonly<Record<string, string | number | boolean | null>> | undefined;
  /** The underlying error. */
  readonly cause?: unknown;
}

/** An option that makes the call succeed when it is set or omitted. */
export interface Remedy {
  /** Its key in the options of the call, such as `plainHttp`, or the key of a limit, such as `layerEntries`. */
  readonly option: string;
  /** What to do with it. */
  readonly change: "set" | "omit";
  /** A suggested value, if there is one. */
  readonly value?: string | undefined;
  /** The condition, such as `if the registry has no TLS`. */
  readonly when?: string | undefined;
  /** The purpose, such as `replace it`. */
  readonly to?: string | undefined;
}

/** An option that was found with one value where another was expected. */
export interface OptionDifference {
  /** Its key in the options of the call, such as `gridBytes`. */
  readonly option: string;
  /** Its value, as text. */
  readonly found: string;
  /** The expected value, as text. */
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
  /** What the user can do, if anything. */
  readonly hint: string | undefined;
  /** The key of the offending option. */
  readonly option: string | undefined;
  /** Options that help. */
  readonly remedies: readonly Remedy[];
  /** Options whose values differ from the expected ones. */
  readonly differences: readonly OptionDifference[];
  /** Facts about the failure, for programs. */
  readonly data: Readonly<Record<string, string | number | boolean | null>>;

  /** Sets the message to `WHAT: WHY`. */
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

  /** The reason, for programs; `ERROR_CODES` gives the meaning of each. */
  get code(): ErrorCode {
    const { category, data, cause } = this;
    const system = data["code"] ?? (cause as { readonly code?: unknown } | undefined)?.code;
    const known = category === "io" && CODES_BY_SYSTEM[String(system)];
    return this.#code ?? (known || CODES_BY_CATEGORY[category]);
  }
}

/** The command line is wrong, or an option has an invalid value. */
export class UsageError extends BlessfsError {
  /** Always `UsageError`, even if a bundler renames the class. */
  override readonly name: string = "UsageError";
  /** Always `usage`. */
  readonly category = "usage";
}

/** The input is damaged, unsupported or not what it claims to be. */
export class InputError extends BlessfsError {
  /** Always `InputError`, even if a bundler renames the class. */
  override readonly name: string = "InputError";
  /** Always `input`. */
  readonly category = "input";
}

/** Reading or writing failed: a full disk, a missing permission, a network fault. */
export class IoError extends BlessfsError {
  /** Always `IoError`, even if a bundler renames the class. */
  override readonly name: string = "IoError";
  /** Always `io`. */
  readonly category = "io";
}

/** The work was interrupted (SIGINT, SIGTERM, an aborted signal). */
export class InterruptedError extends BlessfsError {
  /** Always `InterruptedError`, even if a bundler renames the class. */
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

/** Formats differences for the end of a message: `gridBytes 65536 (wanted 131072), label "x" (wanted "")`. */
export function differencesText(
  differences: readonly OptionDifference[],
  nameOf: (option: string) => string,
): string {
  return differences
    .map(({ option, found, wanted }) => `${nameOf(option)} ${found} (wanted ${wanted})`)
    .join(", ");
}

/** The error for an input that exceeds a limit. Its data names the limit; its remedy is to raise it. */
export function limitError(what: string, why: string, limit: {
  /** Its key in the limits of the part that enforces it, such as `layerEntries`. */
  readonly name: string;
  /** The largest accepted value. */
  readonly expected: number;
  readonly actual?: number | undefined;
  /** More facts for the error's data. */
  readonly data?: ErrorDetails["data"] | undefined;
  /** Whether the limit cannot be raised because larger values cannot be stored. */
  readonly isFixed?: boolean | undefined;
}): InputError {
  const { name, expected, actual, data, isFixed = false } = limit;
  return new InputError(what, why, {
    code: "limitExceeded",
    data: { ...data, limit: name, ...actual === undefined ? {} : { actual }, expected },
    remedies: isFixed ? [] : [{ option: name, change: "set", when: "if you trust the source" }],
  });
}

/** Throws if a condition that the program itself guarantees does not hold. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${message}`);
}

/** Throws {@linkcode abortError} if the signal has been aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortError(signal);
}

/**
 * The error for work that a signal stopped: the signal's reason if it is a BlessfsError, otherwise an error with the reason
 * as its cause.
 */
export function abortError({ reason }: AbortSignal): BlessfsError {
  if (reason instanceof BlessfsError) return reason;
  return new InterruptedError("interrupted", "the work was stopped", { cause: reason });
}
