/**
 * Errors on their way between threads: classes and causes do not survive structured cloning, so an error crosses as
 * plain data and is built again.
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
  readonly message: string;
  readonly hint: string | undefined;
  readonly data: BlessfsError["data"];
  readonly stack: string | undefined;
}

const CLASSES = {
  usage: UsageError,
  input: InputError,
  io: IoError,
  interrupted: InterruptedError,
} as const;

/** Makes an error fit to be posted. */
export function plainError(error: unknown): PlainError {
  if (error instanceof BlessfsError) {
    const { category, message, hint, data, stack } = error;
    return { category, message, hint, data, stack };
  }
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return { category: "bug", message, hint: undefined, data: {}, stack };
}

/** Builds the error again; its message, hint and data are what they were. */
export function rebuiltError(plain: PlainError): Error {
  const { category, message, hint, data, stack } = plain;
  if (category === "bug") {
    const error = new Error(message);
    if (stack !== undefined) error.stack = stack;
    return error;
  }
  const colon = message.indexOf(": ");
  const details: ErrorDetails = hint === undefined ? { data } : { hint, data };
  return new CLASSES[category](message.slice(0, colon), message.slice(colon + 2), details);
}
