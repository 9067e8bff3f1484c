/**
 * Requests that are made again when the network fails or the server is busy.
 *
 * @module
 */
import { IoError } from "../../errors.ts";
import { displayText } from "../json.ts";
import { type Answer, type HttpRequest, sendRequest } from "./http.ts";
import { NetworkFault } from "./network_fault.ts";
import { isWorthRetrying, type Retries } from "./retries.ts";
import type { Secrets } from "./secrets.ts";
import { statusFault } from "./status_fault.ts";
import type { RegistryTiming } from "./timing.ts";

/** What patient requests are made with. */
export interface Patience {
  readonly timing: RegistryTiming;
  readonly retries: Retries;
  readonly secrets: Secrets;
}

/**
 * Asks until there is an answer that will not get better.
 *
 * @throws {IoError} when all attempts fail
 */
export async function sendPatiently(request: HttpRequest, patience: Patience): Promise<Answer> {
  const { timing, retries, secrets } = patience;
  for (;;) {
    const answer = await overcomeFaults(request, retries, () => sendRequest(request, timing));
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
export async function overcomeFaults<T>(
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
    ...fault.hint === undefined ? {} : { hint: fault.hint },
  });
}
