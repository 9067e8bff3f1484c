import { assertEquals } from "@std/assert";
import { categoryOf, EXIT, EXIT_MEANINGS, exitCodeOf } from "../../cli/errors.ts";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";

Deno.test("exitCodeOf follows the contract", () => {
  assertEquals(exitCodeOf(new UsageError("a", "b")), 2);
  assertEquals(exitCodeOf(new InputError("a", "b")), 3);
  assertEquals(exitCodeOf(new IoError("a", "b")), 4);
  assertEquals(exitCodeOf(new Error("a")), 70);
  assertEquals(exitCodeOf(undefined), 70);
  assertEquals(exitCodeOf(new InterruptedError("a", "b")), 130);
  assertEquals(exitCodeOf(new InterruptedError("a", "b", { data: { signal: "SIGTERM" } })), 143);
});

Deno.test("categoryOf takes an error of the operating system for I/O, whatever the runtime makes of it", () => {
  assertEquals(categoryOf(Object.assign(new Error("x"), { code: "ENOENT" })), "io");
  assertEquals(categoryOf(new Error("No space left on device (os error 28)")), "io");
  assertEquals(
    categoryOf(Object.assign(new Error("x"), { code: "ERR_INVALID_ARG_TYPE" })),
    "internal",
  );
});

Deno.test("EXIT_MEANINGS explains every code", () => {
  assertEquals(
    Object.keys(EXIT_MEANINGS).map(Number),
    Object.values(EXIT).toSorted((a, b) => a - b),
  );
});
