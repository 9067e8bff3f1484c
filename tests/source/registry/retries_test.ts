import { assertEquals, assertRejects } from "@std/assert";
import { InterruptedError } from "../../../lib/errors.ts";
import { NO_PROGRESS } from "../../../lib/progress.ts";
import type { Answer } from "../../../lib/source/registry/http.ts";
import {
  FIRST_WAIT_MILLISECONDS,
  isWorthRetrying,
  LONGEST_WAIT_MILLISECONDS,
  MAX_ATTEMPTS,
  Retries,
  retryAfterMilliseconds,
} from "../../../lib/source/registry/retries.ts";
import { TestTiming } from "./fake_registry.ts";

Deno.test("isWorthRetrying tells what may pass from what will not", () => {
  assertEquals([408, 429, 500, 502, 503, 504].every(isWorthRetrying), true);
  assertEquals([200, 206, 307, 400, 401, 403, 404, 416].some(isWorthRetrying), false);
});

Deno.test("retryAfterMilliseconds reads seconds, and dates by the answer's own", () => {
  const now = "Wed, 21 Oct 2015 07:28:00 GMT";
  const cases: [string | undefined, string | undefined, number | undefined][] = [
    ["0", undefined, 0],
    [" 120 ", undefined, 120_000],
    ["Wed, 21 Oct 2015 07:28:07 GMT", now, 7000],
    ["Wed, 21 Oct 2015 07:27:00 GMT", now, 0],
    ["Wed, 21 Oct 2015 07:28:07 GMT", undefined, undefined],
    ["Wed, 99 Xxx 2015 07:28:07 GMT", now, undefined],
    ["tomorrow", now, undefined],
    ["-5", now, undefined],
    ["1e9", now, undefined],
    [undefined, now, undefined],
  ];
  for (const [retryAfter, date, wanted] of cases) {
    assertEquals(retryAfterMilliseconds(retryAfter, date), wanted, retryAfter);
  }
});

function refusal(headers: Record<string, string>): Answer {
  return { header: (name: string) => headers[name] } as unknown as Answer;
}

Deno.test("Retries waits twice as long each time, and gives up", async () => {
  const timing = new TestTiming();
  const retries = new Retries(timing, NO_PROGRESS);
  const outcomes: boolean[] = [];
  for (let i = 0; i < MAX_ATTEMPTS; i++) outcomes.push(await retries.again(undefined));
  assertEquals(outcomes, [true, true, true, true, false]);
  assertEquals(timing.waits, [1, 2, 4, 8].map((factor) => factor * FIRST_WAIT_MILLISECONDS));
});

Deno.test("Retries starts anew after a success", async () => {
  const timing = new TestTiming();
  const retries = new Retries(timing, NO_PROGRESS, 2);
  for (let i = 0; i < 10; i++) {
    assertEquals(await retries.again(undefined), true);
    retries.reset();
  }
  assertEquals(new Set(timing.waits), new Set([FIRST_WAIT_MILLISECONDS]));
});

Deno.test("Retries waits as long as it is asked to, within reason", async () => {
  const timing = new TestTiming();
  const retries = new Retries(timing, NO_PROGRESS);
  await retries.again(undefined, refusal({ "retry-after": "17" }));
  await retries.again(undefined, refusal({ "retry-after": "86400" }));
  await retries.again(undefined, refusal({ "retry-after": "soon" }));
  assertEquals(timing.waits, [17_000, LONGEST_WAIT_MILLISECONDS, 4 * FIRST_WAIT_MILLISECONDS]);
});

Deno.test("Retries ends its wait when it is told to", async () => {
  const controller = new AbortController();
  const timing = {
    ...new TestTiming(),
    alarm: () => () => {},
    wait: () => {
      controller.abort();
      return Promise.reject(new Error("the wait was cut short"));
    },
  };
  const retries = new Retries(timing, NO_PROGRESS);
  await assertRejects(() => retries.again(controller.signal), InterruptedError);
});
