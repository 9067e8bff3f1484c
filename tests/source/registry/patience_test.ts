import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError, IoError } from "../../../lib/errors.ts";
import { NO_PROGRESS } from "../../../lib/progress.ts";
import { NetworkFault } from "../../../lib/source/registry/network_fault.ts";
import {
  overcomeFaults,
  sendPatiently,
  unreachable,
} from "../../../lib/source/registry/patience.ts";
import { MAX_ATTEMPTS, Retries } from "../../../lib/source/registry/retries.ts";
import { Secrets } from "../../../lib/source/registry/secrets.ts";
import { type Misbehaviour, TestTiming, withRegistry } from "./fake_registry.ts";

/** Asks a server and tells the status, how often it was asked, and how long was waited in between. */
async function patiently(
  misbehave: Misbehaviour,
): Promise<{ outcome: number | Error; requestCount: number; waits: number[] }> {
  const timing = new TestTiming();
  return await withRegistry(async (registry) => {
    const patience = { timing, retries: new Retries(timing, NO_PROGRESS), secrets: new Secrets() };
    const request = { what: "a thing", url: new URL(registry.origin), signal: undefined };
    let outcome: number | Error;
    try {
      const answer = await sendPatiently(request, patience);
      await answer.drain();
      outcome = answer.status;
    } catch (error) {
      outcome = error as Error;
    }
    return { outcome, requestCount: registry.requests.length, waits: timing.waits };
  }, misbehave);
}

/** Refuses a few times, and is fine afterwards. */
function refuses(
  count: number,
  status: number,
  headers: Record<string, string> = {},
): Misbehaviour {
  return (_, response, { requests }) => {
    if (requests.length > count) response.end("fine");
    else response.writeHead(status, headers).end("{}");
    return true;
  };
}

Deno.test("sendPatiently tries again what may pass", async () => {
  for (const status of [408, 429, 500, 502, 503, 504]) {
    const { outcome, waits } = await patiently(refuses(2, status));
    assertEquals([outcome, waits], [200, [1000, 2000]]);
  }
});

Deno.test("sendPatiently waits as long as the server asks", async () => {
  assertEquals((await patiently(refuses(1, 429, { "retry-after": "9" }))).waits, [9000]);
  const dates = {
    date: "Wed, 21 Oct 2015 07:28:00 GMT",
    "retry-after": "Wed, 21 Oct 2015 07:28:03 GMT",
  };
  assertEquals((await patiently(refuses(1, 503, dates))).waits, [3000]);
});

Deno.test("sendPatiently gives up in the end", async () => {
  const { outcome, requestCount } = await patiently(refuses(Infinity, 503));
  assert(outcome instanceof IoError);
  assertStringIncludes(outcome.message, "answers with status 503");
  assertEquals(requestCount, MAX_ATTEMPTS);
});

Deno.test("sendPatiently asks once where another answer is not to be expected", async () => {
  for (const status of [400, 401, 403, 404, 410, 416]) {
    const { outcome, requestCount, waits } = await patiently(refuses(Infinity, status));
    assertEquals([outcome, requestCount, waits], [status, 1, []]);
  }
});

Deno.test("sendPatiently overcomes connections that break", async () => {
  const { outcome, waits } = await patiently((_, response, { requests }) => {
    if (requests.length > 3) response.end("fine");
    else response.destroy();
    return true;
  });
  assertEquals([outcome, waits.length > 0], [200, true]);
});

Deno.test("overcomeFaults tries again for the network alone", async () => {
  const timing = new TestTiming();
  const place = { what: "x", url: new URL("https://r.example.com/"), signal: undefined };
  const times = async (fault: Error) => {
    let count = 0;
    const error = await assertRejects(
      () =>
        overcomeFaults(place, new Retries(timing, NO_PROGRESS), () => {
          count++;
          return Promise.reject(fault);
        }),
      Error,
    );
    return [count, error.message];
  };
  const passing = new NetworkFault("the connection broke", true);
  const lasting = new NetworkFault("its certificate is not trusted", false);
  const text = "x: r.example.com cannot be reached: the connection broke";
  assertEquals(await times(passing), [MAX_ATTEMPTS, text]);
  assertEquals((await times(lasting))[0], 1);
  assertEquals((await times(new InputError("x", "is wrong")))[0], 1);
});

Deno.test("unreachable names a host once and passes the hint on", () => {
  const fault = new NetworkFault("it is gone", true, "bring it back");
  const error = unreachable("r.example.com", "r.example.com", fault);
  assertEquals([error.message, error.hint], [
    "r.example.com: it cannot be reached: it is gone",
    "bring it back",
  ]);
});
