import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import {
  asArray,
  asObject,
  asSizeBytes,
  asString,
  displayText,
  eachOf,
  JSON_DEPTH_MAX,
  optional,
  parseJson,
  parseJsonObject,
  required,
  showJson,
} from "../../lib/source/json.ts";

const PLACE = { what: "doc", field: "" };
const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("parseJson refuses what is not valid JSON in UTF-8", () => {
  assertThrows(() => parseJson(bytes("{"), "doc"), InputError, "doc: is not valid JSON");
  assertThrows(() => parseJson(new Uint8Array([0x22, 0xff, 0x22]), "doc"), InputError);
  assertThrows(() => parseJson(new Uint8Array(0), "doc"), InputError);
  const deep = "[".repeat(1_000_000);
  assertThrows(() => parseJson(bytes(deep), "doc"), InputError);
});

Deno.test("parseJson shows nothing of what it cannot read", () => {
  const error = assertThrows(() => parseJson(bytes('{"hunter2"'), "doc"), InputError);
  assertEquals([error.message, error.cause], ["doc: is not valid JSON", undefined]);
});

Deno.test("parseJsonObject wants an object", () => {
  for (const text of ["[]", "null", "1", '"x"']) {
    assertThrows(() => parseJsonObject(bytes(text), "doc"), InputError, "wanted an object");
  }
  assertEquals(parseJsonObject(bytes('\ufeff{"a":1}'), "doc"), { a: 1 });
});

Deno.test("required and optional name the field, what was found and what was wanted", () => {
  const object = { a: { b: [1] }, n: null };
  const inner = () => required(object.a, "b", { what: "doc", field: "a" }, eachOf(asString));
  assertThrows(inner, InputError, "doc: a.b[0] is 1: wanted a string");
  const missing = () => required(object, "x", PLACE, asObject);
  assertThrows(missing, InputError, "doc: x is missing: wanted an object");
  assertEquals(optional(object, "n", PLACE, asString), undefined);
  assertEquals(optional(object, "x", PLACE, asString), undefined);
  assertThrows(() => optional({ x: "1" }, "x", PLACE, asArray), InputError, 'x is "1"');
});

Deno.test("required does not find what the prototype has", () => {
  for (const key of ["constructor", "toString", "__proto__"]) {
    assertThrows(() => required({}, key, PLACE, asObject), InputError, "missing");
  }
});

Deno.test("asSizeBytes wants a whole number that is exact", () => {
  assertEquals(asSizeBytes(0, PLACE), 0);
  assertEquals(asSizeBytes(2 ** 53 - 1, PLACE), 2 ** 53 - 1);
  for (const value of [-1, 1.5, 2 ** 53, NaN, Infinity, "1", null, 1e400]) {
    assertThrows(() => asSizeBytes(value, PLACE), InputError, "whole number");
  }
});

Deno.test("showJson is short and safe to print", () => {
  assertEquals(showJson("\x1b[2J\u202e\x9b"), '"\\u001b[2J\\u{202e}\\u{9b}"');
  assertEquals(showJson("x".repeat(500)).length < 100, true);
  assertEquals(showJson({ a: 1 }), "an object");
});

Deno.test("parseJson takes documents that nest to the limit, and refuses those that nest deeper", () => {
  const nested = (depth: number, open: string, close: string) =>
    new TextEncoder().encode(open.repeat(depth) + "1" + close.repeat(depth));
  for (const [open, close] of [["[", "]"], ['{"a":', "}"]] as const) {
    parseJson(nested(JSON_DEPTH_MAX, open, close), "it");
    for (const depth of [JSON_DEPTH_MAX + 1, 1_000_000]) {
      assertThrows(
        () => parseJson(nested(depth, open, close), "it"),
        InputError,
        `it: nests more than ${JSON_DEPTH_MAX} deep at byte ${JSON_DEPTH_MAX * open.length}`,
      );
    }
  }
  // Brackets in texts and one after the other nest nothing.
  const brackets = "[{".repeat(1000);
  assertEquals(parseJson(new TextEncoder().encode(JSON.stringify([brackets, '\\"[', {}])), "it"), [
    brackets,
    '\\"[',
    {},
  ]);
  const flat = Array.from({ length: 1000 }, () => [[]]);
  assertEquals(parseJson(new TextEncoder().encode(JSON.stringify(flat)), "it"), flat);
});

Deno.test("displayText shows what is short whole, and of what is long the two ends", () => {
  const text = "a".repeat(999) + "\x1b";
  assertEquals(displayText(text), "a".repeat(999) + "\\x1b");
  assertEquals(
    displayText(`${"a".repeat(5000)}${"b".repeat(200)}`),
    `${"a".repeat(800)}...${"b".repeat(200)}`,
  );
});
