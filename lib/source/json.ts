/**
 * Reads untrusted JSON: a schema checks every field before it is used, and errors name the document, the field, the value
 * found and the value expected. In a schema, each part's message says what is expected.
 *
 * @module
 */
import * as v from "valibot";
import { displayText } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";

export { displayText } from "../bytes/byte_string.ts";

/** A JSON object whose fields have not been checked. */
export type JsonObject = Readonly<Record<string, unknown>>;

export interface JsonLocation {
  /** The document, safe to print. */
  readonly what: string;
  /** The path of the value, such as `manifests[2].platform`; empty for the document itself. */
  readonly field: string;
  /** If the document may contain secrets, errors name its fields but show no values. */
  readonly isSecret?: boolean;
}

const SHOWN_CHARACTERS = 80;
/**
 * The limit on nested objects and arrays. Deeper ones can be parsed, but writing or walking them takes as many nested
 * calls.
 */
export const JSON_DEPTH_MAX = 256;

export function parseJsonObject(bytes: Uint8Array, what: string): JsonObject {
  return readJson(OBJECT, bytes, what);
}

/**
 * Parses a document. Neither the error nor its cause shows any of its text: a parser's message would quote it, and the file
 * may contain secrets.
 */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  checkDepth(bytes, what);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new InputError(what, "is not valid JSON");
  }
}

export function inside(location: JsonLocation, key: string | number): JsonLocation {
  const step = typeof key === "number" ? `[${key}]` : location.field === "" ? key : `.${key}`;
  return { ...location, field: location.field + step };
}

export function jsonFault(location: JsonLocation, found: unknown, wanted: string): InputError {
  const field = location.field === "" ? "the document" : displayText(location.field);
  const state = location.isSecret ? "not valid" : showJson(found);
  return new InputError(location.what, `${field} is ${state}: wanted ${wanted}`);
}

/** Formats a value for a message: truncated and safe to print. */
function showJson(value: unknown): string {
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value);
  return displayText(
    text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}...` : text,
  );
}

export const TEXT = v.string("a string");

/** A number of bytes: a non-negative safe integer. */
export const SIZE_BYTES = v.pipe(
  v.number("a whole number of bytes"),
  v.safeInteger("a whole number of bytes"),
  v.minValue(0, "a whole number of bytes"),
);

const OBJECT = v.custom<JsonObject>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "an object",
);

/** An object with certain fields; others are dropped. If a field is missing, the error is the one in its schema. */
export function fields<const E extends v.ObjectEntries>(
  entries: E,
): v.GenericSchema<unknown, v.InferOutput<v.ObjectSchema<E, undefined>>> {
  const wanted = (issue: v.BaseIssue<unknown>) => {
    const entry = entries[String(issue.path?.at(-1)?.key)];
    const schema = entry && "wrapped" in entry ? entry.wrapped : entry;
    return schema && "message" in schema ? String(schema.message) : "a value";
  };
  return v.pipe(OBJECT, v.object(entries, wanted)) as ReturnType<typeof fields<E>>;
}

export function listOf<S extends v.GenericSchema>(item: S): v.ArraySchema<S, string> {
  return v.array(item, "an array");
}

/** A field that may be absent or null, which are equivalent in image configs; both become undefined. */
export function maybe<S extends v.GenericSchema>(
  schema: S,
): v.GenericSchema<unknown, v.InferOutput<S> | undefined> {
  const absent = v.transform((value: v.InferOutput<S> | null | undefined) => value ?? undefined);
  return v.pipe(v.nullish(schema), absent) as ReturnType<typeof maybe<S>>;
}

/** Validates a value with a schema. @throws {InputError} for the first part of the value that is invalid */
export function checkJson<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  location: JsonLocation,
): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const at = (issue.path ?? []).reduce<JsonLocation>(
    (inner, { key }) => inside(inner, key as string | number),
    location,
  );
  throw jsonFault(at, issue.input, issue.message);
}

/** Parses and validates a document. @throws {InputError} as {@link parseJson} and {@link checkJson} do */
export function readJson<S extends v.GenericSchema>(
  schema: S,
  bytes: Uint8Array,
  what: string,
): v.InferOutput<S> {
  return checkJson(schema, parseJson(bytes, what), { what, field: "" });
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

/** Checks only brackets outside strings; the parser checks whether the document is well-formed. */
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
        code: "limitExceeded",
        data: { offset: at, expected: JSON_DEPTH_MAX },
      });
    }
  }
}
