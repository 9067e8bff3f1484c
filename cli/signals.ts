/**
 * SIGINT, SIGTERM and SIGHUP. The first one aborts the work; after that the handlers are gone, so that the second one
 * ends the process at once, even in the middle of a loop that never yields.
 *
 * @module
 */
import process from "node:process";
import { InterruptedError } from "../lib/errors.ts";
import { SIGNAL_EXITS } from "./exit_codes.ts";

type EndingSignal = keyof typeof SIGNAL_EXITS;

const ENDING_SIGNALS = Object.keys(SIGNAL_EXITS) as EndingSignal[];

/**
 * Starts to watch for signals.
 *
 * @returns a signal that the first of them aborts, with an InterruptedError whose data names it
 */
export function watchSignals(): AbortSignal {
  const controller = new AbortController();
  const handlers = new Map<EndingSignal, () => void>();
  for (const name of ENDING_SIGNALS) {
    const handler = () => {
      for (const [other, known] of handlers) process.removeListener(other, known);
      controller.abort(
        new InterruptedError("interrupted", `by ${name}`, { data: { signal: name } }),
      );
    };
    handlers.set(name, handler);
    process.on(name, handler);
  }
  survive("SIGXFSZ");
  return controller.signal;
}

/** Without a handler, a file that grows beyond `ulimit -f` kills Deno; with one, the write fails with EFBIG. */
function survive(name: "SIGXFSZ"): void {
  try {
    process.on(name, () => {});
  } catch {
    // Windows has no such signal.
  }
}
