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
  abstract readonly category: "usage" | "input" | "io" | "interrupted";
  readonly hint: string | undefined;
  readonly data: Readonly<Record<string, string | number | boolean | null>>;

  constructor(what: string, why: string, details: ErrorDetails = {}) {
    super(`${what}: ${why}`, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.hint = details.hint;
    this.data = details.data ?? {};
  }
}

/** The command line or an option has a value that cannot be meant. */
export class UsageError extends BlessfsError {
  readonly category = "usage";
}

/** The input is damaged, unsupported or not what it says it is. */
export class InputError extends BlessfsError {
  readonly category = "input";
}

/** Reading or writing failed: a full disk, a missing permission, a network fault. */
export class IoError extends BlessfsError {
  readonly category = "io";
}

/** The work was told to stop (SIGINT, SIGTERM, an aborted signal). */
export class InterruptedError extends BlessfsError {
  readonly category = "interrupted";
}

/** Throws when a condition that this program guarantees itself does not hold. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Invariant broken: ${message}`);
}

/** Throws an InterruptedError when the signal has been aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new InterruptedError("interrupted", "the work was told to stop");
}
