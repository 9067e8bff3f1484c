import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { DEFAULT_SOURCE_LIMITS, ImageBudget } from "../../lib/source/types.ts";

Deno.test("ImageBudget adds up over layers, to the limit and no further", () => {
  const budget = new ImageBudget({ ...DEFAULT_SOURCE_LIMITS, unpackedBytes: 10, imageEntries: 3 });
  budget.takeUnpacked(4, "a");
  budget.takeUnpacked(6, "b");
  assertThrows(() => budget.takeUnpacked(1, "b"), InputError, "b: with it the image inflates to");
  budget.takeEntries(3, "a");
  try {
    budget.takeEntries(1, "b");
  } catch (error) {
    assertEquals((error as InputError).data["limit"], "imageEntries");
    assertEquals((error as InputError).message, "b: with it the image has more than 3 entries");
    return;
  }
  throw new Error("it was accepted");
});
