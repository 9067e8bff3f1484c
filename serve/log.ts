/**
 * Logs as JSON lines, and the trace that a request belongs to.
 *
 * @module
 */
import { randomBytes } from "node:crypto";

/** What a line may say beside its message. */
export type LogFacts = Readonly<Record<string, unknown>>;

/** Writes lines. */
export interface Log {
  info(message: string, facts?: LogFacts): void;
  warn(message: string, facts?: LogFacts): void;
  error(message: string, facts?: LogFacts): void;
}

/** A log that writes `{"time","level","message",...facts}`, one object a line. */
export function createLog(write: (line: string) => void): Log {
  const line = (level: string) => (message: string, facts: LogFacts = {}) =>
    write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...facts })}\n`);
  return { info: line("info"), warn: line("warn"), error: line("error") };
}

/** What is known of an error, for a line. Its stack stays out unless it is a fault of the program. */
export function errorFacts(error: unknown): LogFacts {
  return { error: error instanceof Error ? error.message : String(error) };
}

/**
 * The trace that a request belongs to, with a span of our own. W3C Trace Context, section 3.2.
 *
 * @param header the request's `traceparent`; one that is not valid is ignored, as section 4.3 wants it
 */
export function continueTrace(header: string | undefined): string {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(header ?? "");
  const isValid = match !== null && !/^0+$/.test(match[1]!) && !/^0+$/.test(match[2]!);
  const traceId = isValid ? match[1]! : randomBytes(16).toString("hex");
  return `00-${traceId}-${randomBytes(8).toString("hex")}-${isValid ? match[3]! : "00"}`;
}

/** The trace's id, for logs. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(3, 35);
}
