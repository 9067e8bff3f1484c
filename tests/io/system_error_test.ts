import { assertEquals, assertStringIncludes } from "@std/assert";
import { constants } from "node:os";
import { openSync } from "node:fs";
import { IoError } from "../../lib/errors.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../../lib/io/system_error.ts";

function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

Deno.test("systemErrorFacts names what this runtime throws", () => {
  const facts = systemErrorFacts(thrownBy(() => openSync("/nowhere/at/all", "r")));
  assertEquals([facts?.code, facts?.text], ["ENOENT", "no such file or directory"]);
});

Deno.test("systemErrorFacts reads the number where the runtime gives no name", () => {
  const { ENOSPC, EFBIG } = constants.errno;
  assertEquals(
    systemErrorFacts(new Error(`No space left on device (os error ${ENOSPC})`))?.code,
    "ENOSPC",
  );
  const facts = systemErrorFacts(new Error(`File too large (os error ${EFBIG})`));
  assertEquals(facts?.code, "EFBIG");
  assertStringIncludes(facts?.hint ?? "", "ulimit -f");
});

Deno.test("systemErrorFacts keeps the runtime's words for an error that has no others here", () => {
  const error = Object.assign(new Error("EXDEV: cross-device link"), { code: "EXDEV" });
  assertEquals(systemErrorFacts(error), {
    code: "EXDEV",
    text: "EXDEV: cross-device link",
    hint: undefined,
  });
});

Deno.test("systemErrorFacts leaves everything else alone", () => {
  const others = [
    new TypeError("x is undefined"),
    Object.assign(new Error("bad"), { code: "ERR_INVALID_ARG_TYPE" }),
    new IoError("a", "No space left on device (os error 28)"),
    new Error("(os error 99999)"),
    "ENOENT",
    undefined,
  ];
  for (const other of others) assertEquals(systemErrorFacts(other), undefined);
});

Deno.test("ioErrorFrom says what could not be done with what, and why", () => {
  const cause = Object.assign(new Error("ENOSPC"), { code: "ENOSPC" });
  const error = ioErrorFrom("a\x1bb", "cannot write", cause);
  assertEquals(error.message, "a\\x1bb: cannot write: no space left on the device");
  assertEquals([error.data, error.cause], [{ path: "a\\x1bb", code: "ENOSPC" }, cause]);
  assertEquals(ioErrorFrom("p", undefined, "a string").message, "p: a string");
});

Deno.test("displayPath shows text as it is and control characters escaped", () => {
  assertEquals(displayPath("/tmp/\u00e4\u6f22"), "/tmp/\u00e4\u6f22");
  assertEquals(displayPath("a\n\u009b\u202e"), "a\\x0a\\u{9b}\\u{202e}");
});
