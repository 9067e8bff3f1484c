/**
 * The errors that callers are expected to meet. Each class is one category of the exit code table (cli/exit_codes.ts);
 * the message is always `WHAT: WHY`, with the path or offset, the found and the wanted value in it.
 * Anything else that is thrown is a fault of the program itself.
 *
 * @module
 */

/** What an error may carry beside its message. */
export interface ErrorDetails {
  /** One sentence that says what the user can do. */
  readonly hint?: string;
  /** Machine-readable facts for `--json`: path, offset, expected, actual. */
  readonly data?: Readonly<Record<string, string | number | boolean | null>>;
  /** The error that caused this one. */
  readonly cause?: unknown;
}

/** Base of every expected error. `category` picks the exit code. */
export abstract class BlessfsError extends Error {
  /** What kind of failure it is; the command line derives its exit code from it. */
  abstract readonly category: "usage" | "input" | "io" | "interrupted";
  /** A remedy, where there is one. */
  readonly hint: string | undefined;
  /** Facts about the failure, for programs. */
  readonly data: Readonly<Record<string, string | number | boolean | null>>;

  /** The message becomes `WHAT: WHY`. */
  constructor(what: string, why: string, details: ErrorDetails = {}) {
    super(`${what}: ${why}`, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.hint = details.hint;
    this.data = details.data ?? {};
  }
}

/** The command line or an option has a value that cannot be meant. */
export class UsageError extends BlessfsError {
  /** Always `usage`. */
  readonly category = "usage";
}

/** The input is damaged, unsupported or not what it says it is. */
export class InputError extends BlessfsError {
  /** Always `input`. */
  readonly category = "input";
}

/** Reading or writing failed: a full disk, a missing permission, a network fault. */
export class IoError extends BlessfsError {
  /** Always `io`. */
  readonly category = "io";
}

/** The work was told to stop (SIGINT, SIGTERM, an aborted signal). */
export class InterruptedError extends BlessfsError {
  /** Always `interrupted`. */
  readonly category = "interrupted";
}

/** A limit that an input goes beyond. */
export interface ExceededLimit {
  /** Its name in the limits of the part that sets it, such as `layerEntries`. */
  readonly name: string;
  /** The largest value that is accepted. */
  readonly expected: number;
  readonly actual?: number;
  /** What else the error's data shall say. */
  readonly data?: ErrorDetails["data"];
  /** More could not be stored, so the limit cannot be raised. */
  readonly isFixed?: boolean;
}

/** The error for an input that goes beyond a limit. Its data names the limit, its hint the option that raises it. */
export function limitError(what: string, why: string, limit: ExceededLimit): InputError {
  const { name, expected, actual, data, isFixed = false } = limit;
  return new InputError(what, why, {
    data: { ...data, limit: name, ...actual === undefined ? {} : { actual }, expected },
    ...isFixed ? {} : {
      hint: `if the source is to be trusted, allow more with --limit ${
        limitOptionName(name)
      }=VALUE`,
    },
  });
}

/** A limit as it is typed: `layerEntries` is `layer-entries`. */
export function limitOptionName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Throws when a condition that this program guarantees itself does not hold. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${message}`);
}

/** Throws an InterruptedError when the signal has been aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new InterruptedError("interrupted", "the work was told to stop");
}
