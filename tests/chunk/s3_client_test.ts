import { assert, assertEquals, assertRejects } from "@std/assert";
import { parseS3Address } from "../../lib/chunk/s3_request.ts";
import { S3Client, type S3ClientOptions } from "../../lib/chunk/s3_store.ts";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import {
  errorAnswer,
  type FakeS3,
  type FakeS3Options,
  settingsOf,
  TEST_KEYS,
  TEST_SETTINGS,
  withFakeS3,
} from "./fake_s3.ts";
import { noise } from "./helpers.ts";

const SLOW_DOWN = errorAnswer(503, "SlowDown", "Please reduce your request rate.");

/** A client that does not wait, but writes down how long it would. */
function clientOf(server: FakeS3, more: Partial<S3ClientOptions> = {}, prefix = "chunks") {
  const pauses: number[] = [];
  const client = new S3Client(parseS3Address(server.store(prefix)), {
    settings: TEST_SETTINGS,
    pause: (milliseconds) => (pauses.push(milliseconds), Promise.resolve()),
    ...more,
  });
  return { client, pauses };
}

async function put(options: FakeS3Options, more: Partial<S3ClientOptions> = {}) {
  return await withFakeS3(options, async (server) => {
    const { client, pauses } = clientOf(server, more);
    const request = { method: "PUT", key: "ab/x", body: noise(1000) } as const;
    const answer = await client.send(request, [200]);
    assertEquals([...server.objects.keys()], ["chunks/ab/x"]);
    return { server, pauses, answer };
  });
}

Deno.test("S3Client signs so that a server finds the same signature", async () => {
  const withToken = { ...TEST_KEYS, sessionToken: "FwoGZXIvYXdzE/+==" };
  for (const keys of [TEST_KEYS, withToken]) {
    for (const prefix of ["", "a", "a/b c/%2B+(x)'!*/%C3%A9~_.-"]) {
      await withFakeS3({ keys }, async (server) => {
        const { client } = clientOf(server, { settings: settingsOf(keys) }, prefix);
        const headers = { "if-none-match": "*", "content-type": "application/octet-stream" };
        const key = "0123/a.cacnk";
        await client.send({ method: "PUT", key, body: noise(5000), headers }, [200]);
        await client.send({ method: "HEAD", key }, [200]);
        const { body } = await client.send({ method: "GET", key }, [200]);
        assertEquals(Uint8Array.from(body), noise(5000));
        const query = { "list-type": "2", prefix: "a b/+&=é" };
        await client.send({ method: "GET", query }, [200]);
        assertEquals([server.faults, server.requests.length], [[], 4]);
      });
    }
  }
});

Deno.test("S3Client tries again after what passes, waiting longer each time", async () => {
  const passing = [
    SLOW_DOWN,
    errorAnswer(500, "InternalError", "We encountered an internal error"),
    { status: 502, body: "<html>" },
    { status: 504 },
    { status: 429 },
    errorAnswer(400, "RequestTimeout", "Your socket connection was not read from"),
    errorAnswer(409, "ConditionalRequestConflict", "A conflicting operation"),
  ];
  for (const answer of passing) {
    const { server, pauses } = await put({ misbehave: (_, n) => n <= 4 ? answer : undefined });
    assertEquals([server.requests.length, server.faults], [5, []]);
    for (const [i, pause] of pauses.entries()) {
      assert(pause >= 100 * 2 ** i && pause <= 200 * 2 ** i, `${pauses}`);
    }
  }
});

Deno.test("S3Client tries again when a connection breaks", async () => {
  for (const cut of ["before", "after", "within"] as const) {
    const { server } = await put({ misbehave: (_, n) => n <= 2 ? { cut } : undefined });
    assert(server.requests.length >= 3);
  }
});

Deno.test("S3Client tries again when a server does not answer in time", async () => {
  const misbehave: FakeS3Options["misbehave"] = (_, n) => n === 1 ? { silent: true } : undefined;
  const { answer } = await put({ misbehave }, { timeoutMs: 1000 });
  assertEquals(answer.mayBeRepeated, true);
});

Deno.test("S3Client listens to its signal no longer than a request takes", async () => {
  const { signal } = new AbortController();
  let listenerCount = 0;
  const [add, remove] = [signal.addEventListener, signal.removeEventListener];
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listenerCount++;
    add.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listenerCount--;
    remove.apply(signal, args);
  };
  const answers = [SLOW_DOWN, { silent: true } as const];
  const misbehave: FakeS3Options["misbehave"] = (_, n) => answers[n - 1];
  await put({ misbehave }, { signal, timeoutMs: 1000 });
  assertEquals(listenerCount, 0);
});

Deno.test("S3Client waits as long as the server wishes, within bounds", async () => {
  for (
    const [wish, most] of [["3", 3000], ["9999", 20_000], [
      "Wed, 21 Oct 2026 07:28:00 GMT",
      200,
    ]] as const
  ) {
    const headers = { "retry-after": wish };
    const { pauses } = await put({
      misbehave: (_, n) => n === 1 ? { status: 503, headers } : undefined,
    });
    assert(pauses[0]! <= most && pauses[0]! >= most / 2, `${pauses}`);
  }
});

Deno.test("S3Client gives up after so many tries, and says what the server said", async () => {
  await withFakeS3({ misbehave: () => SLOW_DOWN }, async (server) => {
    const { client } = clientOf(server, { tries: 5 });
    const error = await assertRejects(
      () => client.send({ method: "HEAD", key: "a" }, [200]),
      IoError,
      "was busy at every try",
    );
    assertEquals([server.requests.length, error.data["status"]], [5, 503]);
  });
});

Deno.test("S3Client does not try again what cannot get better", async () => {
  for (
    const [status, code] of [
      [403, "AccessDenied"],
      [404, "NoSuchBucket"],
      [400, "Bad"],
      [412, "X"],
      [409, "Other"],
    ] as const
  ) {
    await withFakeS3({ misbehave: () => errorAnswer(status, code, "no") }, async (server) => {
      const { client } = clientOf(server);
      await assertRejects(() => client.send({ method: "GET", key: "a" }, [200]), IoError, code);
      assertEquals(server.requests.length, 1);
    });
  }
});

Deno.test("S3Client does not follow redirects, which would carry the signature along", async () => {
  await withFakeS3({}, async (other) => {
    const headers = { location: `${other.origin}/bucket/chunks/a?X-Amz-Signature=hush` };
    await withFakeS3({ misbehave: () => ({ status: 307, headers }) }, async (server) => {
      const { client } = clientOf(server);
      const error = await assertRejects(
        () => client.send({ method: "GET", key: "a" }, [200]),
        IoError,
        "the server redirects",
      );
      assert(!error.message.includes("hush"), error.message);
      assertEquals(other.requests.length, 0);
    });
  });
});

Deno.test("S3Client stops at once when it is told to, in a request and between two", async () => {
  for (const answer of [{ silent: true }, SLOW_DOWN]) {
    await withFakeS3({ misbehave: () => answer }, async (server) => {
      const controller = new AbortController();
      const client = new S3Client(parseS3Address(server.store()), {
        settings: TEST_SETTINGS,
        signal: controller.signal,
      });
      const sent = client.send({ method: "HEAD", key: "a" }, [200]);
      setTimeout(() => controller.abort(), 30);
      await assertRejects(() => sent, InterruptedError);
    });
  }
});

Deno.test("S3Client says that nobody is there, without keys", async () => {
  const server = await withFakeS3({}, (server) => Promise.resolve(server.store()));
  const client = new S3Client(parseS3Address(server), {
    settings: TEST_SETTINGS,
    pause: () => Promise.resolve(),
    tries: 2,
  });
  const error = await assertRejects(
    () => client.send({ method: "HEAD", key: "a" }, [200]),
    IoError,
    "the server cannot be reached",
  );
  assert(!error.message.includes(TEST_KEYS.accessKeyId));
});

Deno.test("S3Client reads no more of an answer than was asked for", async () => {
  const body = "x".repeat(200_000);
  await withFakeS3({ misbehave: () => ({ body }) }, async (server) => {
    const { client } = clientOf(server);
    await assertRejects(
      () => client.send({ method: "GET", key: "a", mostBytes: 1000 }, [200]),
      InputError,
      "more than 1000 bytes",
    );
  });
  await withFakeS3({ misbehave: () => ({ status: 400, body }) }, async (server) => {
    const { client } = clientOf(server);
    await assertRejects(() => client.send({ method: "GET", key: "a" }, [200]), IoError, "refused");
  });
});
