import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  BlessfsError,
  InputError,
  InterruptedError,
  invariant,
  IoError,
  throwIfAborted,
  UsageError,
} from "../lib/errors.ts";

Deno.test("errors say what and why, and carry hint, data and cause", () => {
  const cause = new Error("below");
  const error = new InputError("a/b", "ends early", { hint: "try again", data: { at: 7 }, cause });
  assertEquals(error.message, "a/b: ends early");
  assertEquals([error.name, error.category, error.hint], ["InputError", "input", "try again"]);
  assertEquals(error.data, { at: 7 });
  assertEquals(error.cause, cause);
  assert(error instanceof BlessfsError);
});

Deno.test("each class of error has its category", () => {
  const categories = [UsageError, IoError, InterruptedError].map((Class) =>
    new Class("what", "why").category
  );
  assertEquals(categories, ["usage", "io", "interrupted"]);
});

Deno.test("invariant throws an ordinary error, which is a fault of the program", () => {
  invariant(true, "holds");
  const error = assertThrows(() => invariant(false, "one is two"), Error, "one is two");
  assert(!(error instanceof BlessfsError));
});

Deno.test("throwIfAborted throws only when the signal fired", () => {
  const controller = new AbortController();
  throwIfAborted(undefined);
  throwIfAborted(controller.signal);
  controller.abort();
  assertThrows(() => throwIfAborted(controller.signal), InterruptedError);
});
