/**
 * Secrets, and keeping them out of what people get to read.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { InputError } from "../../errors.ts";
import { parseSecretJson } from "../json.ts";

/** What proves who asks. */
export type Credentials =
  | { readonly kind: "password"; readonly username: string; readonly password: string }
  /** Is exchanged for tokens; OAuth calls it a refresh token. */
  | { readonly kind: "identityToken"; readonly token: string }
  /** Is shown to the registry as it is. */
  | { readonly kind: "registryToken"; readonly token: string };

/** The header for a name and a password. RFC 7617. */
export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, "utf8").toString("base64")}`;
}

/** Whether a value can stand in a header as a token. */
export function isToken(value: unknown): value is string {
  return typeof value === "string" && value.length <= 1 << 16 && /^[\x21-\x7e]+$/.test(value);
}

/** Remembers secrets and takes them out of texts of others, such as the error of a server that shows what it got. */
export class Secrets {
  readonly #values = new Set<string>();

  add(value: string): void {
    // Shorter ones would only tell, by the gaps, what they are.
    if (value.length >= 4) this.#values.add(value);
  }

  hide(text: string): string {
    let shown = text;
    for (const value of this.#values) shown = shown.replaceAll(value, "***");
    return shown;
  }
}

/** An object of JSON whose fields were not looked at. */
export type SecretObject = Readonly<Record<string, unknown>>;

/**
 * Parses a document that holds secrets. Unlike for other documents, no error shows any part of it.
 *
 * @throws {InputError} when it is no JSON object
 */
export function parseSecretObject(bytes: Uint8Array, what: string): SecretObject {
  const object = asSecretObject(parseSecretJson(bytes, what));
  if (!object) throw new InputError(what, "is no JSON object");
  return object;
}

/** The value if it is an object. */
export function asSecretObject(value: unknown): SecretObject | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  return value as SecretObject;
}

/** A field of the document itself that is a string and not empty. */
export function secretText(object: SecretObject, key: string): string | undefined {
  const value = Object.hasOwn(object, key) ? object[key] : undefined;
  return typeof value === "string" && value !== "" ? value : undefined;
}
