import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import { abortError, InputError, InterruptedError, IoError } from "../../../lib/errors.ts";
import {
  type HttpRequest,
  MAX_REDIRECTS,
  NetworkFault,
  networkFault,
  REAL_TIMING,
  sendRequest,
  UNTRUSTED_CERTIFICATE,
} from "../../../lib/source/registry/http.ts";
import { type FakeRegistry, type Misbehaviour, TestTiming, withRegistry } from "./fake_registry.ts";

const AUTHORIZATION = "Basic c2VjcmV0OnNlY3JldA==";

function request(url: string, more: Partial<HttpRequest> = {}): HttpRequest {
  return { what: "a thing", url: new URL(url), signal: undefined, ...more };
}

function redirect(to: (registry: FakeRegistry) => string, status = 307): Misbehaviour {
  return ({ path }, response, registry) => {
    if (path !== "/from") return;
    response.writeHead(status, { location: to(registry) });
    response.end("over there");
    return true;
  };
}

function plain(text: string): Misbehaviour {
  return (_, response) => {
    response.end(text);
    return true;
  };
}

/** What an ask gives when everything is as it should be. */
async function ask(asked: HttpRequest): Promise<string> {
  const answer = await sendRequest(asked, new TestTiming());
  return new TextDecoder().decode(await answer.bytes(1 << 20));
}

for (const status of [301, 302, 303, 307, 308]) {
  Deno.test(`sendRequest follows a ${status} to another host without the authorization`, async () => {
    await withRegistry(async (storage) => {
      await withRegistry(async (registry) => {
        const asked = request(`${registry.origin}/from`, {
          authorization: AUTHORIZATION,
          headers: { Range: "bytes=5-" },
        });
        assertEquals(await ask(asked), "content");
        assertEquals(registry.requests[0]!.headers.authorization, AUTHORIZATION);
        assertEquals(storage.requests.map(({ path }) => path), ["/blob?signature=1"]);
        assertEquals(storage.requests[0]!.headers.authorization, undefined);
        assertEquals(storage.requests[0]!.headers.range, "bytes=5-");
      }, redirect(() => `${storage.origin}/blob?signature=1`, status));
    }, plain("content"));
  });
}

Deno.test("sendRequest keeps the authorization on the same origin, and lost stays lost", async () => {
  await withRegistry(async (other) => {
    await withRegistry(async (registry) => {
      await ask(request(`${registry.origin}/from`, { authorization: AUTHORIZATION }));
      assertEquals(registry.requests.map(({ path, headers }) => [path, headers.authorization]), [
        ["/from", AUTHORIZATION],
        ["/near", AUTHORIZATION],
        ["/back", undefined],
      ]);
    }, ({ path }, response, registry) => {
      if (path === "/back") return plain("ok")(registry.requests[0]!, response, registry);
      const to = path === "/from" ? "/near" : `${other.origin}/${registry.host}`;
      response.writeHead(307, { location: to }).end();
      return true;
    });
  }, ({ path }, response) => {
    response.writeHead(307, { location: `http:/${path}/back` }).end();
    return true;
  });
});

Deno.test("sendRequest drops names and passwords that a redirect carries", async () => {
  await withRegistry(async (storage) => {
    await withRegistry(async (registry) => {
      await ask(request(`${registry.origin}/from`));
      assertEquals(storage.requests[0]!.headers.authorization, undefined);
    }, redirect(() => `http://user:pass@${storage.host}/x#y`));
  }, plain("ok"));
});

async function refusal(to: (registry: FakeRegistry) => string): Promise<string> {
  return await withRegistry(async (registry) => {
    const asked = request(`${registry.origin}/from`);
    const error = await assertRejects(() => sendRequest(asked, new TestTiming()), InputError);
    assertEquals(registry.requests.length <= MAX_REDIRECTS + 1, true);
    return error.message;
  }, redirect(to));
}

Deno.test("sendRequest refuses redirects that lead nowhere", async () => {
  assertStringIncludes(await refusal(() => "/from"), `after ${MAX_REDIRECTS} redirects already`);
  for (const to of ["file:///etc/passwd", "ftp://example.com/", "http://", "data:,x"]) {
    assertStringIncludes(await refusal(() => to), "not an HTTP address");
  }
});

Deno.test("sendRequest returns a redirect that names no place", async () => {
  await withRegistry(async (registry) => {
    const answer = await sendRequest(request(`${registry.origin}/from`), new TestTiming());
    assertEquals(answer.status, 307);
    answer.close();
  }, (_, response) => {
    response.writeHead(307).end();
    return true;
  });
});

Deno.test("sendRequest refuses to be sent from https to http", async () => {
  const real = globalThis.fetch;
  const asked: string[] = [];
  globalThis.fetch = (url) => {
    asked.push(String(url));
    const headers = { location: "http://storage.example.com/x?secret=1" };
    return Promise.resolve(new Response(null, { status: 307, headers }));
  };
  try {
    const send = () => sendRequest(request("https://r.example.com/v2/"), new TestTiming());
    const error = await assertRejects(send, InputError, "from https to plain http");
    assert(!error.message.includes("secret"));
    assertEquals(asked, ["https://r.example.com/v2/"]);
  } finally {
    globalThis.fetch = real;
  }
});

Deno.test("sendRequest does not pass a form on", async () => {
  await withRegistry(async (registry) => {
    const form = new URLSearchParams({ refresh_token: "secret" });
    const asked = request(`${registry.origin}/from`, { form });
    await assertRejects(() => sendRequest(asked, new TestTiming()), InputError, "redirects but");
    assertEquals(registry.requests.map(({ method, body }) => [method, body]), [
      ["POST", "refresh_token=secret"],
    ]);
  }, redirect(() => "/near"));
});

Deno.test("sendRequest refuses a body in an encoding", async () => {
  await withRegistry(async (registry) => {
    const send = () => sendRequest(request(`${registry.origin}/x`), new TestTiming());
    await assertRejects(send, IoError, "encoded as gzip");
    assertEquals(registry.requests[0]!.headers["accept-encoding"]?.includes("identity"), true);
  }, (_, response) => {
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("content"));
    return true;
  });
});

/** A server that falls silent, and what to do once it has. */
async function silent(
  begin: (response: ServerResponse) => void,
  then: (
    timing: TestTiming,
    controller: AbortController,
  ) => void,
): Promise<Error> {
  const timing = new TestTiming();
  const controller = new AbortController();
  return await withRegistry(async (registry) => {
    const asked = request(`${registry.origin}/x`, { signal: controller.signal });
    const error = await assertRejects(async () => {
      const answer = await sendRequest(asked, timing);
      let lengthBytes = 0;
      for await (const piece of answer.pieces()) {
        lengthBytes += piece.length;
        if (lengthBytes === 5) setTimeout(() => then(timing, controller), 0);
      }
    }, Error);
    assertEquals(timing.alarmCount, 0);
    return error;
  }, (_, response) => {
    begin(response);
    if (!response.headersSent) setTimeout(() => then(timing, controller), 0);
    return true;
  });
}

for (
  const [where, begin] of [
    ["before the answer", () => {}],
    ["in the body", (response: ServerResponse) => void response.write("begin")],
  ] as const
) {
  Deno.test(`sendRequest gives up a connection that falls silent ${where}`, async () => {
    const error = await silent(begin, (timing) => timing.ring());
    assert(error instanceof NetworkFault && error.isTransient);
    assertEquals(error.message, "nothing came for 60 seconds");
  });

  Deno.test(`sendRequest stops at once when it is told to ${where}`, async () => {
    const error = await silent(begin, (_, controller) => controller.abort());
    assert(error instanceof InterruptedError, String(error));
  });
}

Deno.test("Answer reads no more than it may of a body without an end", async () => {
  await withRegistry(async (registry) => {
    const answer = await sendRequest(request(`${registry.origin}/x`), new TestTiming());
    assertEquals(answer.lengthBytes, undefined);
    assertEquals(await answer.bytes(1 << 20), undefined);
    await (await sendRequest(request(`${registry.origin}/x`), new TestTiming())).drain();
  }, (_, response) => {
    const more = () => {
      while (!response.destroyed && response.write(new Uint8Array(1 << 16)));
    };
    response.on("drain", more);
    more();
    return true;
  });
});

Deno.test("Answer reads types and lengths as far as they mean something", async () => {
  await withRegistry(async (registry) => {
    const answer = await sendRequest(request(`${registry.origin}/x`), new TestTiming());
    assertEquals([answer.mediaType, answer.lengthBytes], ["application/json", 2]);
    assertEquals(answer.header("no-such-header"), undefined);
    assertEquals(answer.url.host, registry.host);
    assertEquals(await answer.bytes(2), new TextEncoder().encode("{}"));
  }, (_, response) => {
    const headers = { "content-type": "Application/JSON; charset=utf-8", "content-length": 2 };
    response.writeHead(200, headers).end("{}");
    return true;
  });
});

/** Errors as runtimes throw them. */
function thrown(message: string, code?: string, cause?: Error): Error {
  const error = new TypeError(message, cause === undefined ? {} : { cause });
  return code === undefined ? error : Object.assign(error, { code });
}

const URL_TEXT = "error sending request for url (https://s3.example.com/x?X-Amz-Signature=0123)";

Deno.test("networkFault says the same of what Deno, Bun and Node say in their own ways", () => {
  const words: [string, boolean, Error[]][] = [
    ["the connection is refused", true, [
      thrown(
        "fetch failed",
        undefined,
        new Error(`${URL_TEXT}: Connection refused (os error 111)`),
      ),
      thrown("Unable to connect. Is the computer able to access the url?", "ECONNREFUSED"),
      thrown("fetch failed", undefined, thrown("connect ECONNREFUSED 127.0.0.1:9", "ECONNREFUSED")),
    ]],
    ["the name of the host cannot be resolved", true, [
      thrown("fetch failed", undefined, new Error(`${URL_TEXT}: dns error: failed to lookup`)),
      thrown("getaddrinfo ENOTFOUND x.invalid", "ENOTFOUND"),
    ]],
    [UNTRUSTED_CERTIFICATE, false, [
      thrown("fetch failed", undefined, new Error(`${URL_TEXT}: invalid peer certificate: Unk`)),
      thrown("self signed certificate", "DEPTH_ZERO_SELF_SIGNED_CERT"),
      thrown("fetch failed", undefined, thrown("has expired", "CERT_HAS_EXPIRED")),
    ]],
    ["it does not speak TLS there", false, [
      thrown("fetch failed", undefined, new Error(`${URL_TEXT}: corrupt message of type Invalid`)),
      thrown("EPROTO: The TLS handshake failed.", "EPROTO"),
      thrown("fetch failed", undefined, thrown("wrong version", "ERR_SSL_WRONG_VERSION_NUMBER")),
    ]],
    ["the connection broke", true, [
      thrown("error reading a body from connection"),
      thrown("The socket connection was closed unexpectedly.", "ECONNRESET"),
      thrown("terminated", undefined, thrown("other side closed", "UND_ERR_SOCKET")),
    ]],
  ];
  for (const [why, isTransient, errors] of words) {
    for (const error of errors) {
      const fault = networkFault(error);
      assertEquals([fault.message, fault.isTransient], [why, isTransient]);
    }
  }
});

Deno.test("networkFault shows no address of an error that it does not know", () => {
  const fault = networkFault(new TypeError(`${URL_TEXT}: \u001b[31mstrange`));
  assert(fault instanceof NetworkFault);
  assert(!fault.message.includes("Signature") && !fault.message.includes("\u001b"), fault.message);
  assertEquals(fault.cause, undefined);
  assert(networkFault("no error").message.startsWith("the request failed"));
});

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
  assertEquals(abortError(AbortSignal.abort(reason)), reason);
  assert(abortError(AbortSignal.abort()) instanceof InterruptedError);
  assert(abortError(AbortSignal.abort("because")) instanceof InterruptedError);
});

Deno.test("sendRequest shows nothing to an address that is signed, also of the same host", async () => {
  await withRegistry(async (registry) => {
    const url = new URL("/v2/a", registry.origin);
    const request = { what: "x", url, authorization: "Bearer t", signal: undefined };
    await (await sendRequest(request, new TestTiming())).drain();
    assertEquals(registry.requests.map(({ path, headers }) => [path, headers.authorization]), [
      ["/v2/a", "Bearer t"],
      ["/plain", "Bearer t"],
      ["/signed?X-Amz-Signature=00", undefined],
    ]);
  }, ({ path }, response) => {
    const next = { "/v2/a": "/plain", "/plain": "/signed?X-Amz-Signature=00" }[path];
    response.writeHead(next === undefined ? 200 : 302, next ? { location: next } : {}).end();
    return true;
  });
});

Deno.test("Answer takes a Content-Type that is sent twice for one, and two for none", async () => {
  const types = async (...values: string[]) =>
    await withRegistry(async (registry) => {
      const request = { what: "x", url: new URL("/a", registry.origin), signal: undefined };
      const answer = await sendRequest(request, new TestTiming());
      await answer.drain();
      return answer.mediaType;
    }, (_, response) => {
      response.writeHead(200, values.flatMap((value) => ["Content-Type", value])).end();
      return true;
    });
  assertEquals(await types("application/json"), "application/json");
  assertEquals(await types("a/b; x=1", "A/B"), "a/b");
  assertEquals(await types("a/b", "c/d"), "a/b, c/d");
});

Deno.test("an answer that comes a byte at a time is given up", async () => {
  const timing = new TestTiming();
  const timers: number[] = [];
  await withRegistry(async (registry) => {
    const request = { what: "x", url: new URL("/a", registry.origin), signal: undefined };
    const answer = await sendRequest(request, timing);
    let pieceCount = 0;
    const error = await assertRejects(async () => {
      for await (const piece of answer.pieces()) {
        pieceCount += piece.length;
        // The alarm of a single piece is not the one that rings.
        if (pieceCount % 20 === 0) setTimeout(() => timing.ring(120_000), 0);
        if (pieceCount > 2000) break;
      }
    }, NetworkFault);
    assertStringIncludes(error.message, "fewer than 16384 bytes came in 120 seconds");
    assertEquals(timing.alarmCount, 0);
  }, (_, response) => {
    response.writeHead(200);
    timers.push(setInterval(() => response.write("x"), 1) as unknown as number);
    return true;
  });
  timers.forEach((timer) => clearInterval(timer));
});
