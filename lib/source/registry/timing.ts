/**
 * Waiting, on purpose and for what does not come. Both can be replaced, so that tests need no patience.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { BlessfsError, InterruptedError } from "../../errors.ts";

/** How time passes. */
export interface RegistryTiming {
  /**
   * Waits before something is tried again.
   *
   * @throws whatever, once the signal is aborted
   */
  wait(milliseconds: number, signal: AbortSignal | undefined): Promise<void>;
  /** Rings after a while, unless what it returns is called before. */
  alarm(milliseconds: number, ring: () => void): () => void;
}

/** The real clock. */
export const REAL_TIMING: RegistryTiming = {
  async wait(milliseconds, signal) {
    await delay(milliseconds, undefined, signal === undefined ? {} : { signal });
  },
  alarm(milliseconds, ring) {
    const timer = setTimeout(ring, milliseconds);
    return () => clearTimeout(timer);
  },
};

/** Why work was told to stop, as an error to throw. */
export function interruption(signal: AbortSignal): Error {
  const { reason } = signal;
  if (reason instanceof BlessfsError) return reason;
  return new InterruptedError("interrupted", "the work was told to stop");
}
