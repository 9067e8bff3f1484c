/**
 * Trying again: what is worth it, how often, and how long to wait before.
 *
 * @module
 */
import type { Progress } from "../../progress.ts";
import type { Answer } from "./http.ts";
import { interruption, type RegistryTiming } from "./timing.ts";

/** How often a request is made before it is given up. */
export const MAX_ATTEMPTS = 5;
/** Before the second attempt; each later one waits twice as long as the one before. */
export const FIRST_WAIT_MILLISECONDS = 1000;
/** A registry may ask for longer waits than this one, and is not heard. */
export const LONGEST_WAIT_MILLISECONDS = 60_000;

/** Whether the same request may well get a better answer later. RFC 9110 section 15, RFC 6585 section 4. */
export function isWorthRetrying(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/**
 * How long an answer asks to wait. RFC 9110 section 10.2.3: seconds, or a date, which is compared with the date of the
 * answer itself, so that nobody's clock matters.
 *
 * @returns undefined when it does not ask
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { retryAfterMilliseconds } from "./retries.ts";
 * assertEquals(retryAfterMilliseconds("7", undefined), 7000);
 * ```
 */
export function retryAfterMilliseconds(
  retryAfter: string | undefined,
  answerDate: string | undefined,
): number | undefined {
  const text = retryAfter?.trim();
  if (text === undefined) return undefined;
  if (/^[0-9]{1,9}$/.test(text)) return Number(text) * 1000;
  const until = httpDate(text);
  const now = httpDate(answerDate?.trim());
  return until === undefined || now === undefined ? undefined : Math.max(0, until - now);
}

/** RFC 9110 section 5.6.7, in the one format that may be sent today. */
function httpDate(text: string | undefined): number | undefined {
  if (!text || !/^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/.test(text)) {
    return undefined;
  }
  const milliseconds = Date.parse(text);
  return Number.isNaN(milliseconds) ? undefined : milliseconds;
}

/** The attempts at one thing. */
export class Retries {
  readonly #timing: RegistryTiming;
  readonly #progress: Progress;
  readonly #maxAttempts: number;
  #failureCount = 0;

  constructor(timing: RegistryTiming, progress: Progress, maxAttempts = MAX_ATTEMPTS) {
    this.#timing = timing;
    this.#progress = progress;
    this.#maxAttempts = maxAttempts;
  }

  /** Something was achieved: what failed before counts no more. */
  reset(): void {
    this.#failureCount = 0;
  }

  /**
   * Counts a failure and waits.
   *
   * @param refusal the answer that asked for it, if one did
   * @returns false, at once, when it was the last attempt
   * @throws {InterruptedError} when the signal is aborted
   */
  async again(signal: AbortSignal | undefined, refusal?: Answer): Promise<boolean> {
    if (++this.#failureCount >= this.#maxAttempts) return false;
    const asked = retryAfterMilliseconds(refusal?.header("retry-after"), refusal?.header("date"));
    const usual = FIRST_WAIT_MILLISECONDS * 2 ** (this.#failureCount - 1);
    const milliseconds = Math.min(asked ?? usual, LONGEST_WAIT_MILLISECONDS);
    const task = this.#progress.begin("waiting for the registry");
    try {
      await this.#timing.wait(milliseconds, signal);
    } catch (error) {
      if (!signal?.aborted) throw error;
    } finally {
      task.end();
    }
    if (signal?.aborted) throw interruption(signal);
    return true;
  }
}
