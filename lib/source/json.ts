/**
 * Reading JSON that somebody else wrote: every field is checked before it is used, and an error names the document, the
 * field, what was found and what was wanted.
 *
 * @module
 */
import { byteStringFromText, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";

/** A JSON object whose fields were not looked at yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Where a value stands, for errors. */
export interface JsonPlace {
  /** The document, safe to print. */
  readonly what: string;
  /** The way to the value, such as `manifests[2].platform`; empty for the document itself. */
  readonly field: string;
}

const SHOWN_CHARACTERS = 80;
/**
 * Objects and arrays inside each other. Reading deeper ones is no trouble, but writing them, or walking them, takes as many
 * calls inside each other.
 */
export const JSON_DEPTH_MAX = 256;

/** Texts that are longer lose their middle in messages. */
const SHOWN_TEXT_CHARACTERS = 1000;
const SHOWN_END_CHARACTERS = 200;

/** Ordinary text made safe for a terminal, and not longer than anybody reads. */
export function displayText(text: string): string {
  const start = SHOWN_TEXT_CHARACTERS - SHOWN_END_CHARACTERS;
  const shown = text.length <= SHOWN_TEXT_CHARACTERS
    ? text
    : `${text.slice(0, start)}...${text.slice(-SHOWN_END_CHARACTERS)}`;
  return displayName(byteStringFromText(shown));
}

/**
 * Parses a document that must be an object.
 *
 * @param what the document's name in errors
 * @throws {InputError} when it is no JSON, or no object
 */
export function parseJsonObject(bytes: Uint8Array, what: string): JsonObject {
  return asObject(parseJson(bytes, what), { what, field: "" });
}

/** @throws {InputError} when the bytes are no JSON in UTF-8, or nest deeper than {@link JSON_DEPTH_MAX} */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  checkDepth(bytes, what);
  try {
    return decodeJson(bytes);
  } catch (cause) {
    throw new InputError(what, `is no JSON: ${displayText((cause as Error).message)}`, { cause });
  }
}

/** The same for a document that holds secrets: the error shows no part of it, nor has it a cause that does. */
export function parseSecretJson(bytes: Uint8Array, what: string): unknown {
  checkDepth(bytes, what);
  try {
    return decodeJson(bytes);
  } catch {
    throw new InputError(what, "is no JSON");
  }
}

function decodeJson(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
}

/** The place of a field inside an object or array. */
export function inside(place: JsonPlace, key: string | number): JsonPlace {
  const step = typeof key === "number" ? `[${key}]` : place.field === "" ? key : `.${key}`;
  return { what: place.what, field: place.field + step };
}

/** The error for a value that is not what it should be. */
export function jsonFault(place: JsonPlace, found: unknown, wanted: string): InputError {
  const field = place.field === "" ? "the document" : displayText(place.field);
  return new InputError(place.what, `${field} is ${showJson(found)}: wanted ${wanted}`);
}

/** A value for a message: cut short and safe to print. */
export function showJson(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value);
  return displayText(
    text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text,
  );
}

/** @throws {InputError} when the value is no object */
export function asObject(value: unknown, place: JsonPlace): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw jsonFault(place, value, "an object");
  }
  return value as JsonObject;
}

/** @throws {InputError} when the value is no array */
export function asArray(value: unknown, place: JsonPlace): readonly unknown[] {
  if (!Array.isArray(value)) throw jsonFault(place, value, "an array");
  return value;
}

/** @throws {InputError} when the value is no string */
export function asString(value: unknown, place: JsonPlace): string {
  if (typeof value !== "string") throw jsonFault(place, value, "a string");
  return value;
}

/**
 * A number of bytes: whole, not negative, exact.
 *
 * @throws {InputError} when the value is none
 */
export function asSizeBytes(value: unknown, place: JsonPlace): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw jsonFault(place, value, "a whole number of bytes");
  }
  return value;
}

/** A field that may be absent or null, which is the same in image configs. */
export function optional<T>(
  object: JsonObject,
  key: string,
  place: JsonPlace,
  read: (value: unknown, place: JsonPlace) => T,
): T | undefined {
  const value = field(object, key);
  return value === undefined || value === null ? undefined : read(value, inside(place, key));
}

/** A field that must be there. */
export function required<T>(
  object: JsonObject,
  key: string,
  place: JsonPlace,
  read: (value: unknown, place: JsonPlace) => T,
): T {
  return read(field(object, key), inside(place, key));
}

/** Each element of an array. */
export function eachOf<T>(
  read: (value: unknown, place: JsonPlace) => T,
): (value: unknown, place: JsonPlace) => T[] {
  return (value, place) => asArray(value, place).map((item, i) => read(item, inside(place, i)));
}

/** A field of the document itself, never of the prototype. */
export function field(object: JsonObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** `[` and `{`, `]` and `}`: they differ in one bit. */
const OPENING = 0x5b;
const CLOSING = 0x5d;
const CURLY_BIT = 0x20;

/** Looks at brackets outside of strings alone; whether all is well-formed is for the parser to say. */
function checkDepth(bytes: Uint8Array, what: string): void {
  let depth = 0;
  let isInString = false;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (isInString) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) isInString = false;
    } else if (byte === QUOTE) isInString = true;
    else if ((byte & ~CURLY_BIT) === CLOSING) depth--;
    else if ((byte & ~CURLY_BIT) === OPENING && ++depth > JSON_DEPTH_MAX) {
      throw new InputError(what, `nests more than ${JSON_DEPTH_MAX} deep at byte ${at}`, {
        data: { offset: at, expected: JSON_DEPTH_MAX },
      });
    }
  }
}
