/**
 * Retries: which failures are retried, how often, and after how long; and the errors for what still fails.
 *
 * @module
 */
import * as v from "valibot";
import { abortError, type ErrorDetails, InputError, IoError } from "../../errors.ts";
import type { Progress } from "../../progress.ts";
import { checkJson, displayText, fields, parseJson } from "../json.ts";
import { SECRET_TEXT, type Secrets } from "./credentials.ts";
import {
  type Answer,
  type ConnectionSettings,
  type HttpRequest,
  NetworkFault,
  type RegistryTiming,
  sendRequest,
} from "./http.ts";

export const MAX_ATTEMPTS = 5;
/** The wait before the second attempt; it doubles each time. */
export const FIRST_WAIT_MILLISECONDS = 1000;
/** Longer waits requested by a registry are cut to this. */
export const LONGEST_WAIT_MILLISECONDS = 60_000;

/** Whether the same request may succeed later. RFC 9110 section 15, RFC 6585 section 4. */
export function isWorthRetrying(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/**
 * How long a response asks to wait; undefined if it does not. RFC 9110 section 10.2.3: seconds, or a date, which is
 * compared with the response's own date, so that no clock is needed.
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

/** Parses an RFC 9110 section 5.6.7 date in the only format that may still be generated. */
function httpDate(text = ""): number | undefined {
  const isDate = /^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/.test(text);
  return isDate && !Number.isNaN(Date.parse(text)) ? Date.parse(text) : undefined;
}

/** State shared by all requests for one image. */
export interface Session {
  readonly timing: RegistryTiming;
  readonly progress: Progress;
  /** How servers are reached. */
  readonly connection?: ConnectionSettings | undefined;
  /** Removed from servers' messages. */
  readonly secrets: Secrets;
  /** Problems encountered while looking for credentials, in words. */
  readonly credentialFaults: string[];
}

export class Retries {
  readonly #session: Pick<Session, "timing" | "progress">;
  readonly #maxAttempts: number;
  #failureCount = 0;

  constructor(session: Pick<Session, "timing" | "progress">, maxAttempts = MAX_ATTEMPTS) {
    this.#session = session;
    this.#maxAttempts = maxAttempts;
  }

  /** Forgets earlier failures because progress was made. */
  reset(): void {
    this.#failureCount = 0;
  }

  /** Counts a failure and waits as long as the response asks. After the last attempt, returns false at once. */
  async again(signal: AbortSignal | undefined, refusal?: Answer): Promise<boolean> {
    if (++this.#failureCount >= this.#maxAttempts) return false;
    const asked = retryAfterMilliseconds(refusal?.header("retry-after"), refusal?.header("date"));
    const usual = FIRST_WAIT_MILLISECONDS * 2 ** (this.#failureCount - 1);
    const milliseconds = Math.min(asked ?? usual, LONGEST_WAIT_MILLISECONDS);
    const { timing, progress } = this.#session;
    const task = progress.begin("waiting for the registry");
    try {
      await timing.wait(milliseconds, signal);
    } catch (error) {
      if (!signal?.aborted) throw error;
    } finally {
      task.end();
    }
    if (signal?.aborted) throw abortError(signal);
    return true;
  }
}

/** Repeats a request until a retry would not improve the response. @throws {IoError} if all attempts fail */
export async function sendWithRetries(
  request: HttpRequest,
  session: Session,
  retries: Retries,
): Promise<Answer> {
  const { connection } = session;
  const send = () => sendRequest({ connection, ...request }, session.timing);
  for (;;) {
    const answer = await withRetries(request, retries, send);
    if (!isWorthRetrying(answer.status)) return answer;
    const fault = await statusFault(answer, request.what, session);
    if (!await retries.again(request.signal, answer)) throw fault;
  }
}

/** Runs a step, retrying if the network fails. @throws {IoError} if all attempts fail */
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

export function unreachable(what: string, host: string, fault: NetworkFault): IoError {
  const shown = displayText(host);
  const who = what === shown ? "it" : shown;
  return new IoError(what, `${who} cannot be reached: ${fault.message}`, {
    ...fault.details,
    code: "unreachable",
  });
}

export function loginDetails({ credentialFaults }: Session): ErrorDetails {
  const login = "log in with `docker login` or `podman login`";
  return {
    hint: credentialFaults.length === 0
      ? login
      : `no credentials were found, because ${credentialFaults.join("; ")}; or ${login}`,
    remedies: [{ option: "authFile", change: "set", to: "read credentials from another file" }],
  };
}

const ERROR_BODY_BYTES = 64 << 10;
const SHOWN_CHARACTERS = 200;

/** The error for a response with an unwanted status. Reads its body. */
export async function statusFault(
  answer: Answer,
  what: string,
  session: Session,
): Promise<InputError | IoError> {
  const host = displayText(answer.url.host);
  const { status } = answer;
  const text = session.secrets.hide(await errorDetail(answer));
  const detail = text === "" ? "" : `: ${displayText(text.slice(0, SHOWN_CHARACTERS))}`;
  const data = { status };
  if (status === 404) {
    return new InputError(what, `${host} does not have it${detail}`, { code: "notFound", data });
  }
  if (status === 401 || status === 403) {
    const why = `${host} refuses access (status ${status})${detail}`;
    return new IoError(what, why, { ...loginDetails(session), code: "refused", data });
  }
  const why = status === 429
    ? `${host} has had too many requests (status 429)${detail}`
    : `${host} answers with status ${status}${detail}`;
  const code = status === 429 || status >= 500 ? "unreachable" : "refused";
  return new IoError(what, why, { code, data });
}

const COMPLAINT = fields({
  code: SECRET_TEXT,
  error: SECRET_TEXT,
  message: SECRET_TEXT,
  error_description: SECRET_TEXT,
  details: SECRET_TEXT,
});
/** Registries return a list of errors; token servers put the fields of one in the document itself. */
const ERROR_BODY = v.union([
  v.pipe(
    fields({ errors: v.tupleWithRest([COMPLAINT], v.unknown()) }),
    v.transform(({ errors: [first] }) => first),
  ),
  COMPLAINT,
]);

/** The text in an error's body; empty if there is none. */
async function errorDetail(answer: Answer): Promise<string> {
  try {
    const bytes = await answer.bytes(ERROR_BODY_BYTES);
    if (!bytes) return "";
    const fault = checkJson(ERROR_BODY, parseJson(bytes, ""), { what: "", field: "" });
    const message = fault.message ?? fault.error_description ?? fault.details;
    return [fault.code ?? fault.error, message].filter((text) => text !== undefined).join(": ");
  } catch (error) {
    if (error instanceof NetworkFault || error instanceof InputError) return "";
    throw error;
  }
}
