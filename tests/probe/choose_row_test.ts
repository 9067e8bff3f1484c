import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { chooseRow, schemesOf } from "../../probe/schemes.ts";
import { optionsFor } from "./sources.ts";

const KIB = 1024;

Deno.test("chooseRow takes the first aligned row, or the fixed grid when nothing is aligned", () => {
  const usual = optionsFor(["a"], { thresholds: [16 * KIB, 64 * KIB] });
  const { kind, aligned } = chooseRow(schemesOf(usual), usual);
  assertEquals([kind, aligned?.thresholdBytes], ["aligned", 16 * KIB]);
  const none = optionsFor(["a"], { thresholds: [Infinity] });
  assertEquals(chooseRow(schemesOf(none), none).kind, "unaligned");
  const asIs = optionsFor(["a"], { asIs: true });
  assertEquals(chooseRow(schemesOf(asIs), asIs).kind, "as-is");
});

Deno.test("chooseRow tells rows of two grids apart, and says which there are", () => {
  const options = (row: string) => optionsFor(["a"], { grids: [64 * KIB, 128 * KIB], row });
  const schemes = schemesOf(options(""));
  assertEquals(chooseRow(schemes, options("unaligned @64K")).gridBytes, 64 * KIB);
  const { hint } = assertThrows(() => chooseRow(schemes, options("fastcdc")), UsageError);
  assertEquals(hint, "the rows are: fastcdc 64K:16K:256K @64K, fastcdc 128K:32K:512K @128K");
});
