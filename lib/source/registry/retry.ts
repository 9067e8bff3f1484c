/**
 * Trying again: what is worth it, how often, how long to wait before, and what a refusal means.
 *
 * @module
 */
import { abortError, type ErrorDetails, InputError, IoError } from "../../errors.ts";
import type { Progress } from "../../progress.ts";
import { displayText } from "../json.ts";
import { asSecretObject, parseSecretObject, type Secrets, secretText } from "./credentials.ts";
import {
  type Answer,
  type HttpRequest,
  NetworkFault,
  type RegistryTiming,
  sendRequest,
} from "./http.ts";

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
 * import { retryAfterMilliseconds } from "./retry.ts";
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
    if (signal?.aborted) throw abortError(signal);
    return true;
  }
}

/** What patient requests are made with. */
export interface RetryContext {
  readonly timing: RegistryTiming;
  readonly retries: Retries;
  readonly secrets: Secrets;
}

/**
 * Asks until there is an answer that will not get better.
 *
 * @throws {IoError} when all attempts fail
 */
export async function sendWithRetries(
  request: HttpRequest,
  retryContext: RetryContext,
): Promise<Answer> {
  const { timing, retries, secrets } = retryContext;
  for (;;) {
    const answer = await withRetries(request, retries, () => sendRequest(request, timing));
    if (!isWorthRetrying(answer.status)) return answer;
    const fault = await statusFault(answer, request.what, secrets);
    if (!await retries.again(request.signal, answer)) throw fault;
  }
}

/**
 * Takes a step, and takes it again when the network fails.
 *
 * @throws {IoError} when all attempts fail
 */
export async function withRetries<T>(
  { what, url, signal }: Pick<HttpRequest, "what" | "url" | "signal">,
  retries: Retries,
  step: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await step();
    } catch (error) {
      if (!(error instanceof NetworkFault)) throw error;
      if (error.isTransient && await retries.again(signal)) continue;
      throw unreachable(what, url.host, error);
    }
  }
}

/** The error for a host that gives no answer. */
export function unreachable(what: string, host: string, fault: NetworkFault): IoError {
  const shown = displayText(host);
  const who = what === shown ? "it" : shown;
  return new IoError(what, `${who} cannot be reached: ${fault.message}`, {
    ...fault.details,
    code: "unreachable",
  });
}

/**
 * What a user can do about a refusal.
 *
 * @param credentialFaults what went wrong while credentials were looked for
 */
export function loginDetails(credentialFaults: readonly string[] = []): ErrorDetails {
  const login = "log in with `docker login` or `podman login`";
  return {
    hint: credentialFaults.length === 0
      ? login
      : `no credentials were found, because ${credentialFaults.join("; ")}; or ${login}`,
    remedies: [{ option: "authFile", change: "set", to: "read credentials from another file" }],
  };
}
/** A longer body tells nothing. */
const ERROR_BODY_BYTES = 64 << 10;
const SHOWN_CHARACTERS = 200;

/**
 * The error for an answer whose status is not the wanted one. Reads its body and lets go of it.
 *
 * @param what what was asked for; safe to print
 * @param credentialFaults what went wrong while credentials were looked for, for the hint
 */
export async function statusFault(
  answer: Answer,
  what: string,
  secrets: Secrets,
  credentialFaults: readonly string[] = [],
): Promise<InputError | IoError> {
  const host = displayText(answer.url.host);
  const { status } = answer;
  const told = secrets.hide(await errorDetail(answer));
  const detail = told === "" ? "" : `: ${displayText(told.slice(0, SHOWN_CHARACTERS))}`;
  const data = { status };
  if (status === 404) {
    return new InputError(what, `${host} does not have it${detail}`, { code: "notFound", data });
  }
  if (status === 401 || status === 403) {
    const why = `${host} refuses access (status ${status})${detail}`;
    return new IoError(what, why, { ...loginDetails(credentialFaults), code: "refused", data });
  }
  const why = status === 429
    ? `${host} has had too many requests (status 429)${detail}`
    : `${host} answers with status ${status}${detail}`;
  const code = status === 429 || status >= 500 ? "unreachable" : "refused";
  return new IoError(what, why, { code, data });
}

/** What the body says, as registries and token servers word it; empty when it says nothing. */
async function errorDetail(answer: Answer): Promise<string> {
  let bytes: Uint8Array | undefined;
  try {
    bytes = await answer.bytes(ERROR_BODY_BYTES);
  } catch (error) {
    if (!(error instanceof NetworkFault)) throw error;
  }
  if (!bytes || bytes[0] !== 0x7b) return "";
  let object;
  try {
    object = parseSecretObject(bytes, "");
  } catch {
    return "";
  }
  const errors = Array.isArray(object["errors"]) ? object["errors"] : [];
  const first = asSecretObject(errors[0]) ?? object;
  const code = secretText(first, "code") ?? secretText(first, "error");
  const message = ["message", "error_description", "details"]
    .map((key) => secretText(first, key)).find((text) => text !== undefined);
  return [code, message].filter((text) => text !== undefined).join(": ");
}
