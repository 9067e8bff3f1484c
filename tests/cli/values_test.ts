import { assertEquals, assertThrows } from "@std/assert";
import { choiceError, parseCount, parsePercent } from "../../cli/values.ts";
import { sourceDateEpoch } from "../../cli/commands/sources.ts";
import { UsageError } from "../../lib/errors.ts";

Deno.test("parseCount reads whole numbers within its range", () => {
  assertEquals(parseCount("1", "--jobs"), 1);
  assertEquals(parseCount("0", "--jobs", 0), 0);
  for (const text of ["0", "-1", "1.5", "1e3", "", "two", "99999999999999999"]) {
    assertThrows(() => parseCount(text, "--jobs"), UsageError, "--jobs: `");
  }
  assertThrows(() => parseCount("9", "--jobs", 1, 8), UsageError, "from 1 to 8");
});

Deno.test("parsePercent reads shares from 0 to 100", () => {
  assertEquals(["0%", "5%", "0.5%", "100%"].map((text) => parsePercent(text, "x")), [
    0,
    5,
    0.5,
    100,
  ]);
  for (const text of ["5", "%", "-1%", "101%", "5 %", "100.1%"]) {
    assertThrows(() => parsePercent(text, "--reserved"), UsageError, "wanted a share");
  }
});

Deno.test("choiceError suggests the nearest word", () => {
  const error = choiceError("tihgt", "--packing", "resync or tight", ["resync", "tight"]);
  assertEquals(error.message, "--packing: `tihgt`: wanted resync or tight");
  assertEquals(error.hint, "did you mean `tight`?");
});

Deno.test("sourceDateEpoch is 0 when unset or empty and refuses junk by its name", () => {
  assertEquals(sourceDateEpoch({ env: {} }), 0);
  assertEquals(sourceDateEpoch({ env: { SOURCE_DATE_EPOCH: "" } }), 0);
  assertEquals(sourceDateEpoch({ env: { SOURCE_DATE_EPOCH: "1700000000" } }), 1700000000);
  for (const text of ["-1", "now", "1.5"]) {
    assertThrows(
      () => sourceDateEpoch({ env: { SOURCE_DATE_EPOCH: text } }),
      UsageError,
      "SOURCE_DATE_EPOCH",
    );
  }
});
