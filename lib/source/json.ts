/**
 * Reading foreign JSON: every field is checked by a schema before it is used, and an error names the document, the field, what
 * was found and what was wanted. In a schema, the message of each part says what is wanted.
 *
 * @module
 */
import * as v from "valibot";
import { displayText } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";

export { displayText } from "../bytes/byte_string.ts";

/** A JSON object whose fields were not looked at yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

export interface JsonLocation {
  /** The document, safe to print. */
  readonly what: string;
  /** The way to the value, such as `manifests[2].platform`; empty for the document itself. */
  readonly field: string;
  /** The document may hold secrets: errors name its fields, and show no value. */
  readonly isSecret?: boolean;
}

const SHOWN_CHARACTERS = 80;
/** Nested objects and arrays. Deeper ones can be read, but writing or walking them takes as many nested calls. */
export const JSON_DEPTH_MAX = 256;

export function parseJsonObject(bytes: Uint8Array, what: string): JsonObject {
  return readJson(OBJECT, bytes, what);
}

/**
 * Parses a document. The error shows no part of it, nor does its cause: a parser's message quotes the text, which may be that
 * of a file of secrets.
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

/** A value for a message: cut short and safe to print. */
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

/** A number of bytes: whole, not negative, exact. */
export const SIZE_BYTES = v.pipe(
  v.number("a whole number of bytes"),
  v.safeInteger("a whole number of bytes"),
  v.minValue(0, "a whole number of bytes"),
);

const OBJECT = v.custom<JsonObject>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "an object",
);

/** An object with certain fields; others are left out. The error for a missing field says what its schema wants. */
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

/** A field that may be absent or null, which is the same in image configs; undefined then. */
export function maybe<S extends v.GenericSchema>(
  schema: S,
): v.GenericSchema<unknown, v.InferOutput<S> | undefined> {
  const absent = v.transform((value: v.InferOutput<S> | null | undefined) => value ?? undefined);
  return v.pipe(v.nullish(schema), absent) as ReturnType<typeof maybe<S>>;
}

/** What a schema makes of a value. @throws {InputError} for the first part of the value that is not as it should be */
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

/** What a schema makes of a document. @throws {InputError} as {@link parseJson} and {@link checkJson} do */
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
        code: "limitExceeded",
        data: { offset: at, expected: JSON_DEPTH_MAX },
      });
    }
  }
}
