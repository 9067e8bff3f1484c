/**
 * Errors as plain data, to cross from one thread to another.
 *
 * @module
 */
import {
  BlessfsError,
  type ErrorDetails,
  InputError,
  InterruptedError,
  IoError,
  UsageError,
} from "../errors.ts";

/** An error as plain data. */
export interface PlainError {
  /** `bug`: an error that nobody is expected to meet. */
  readonly category: BlessfsError["category"] | "bug";
  readonly name: string;
  readonly message: string;
  /** The system's code, such as `ENOSPC`. */
  readonly systemCode: string | undefined;
  /** Of an expected error. */
  readonly facts: (Pick<BlessfsError, "what" | "why"> & Omit<ErrorDetails, "cause">) | undefined;
  readonly stack: string | undefined;
  readonly cause: PlainError | undefined;
}

const CLASSES = {
  usage: UsageError,
  input: InputError,
  io: IoError,
  interrupted: InterruptedError,
} as const;

/** Causes of causes that are kept. */
const CAUSES_MAX = 8;

/** Makes an error fit to be posted. */
export function plainError(error: unknown, causesLeft = CAUSES_MAX): PlainError {
  const { name, message, stack, cause } = error instanceof Error ? error : new Error(String(error));
  const { code } = Object(error) as { readonly code?: unknown };
  const plain = {
    name,
    message,
    stack,
    systemCode: typeof code === "string" ? code : undefined,
    cause: cause === undefined || causesLeft === 0 ? undefined : plainError(cause, causesLeft - 1),
  };
  if (!(error instanceof BlessfsError)) return { category: "bug", facts: undefined, ...plain };
  const { category, what, why, hint, option, remedies, differences, data } = error;
  const facts = { what, why, code: error.code, hint, option, remedies, differences, data };
  return { category, facts, ...plain };
}

/** Builds the error again: its class, its words, its facts and its causes. */
export function rebuiltError({ category, facts, ...plain }: PlainError): Error {
  const cause = plain.cause === undefined ? undefined : rebuiltError(plain.cause);
  if (category === "bug" || facts === undefined) {
    const error = new Error(plain.message, cause === undefined ? undefined : { cause });
    error.name = plain.name;
    if (plain.systemCode !== undefined) Object.assign(error, { code: plain.systemCode });
    if (plain.stack !== undefined) error.stack = plain.stack;
    return error;
  }
  const { what, why, ...details } = facts;
  return new CLASSES[category](what, why, { ...details, cause });
}
