/**
 * The one table of exit codes. The help, the manual and the documentation are made from it.
 *
 * @module
 */
import { BlessfsError, InterruptedError } from "../lib/errors.ts";
import { systemErrorFacts } from "../lib/io/system_error.ts";

/** What the program's exit codes mean, by name. */
export const EXIT = {
  done: 0,
  answerNo: 1,
  usage: 2,
  input: 3,
  io: 4,
  internal: 70,
  hangup: 129,
  interrupted: 130,
  terminated: 143,
} as const;

/** One of the exit codes. */
export type ExitCode = typeof EXIT[keyof typeof EXIT];

/** The meaning of each code, for people. */
export const EXIT_MEANINGS: Readonly<Record<ExitCode, string>> = {
  0: "done",
  1: "the answer is no: verify found damage, diff found a difference, probe saved less than --min-dedup",
  2: "the command line is wrong",
  3: "the input is missing, damaged or not supported",
  4: "reading, writing or the network failed; an output exists and --force was not given",
  70: "a fault of blessfs itself",
  129: "interrupted by SIGHUP",
  130: "interrupted by SIGINT (Ctrl-C)",
  143: "interrupted by SIGTERM",
};

/** The signals that end the work cleanly, and their codes. */
export const SIGNAL_EXITS = {
  SIGHUP: EXIT.hangup,
  SIGINT: EXIT.interrupted,
  SIGTERM: EXIT.terminated,
} as const;

/** What kind of failure an error is; the same words as in the errors of the library. */
export type FailureCategory = BlessfsError["category"] | "internal";

/** The category of anything that was thrown. */
export function categoryOf(error: unknown): FailureCategory {
  if (error instanceof BlessfsError) return error.category;
  return systemErrorFacts(error) === undefined ? "internal" : "io";
}

/** The exit code of anything that was thrown. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof InterruptedError) {
    const signal = error.data["signal"];
    return SIGNAL_EXITS[signal as keyof typeof SIGNAL_EXITS] ?? EXIT.interrupted;
  }
  return EXIT[categoryOf(error)];
}
