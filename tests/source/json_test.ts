import { assertEquals, assertThrows } from "@std/assert";
import * as v from "valibot";
import { InputError } from "../../lib/errors.ts";
import {
  checkJson,
  displayText,
  field,
  fields,
  JSON_DEPTH_MAX,
  jsonFault,
  listOf,
  maybe,
  parseJson,
  parseJsonObject,
  SIZE_BYTES,
  TEXT,
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

Deno.test("checkJson names the field, what was found and what was wanted", () => {
  const schema = fields({
    a: fields({ b: listOf(TEXT) }),
    n: maybe(TEXT),
    o: v.nullable(SIZE_BYTES),
  });
  const good = { a: { b: ["x"] }, n: null, o: null };
  const check = (value: unknown) => checkJson(schema, value, PLACE);
  assertEquals(check({ ...good, more: 1 }), { a: { b: ["x"] }, n: undefined, o: null });
  assertEquals(check({ a: { b: [] }, o: 7 }).o, 7);
  const wrong: readonly (readonly [unknown, string])[] = [
    [{ ...good, a: { b: [1] } }, "a.b[0] is 1: wanted a string"],
    [{ n: null, o: null }, "a is missing: wanted an object"],
    [{ a: { b: [] } }, "o is missing: wanted a whole number of bytes"],
    [{ ...good, n: 1 }, "n is 1: wanted a string"],
    [{ ...good, a: { b: "1" } }, 'a.b is "1": wanted an array'],
    [[], "the document is an array: wanted an object"],
  ];
  for (const [value, why] of wrong) {
    const error = assertThrows(() => check(value), InputError);
    assertEquals(error.message, `doc: ${why}`);
  }
});

Deno.test("field does not find what the prototype has", () => {
  for (const key of ["constructor", "toString", "__proto__"]) {
    assertEquals(field({}, key), undefined);
  }
  assertEquals(field({ toString: 1 }, "toString"), 1);
});

Deno.test("SIZE_BYTES wants a whole number that is exact", () => {
  for (const value of [0, 2 ** 53 - 1]) assertEquals(checkJson(SIZE_BYTES, value, PLACE), value);
  for (const value of [-1, 1.5, 2 ** 53, NaN, Infinity, "1", null, 1e400]) {
    assertThrows(() => checkJson(SIZE_BYTES, value, PLACE), InputError, "whole number");
  }
});

Deno.test("jsonFault shows a value short and safe to print, or not at all", () => {
  const shown = (value: unknown) =>
    jsonFault(PLACE, value, "x").why.slice("the document is ".length);
  assertEquals(shown("\x1b[2J\u202e\x9b"), '"\\u001b[2J\\u{202e}\\u{9b}": wanted x');
  assertEquals(shown("x".repeat(500)).length < 100, true);
  assertEquals(shown({ a: 1 }), "an object: wanted x");
  const hidden = jsonFault({ ...PLACE, isSecret: true }, "hunter22", "x");
  assertEquals(hidden.message, "doc: the document is not valid: wanted x");
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
