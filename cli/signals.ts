/**
 * SIGINT, SIGTERM and SIGHUP. The first one aborts the work; after that the handlers are gone, so that the second one
 * ends the process at once, even in the middle of a loop that never yields.
 *
 * @module
 */
import { readFileSync } from "node:fs";
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
    const isIgnored = name === "SIGHUP" ? hangupIsIgnored() : false;
    if (isIgnored === undefined) continue;
    if (isIgnored) {
      ignore("SIGHUP");
      continue;
    }
    const handler = () => {
      for (const [other, known] of handlers) process.removeListener(other, known);
      controller.abort(
        new InterruptedError("interrupted", `by ${name}`, { data: { signal: name } }),
      );
    };
    handlers.set(name, handler);
    process.on(name, handler);
  }
  ignore("SIGXFSZ");
  return controller.signal;
}

/**
 * Whether this process was started with SIGHUP ignored, as nohup(1) does it; undefined where it cannot be told, and
 * then the signal is left alone. The other signals are always handled, because shells that are not interactive have
 * SIGINT ignored in what they start in the background.
 */
function hangupIsIgnored(): boolean | undefined {
  try {
    // proc(5): SigIgn is a mask in hexadecimal, signal 1 in its lowest bit.
    const mask = /^SigIgn:\s*[0-9a-f]*([0-9a-f])$/m.exec(
      readFileSync("/proc/self/status", "latin1"),
    );
    return mask === null ? undefined : (parseInt(mask[1]!, 16) & 1) === 1;
  } catch {
    return undefined;
  }
}

/**
 * Handles a signal by doing nothing. SIGHUP under nohup needs it in Deno, which takes that signal over as soon as any
 * other has a handler. SIGXFSZ needs it there too: a file that grows beyond `ulimit -f` would kill the process, and
 * with a handler the write fails with EFBIG.
 */
function ignore(name: "SIGHUP" | "SIGXFSZ"): void {
  try {
    process.on(name, () => {});
  } catch {
    // Windows has no such signals.
  }
}
