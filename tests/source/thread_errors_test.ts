import { assert, assertEquals } from "@std/assert";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { plainError, rebuiltError } from "../../lib/source/thread_errors.ts";

Deno.test("an error is the same after crossing as plain data", () => {
  const details = { hint: "do this", data: { offset: 5, path: null, ok: true, name: "x" } };
  for (const ErrorClass of [InputError, IoError, UsageError, InterruptedError]) {
    const error = new ErrorClass("a: b: c", "why: so", details);
    const rebuilt = rebuiltError(structuredClone(plainError(error)));
    assert(rebuilt instanceof ErrorClass);
    assertEquals(rebuilt.message, error.message);
    assertEquals(rebuilt.name, error.name);
    assertEquals(rebuilt.hint, "do this");
    assertEquals<unknown>({ ...rebuilt.data }, details.data);
  }
});

Deno.test("an unexpected error keeps its message and stack, and is no expected one", () => {
  const error = new TypeError("x is undefined");
  const rebuilt = rebuiltError(structuredClone(plainError(error)));
  assertEquals(rebuilt.message, "x is undefined");
  assertEquals(rebuilt.stack, error.stack!);
  assert(!(rebuilt instanceof InputError));
  assertEquals(rebuiltError(plainError("thrown text")).message, "thrown text");
});
