import { assertEquals } from "@std/assert";
import { plainJson } from "../../lib/bytes/byte_string.ts";

// deno-lint-ignore no-control-regex
const ORDERS = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/;

Deno.test("plainJson means what was given, and has nothing that a terminal obeys", () => {
  const all = Array.from({ length: 0x2100 }, (_, code) => String.fromCharCode(code)).join("");
  const document = { [all]: [all, { deep: all }], number: 1, none: null };
  for (const text of [plainJson(document), plainJson(document, 2)]) {
    assertEquals(JSON.parse(text), document);
    assertEquals(ORDERS.exec(text), null);
  }
  assertEquals(plainJson({ a: [1] }), '{"a":[1]}');
  assertEquals(plainJson({ a: 1 }, 2), '{\n  "a": 1\n}');
});
