import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InterruptedError, UsageError } from "../../../lib/errors.ts";
import {
  CompressThread,
  pause,
  storedSizeMeasure,
  storedSizes,
} from "../../../probe/units/stored_sizes.ts";
import { noise } from "../sources.ts";

const ZSTD = { kind: "zstd", level: 1 } as const;

/** Units of many lengths, half of them easy to compress. */
function* units(count: number, mostBytes: number): Generator<Uint8Array> {
  const bytes = noise(5, mostBytes);
  bytes.fill(7, mostBytes >> 1);
  for (let i = 0; i < count; i++) {
    yield bytes.subarray((i * 7919) % (mostBytes >> 2), mostBytes - i);
  }
}

Deno.test("storedSizes says the same on threads as on one, of units of every length", async () => {
  const here = storedSizeMeasure(ZSTD)!;
  for (const jobs of [1, 2, 4]) {
    const sizes = storedSizes(ZSTD, jobs)!;
    try {
      for (const [count, mostBytes] of [[40, 1 << 19], [7, 3 << 20], [3, 5 << 20]] as const) {
        const found: number[] = [];
        const wanted: number[] = [];
        for (const unit of units(count, mostBytes)) {
          const i = wanted.push(here(unit)) - 1;
          // What was lent may change at once.
          const lent = unit.slice();
          sizes.measure(lent, (size) => found[i] = (found[i] ?? 0) + size);
          lent.fill(0);
        }
        await sizes.settle();
        assertEquals(found, wanted, `${jobs} jobs, ${mostBytes} bytes`);
      }
      await sizes.settle();
    } finally {
      await sizes.close();
    }
  }
});

Deno.test("storedSizes leaves slow levels to a thread, and says what this thread would say", async () => {
  const slow = { kind: "zstd", level: 4 } as const;
  const here = storedSizeMeasure(slow)!;
  const sizes = storedSizes(slow, 1)!;
  try {
    const found: number[] = [];
    const wanted: number[] = [];
    for (const unit of units(12, 9 << 20)) {
      const i = wanted.push(here(unit)) - 1;
      sizes.measure(unit, (size) => found[i] = (found[i] ?? 0) + size);
      await pause(sizes, undefined);
    }
    await sizes.settle();
    assertEquals(found, wanted);
  } finally {
    await sizes.close();
  }
});

Deno.test("storedSizes waits no longer than until the signal fires", async () => {
  const sizes = storedSizes({ kind: "zstd", level: 19 }, 1)!;
  const controller = new AbortController();
  try {
    const unit = noise(3, 1 << 20);
    for (let i = 0; i < 64; i++) sizes.measure(unit, () => {});
    const waits = [pause(sizes, controller.signal), sizes.settle(controller.signal)];
    const checks = waits.map((wait) => assertRejects(() => wait, InterruptedError));
    controller.abort();
    await Promise.all(checks);
    await assertRejects(() => pause(sizes, controller.signal), InterruptedError);
  } finally {
    await sizes.close();
  }
});

Deno.test("storedSizes of a store that does not compress are none; bad levels are refused first", () => {
  assertEquals(storedSizes({ kind: "none" }), undefined);
  assertThrows(() => storedSizes({ kind: "zstd", level: 99 }), UsageError, "zstd:99");
});

Deno.test("CompressThread fails those who wait when it is gone", async () => {
  const thread = new CompressThread(ZSTD);
  thread.add(noise(1, 1000), () => {});
  await thread.close();
  await assertRejects(() => thread.settle(), Error, "was closed");
});
