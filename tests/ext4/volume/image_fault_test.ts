import { assertEquals, assertStrictEquals } from "@std/assert";
import { InputError, IoError } from "../../../lib/errors.ts";
import { faultInImage } from "../../../lib/ext4/volume/judge.ts";

Deno.test("faultInImage says once which image a fault is in, and keeps hint and data", () => {
  const fault = new InputError("inode 7", "bad", { hint: "try another", data: { actual: 1 } });
  const named = faultInImage("a", fault) as InputError;
  assertEquals([named.message, named.hint], ["a: inode 7: bad", "try another"]);
  assertEquals([named.data, named.cause], [{ actual: 1 }, fault]);
  assertStrictEquals(faultInImage("a", named), named);
});

Deno.test("faultInImage leaves alone what is no fault of the image", () => {
  for (const error of [new IoError("disk", "gone"), new Error("other"), undefined]) {
    assertStrictEquals(faultInImage("a", error), error);
  }
});
