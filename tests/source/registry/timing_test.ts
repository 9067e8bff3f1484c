import { assert, assertEquals, assertRejects } from "@std/assert";
import { InterruptedError, IoError } from "../../../lib/errors.ts";
import { interruption, REAL_TIMING } from "../../../lib/source/registry/timing.ts";

Deno.test("REAL_TIMING waits, and stops waiting when it is told to", async () => {
  await REAL_TIMING.wait(0, undefined);
  const controller = new AbortController();
  const waiting = REAL_TIMING.wait(1e9, controller.signal);
  controller.abort();
  await assertRejects(() => waiting);
});

Deno.test("REAL_TIMING rings unless it is told not to", async () => {
  const rung: string[] = [];
  const disarm = REAL_TIMING.alarm(0, () => rung.push("no"));
  disarm();
  await new Promise<void>((resolve) => REAL_TIMING.alarm(0, resolve));
  assertEquals(rung, []);
});

Deno.test("interruption passes on our own errors and words all others", () => {
  const reason = new IoError("layer 1", "the disk is full");
  assertEquals(interruption(AbortSignal.abort(reason)), reason);
  assert(interruption(AbortSignal.abort()) instanceof InterruptedError);
  assert(interruption(AbortSignal.abort("because")) instanceof InterruptedError);
});
