import { assert, assertEquals, assertThrows } from "@std/assert";
import { readFileSync } from "node:fs";
import {
  abortError,
  BlessfsError,
  ERROR_CODES,
  type ErrorCode,
  InputError,
  InterruptedError,
  invariant,
  IoError,
  throwIfAborted,
  UsageError,
} from "../lib/errors.ts";
import { FINDING_CODES } from "../lib/ext4/volume/judge.ts";
import { plainError, rebuiltError } from "../lib/io/thread.ts";
import { listFiles, ROOT } from "./tidy/repository.ts";

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

Deno.test("each error has a code: its own, or what its class and the system's code mean", () => {
  const system = (code: string) => Object.assign(new Error("it failed"), { code });
  const cases: readonly (readonly [BlessfsError, ErrorCode])[] = [
    [new UsageError("what", "why"), "invalidOption"],
    [new InputError("what", "why"), "damaged"],
    [new InputError("what", "why", { code: "notFound" }), "notFound"],
    [new IoError("what", "why"), "ioFailed"],
    [new IoError("what", "why", { data: { code: "ENOSPC" } }), "noSpace"],
    [new IoError("what", "why", { cause: system("EACCES") }), "permissionDenied"],
    [new IoError("what", "why", { cause: system("EIO") }), "ioFailed"],
    // A code in the data of an input is not the system's.
    [new InputError("what", "why", { data: { code: "ENOENT" } }), "damaged"],
    [new InterruptedError("what", "why"), "interrupted"],
  ];
  for (const [error, code] of cases) {
    assertEquals(error.code, code);
    assertEquals((rebuiltError(plainError(error)) as BlessfsError).code, code);
  }
});

Deno.test("abortError keeps the reason of the signal", () => {
  const reason = new Error("the user left");
  const error = abortError(AbortSignal.abort(reason));
  assertEquals([error.code, error.cause], ["interrupted", reason]);
  assertEquals(abortError(AbortSignal.abort(error)), error);
});

Deno.test("every code is used, and docs/ERRORS.md has its meaning", () => {
  const page = readFileSync(new URL("../docs/ERRORS.md", import.meta.url), "utf8");
  const documented = [...page.matchAll(/^\| `(\w+)` +\| (.+?) +\|$/gm)]
    .map(([, code, meaning]) => [code!, meaning!])
    .filter(([code]) => !/Error$|^code$/.test(code!));
  assertEquals(documented, [...Object.entries(ERROR_CODES), ...Object.entries(FINDING_CODES)]);
  const text = listFiles("lib/").concat(listFiles("probe/"))
    .map((path) => readFileSync(new URL(path, ROOT), "utf8")).join("\n");
  const unused = [...Object.keys(ERROR_CODES), ...Object.keys(FINDING_CODES)]
    .filter((code) => !text.includes(`"${code}"`));
  assertEquals(unused, []);
});
