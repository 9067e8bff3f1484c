/**
 * Answers that are refusals, in words. Distribution specification, "Error Codes".
 *
 * @module
 */
import { InputError, IoError } from "../../errors.ts";
import { displayText } from "../json.ts";
import type { Answer } from "./http.ts";
import { NetworkFault } from "./network_fault.ts";
import { asSecretObject, parseSecretObject, type Secrets, secretText } from "./secrets.ts";

/** What a user can do about a refusal. */
export const LOGIN_HINT =
  "log in with `docker login` or `podman login`, or name a file of credentials with --authfile";
/** A longer body tells nothing. */
const ERROR_BODY_BYTES = 64 << 10;
const SHOWN_CHARACTERS = 200;

/**
 * The error for an answer whose status is not the wanted one. Reads its body and lets go of it.
 *
 * @param what what was asked for; safe to print
 */
export async function statusFault(
  answer: Answer,
  what: string,
  secrets: Secrets,
): Promise<InputError | IoError> {
  const host = displayText(answer.url.host);
  const { status } = answer;
  const told = secrets.hide(await errorDetail(answer));
  const detail = told === "" ? "" : `: ${displayText(told.slice(0, SHOWN_CHARACTERS))}`;
  const data = { status };
  if (status === 404) {
    return new InputError(what, `${host} does not have it${detail}`, { data });
  }
  if (status === 401 || status === 403) {
    const why = `${host} refuses access (status ${status})${detail}`;
    return new IoError(what, why, { hint: LOGIN_HINT, data });
  }
  const why = status === 429
    ? `${host} has had too many requests (status 429)${detail}`
    : `${host} answers with status ${status}${detail}`;
  return new IoError(what, why, { data });
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
