import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../lib/errors.ts";
import { Warnings } from "../lib/warnings.ts";

Deno.test("Warnings counts by kind and keeps the first case of each", () => {
  const warnings = new Warnings();
  warnings.add("z", "first", "was cut");
  warnings.add("a", "other", "was left out", 3);
  warnings.add("z", "second", "was cut");
  assertEquals(warnings.list(), [
    { kind: "a", message: "other: was left out", count: 3 },
    { kind: "z", message: "first: was cut", count: 2 },
  ]);
});

Deno.test("Warnings under strict makes the first one an error", () => {
  const error = assertThrows(
    () => new Warnings(true).add("kind", "a/b", "was cut"),
    InputError,
    "a/b: was cut",
  );
  assertEquals(error.data, { kind: "kind" });
});
