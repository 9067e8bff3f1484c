import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError, InterruptedError, IoError } from "../../../lib/errors.ts";
import { type Answer, NetworkFault, sendRequest } from "../../../lib/source/registry/http.ts";
import {
  FIRST_WAIT_MILLISECONDS,
  isWorthRetrying,
  LONGEST_WAIT_MILLISECONDS,
  MAX_ATTEMPTS,
  Retries,
  retryAfterMilliseconds,
  sendWithRetries,
  statusFault,
  unreachable,
  withRetries,
} from "../../../lib/source/registry/retry.ts";
import {
  errorBody,
  type Misbehaviour,
  sendCut,
  testSession,
  TestTiming,
  withRegistry,
} from "./fake_registry.ts";

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
  const retries = new Retries(testSession(timing));
  const outcomes: boolean[] = [];
  for (let i = 0; i < MAX_ATTEMPTS; i++) outcomes.push(await retries.again(undefined));
  assertEquals(outcomes, [true, true, true, true, false]);
  assertEquals(timing.waits, [1, 2, 4, 8].map((factor) => factor * FIRST_WAIT_MILLISECONDS));
});

Deno.test("Retries starts anew after a success", async () => {
  const timing = new TestTiming();
  const retries = new Retries(testSession(timing), 2);
  for (let i = 0; i < 10; i++) {
    assertEquals(await retries.again(undefined), true);
    retries.reset();
  }
  assertEquals(new Set(timing.waits), new Set([FIRST_WAIT_MILLISECONDS]));
});

Deno.test("Retries waits as long as it is asked to, within reason", async () => {
  const timing = new TestTiming();
  const retries = new Retries(testSession(timing));
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
  const retries = new Retries(testSession(timing));
  await assertRejects(() => retries.again(controller.signal), InterruptedError);
});

/** Asks a server and tells the status, how often it was asked, and how long was waited in between. */
async function patiently(
  misbehave: Misbehaviour,
): Promise<{ outcome: number | Error; requestCount: number; waits: number[] }> {
  const timing = new TestTiming();
  return await withRegistry(async (registry) => {
    const session = testSession(timing);
    const request = { what: "a thing", url: new URL(registry.origin), signal: undefined };
    let outcome: number | Error;
    try {
      const answer = await sendWithRetries(request, session, new Retries(session));
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

Deno.test("sendWithRetries tries again what may pass", async () => {
  for (const status of [408, 429, 500, 502, 503, 504]) {
    const { outcome, waits } = await patiently(refuses(2, status));
    assertEquals([outcome, waits], [200, [1000, 2000]]);
  }
});

Deno.test("sendWithRetries waits as long as the server asks", async () => {
  assertEquals((await patiently(refuses(1, 429, { "retry-after": "9" }))).waits, [9000]);
  const dates = {
    date: "Wed, 21 Oct 2015 07:28:00 GMT",
    "retry-after": "Wed, 21 Oct 2015 07:28:03 GMT",
  };
  assertEquals((await patiently(refuses(1, 503, dates))).waits, [3000]);
});

Deno.test("sendWithRetries gives up in the end", async () => {
  const { outcome, requestCount } = await patiently(refuses(Infinity, 503));
  assert(outcome instanceof IoError);
  assertStringIncludes(outcome.message, "answers with status 503");
  assertEquals(requestCount, MAX_ATTEMPTS);
});

Deno.test("sendWithRetries asks once where another answer is not to be expected", async () => {
  for (const status of [400, 401, 403, 404, 410, 416]) {
    const { outcome, requestCount, waits } = await patiently(refuses(Infinity, status));
    assertEquals([outcome, requestCount, waits], [status, 1, []]);
  }
});

Deno.test("sendWithRetries overcomes connections that break", async () => {
  const { outcome, waits } = await patiently((_, response, { requests }) => {
    if (requests.length > 3) response.end("fine");
    else response.destroy();
    return true;
  });
  assertEquals([outcome, waits.length > 0], [200, true]);
});

Deno.test("withRetries tries again for the network alone", async () => {
  const timing = new TestTiming();
  const place = { what: "x", url: new URL("https://r.example.com/"), signal: undefined };
  const times = async (fault: Error) => {
    let count = 0;
    const error = await assertRejects(
      () =>
        withRetries(place, new Retries(testSession(timing)), () => {
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

Deno.test("unreachable names a host once and passes remedies on", () => {
  const remedies = [{ option: "plainHttp", change: "set" }] as const;
  const fault = new NetworkFault("it is gone", true, { remedies });
  const error = unreachable("r.example.com", "r.example.com", fault);
  assertEquals(error.message, "r.example.com: it cannot be reached: it is gone");
  assertEquals(error.remedies, remedies);
});

async function faultOf(status: number, body: string | Uint8Array): Promise<InputError | IoError> {
  return await withRegistry(async (registry) => {
    const url = new URL(registry.origin);
    const request = { what: "app:v1", url, signal: undefined };
    const answer = await sendRequest(request, new TestTiming());
    const fault = await statusFault(answer, "app:v1", testSession());
    assertStringIncludes(fault.message, `app:v1: ${registry.host} `);
    assertEquals(fault.data["status"], status);
    return fault;
  }, (_, response) => {
    response.writeHead(status).end(body);
    return true;
  });
}

Deno.test("statusFault tells what is missing from what is refused", async () => {
  const missing = await faultOf(404, JSON.stringify(errorBody("MANIFEST_UNKNOWN", "no such tag")));
  assert(missing instanceof InputError);
  assertStringIncludes(missing.message, "does not have it: MANIFEST_UNKNOWN: no such tag");
  for (const status of [401, 403]) {
    const refused = await faultOf(status, JSON.stringify(errorBody("DENIED", "not yours")));
    assert(refused instanceof IoError);
    assertStringIncludes(refused.message, `refuses access (status ${status}): DENIED: not yours`);
    assertStringIncludes(refused.hint!, "docker login");
  }
  assertStringIncludes((await faultOf(429, "")).message, "too many requests");
  assertStringIncludes((await faultOf(418, "")).message, "answers with status 418");
});

Deno.test("statusFault reads the errors of token servers", async () => {
  const oauth = await faultOf(400, '{"error":"invalid_grant","error_description":"expired"}');
  assertStringIncludes(oauth.message, "status 400: invalid_grant: expired");
  assertStringIncludes((await faultOf(400, '{"details":"wrong"}')).message, "status 400: wrong");
});

Deno.test("statusFault shows neither secrets nor escapes, and no more than a line", async () => {
  const message = `hunter22 \u001b[2J\r\n${"x".repeat(5000)}`;
  const fault = await faultOf(403, JSON.stringify(errorBody("\u001b]0;DENIED\u0007", message)));
  for (const part of ["hunter", "\u001b", "\r", "\n", "\u0007"]) {
    assert(!fault.message.includes(part), fault.message);
  }
  assertStringIncludes(fault.message, "***");
  assert(fault.message.length < 500);
});

Deno.test("statusFault has nothing to say of bodies that are no errors", async () => {
  const bodies = ["<html>\u001b[2J</html>", "{", "{}", "[]", '{"errors":{}}', '{"errors":[7]}', ""];
  for (const body of bodies) {
    const { message } = await faultOf(404, body);
    assert(message.endsWith("does not have it"), message);
  }
  const long = new TextEncoder().encode(`{"errors":[{"code":"${"x".repeat(100_000)}"}]}`);
  assert((await faultOf(404, long)).message.endsWith("does not have it"));
});

Deno.test("statusFault stands by the status when the body breaks off", async () => {
  await withRegistry(async (registry) => {
    const request = { what: "x", url: new URL(registry.origin), signal: undefined };
    const answer = await sendRequest(request, new TestTiming());
    const fault = await statusFault(answer, "x", testSession());
    assert(fault.message.endsWith("does not have it"), fault.message);
  }, (_, response) => {
    sendCut(response, 404, { "content-length": 100 }, new TextEncoder().encode("{"));
    return true;
  });
});
