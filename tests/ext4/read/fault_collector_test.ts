import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { FaultCollector } from "../../../lib/ext4/read/fault_collector.ts";

Deno.test("FaultCollector keeps each fault of the input once, and lets others through", () => {
  const collector = new FaultCollector();
  const fail = (why: string) => () => {
    throw new InputError("image", why);
  };
  assertEquals(collector.attempt(() => 7), 7);
  for (const why of ["b", "a", "b"]) assertEquals(collector.attempt(fail(why)), undefined);
  assertEquals(collector.faults, ["image: b", "image: a"]);
  assertThrows(() => collector.attempt(() => assertEquals(1, 2)));
  assertEquals(collector.faults.length, 2);
});
