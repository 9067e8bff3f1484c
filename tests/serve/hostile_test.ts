import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { connect } from "node:net";
import { ROUTES } from "../../serve/http/routes.ts";
import { type Client, pause, type Serving, TINY, withServing } from "./serving.ts";

function socketPath({ settings }: Serving): string {
  return settings.listen.kind === "unix" ? settings.listen.path : "";
}

/** Sends bytes as they are; what comes back until the server closes or a while has passed. */
function sendRaw(path: string, bytes: string | Uint8Array, waitMs: number): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect({ path });
    const end = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(text);
    };
    const timer = setTimeout(end, waitMs);
    socket.on("data", (piece) => {
      text += new TextDecoder().decode(piece);
      // One answer is enough.
      if (/\r\n\r\n/.test(text)) end();
    });
    socket.on("error", end);
    socket.on("close", end);
    socket.write(bytes);
  });
}

async function assertAlive(client: Client): Promise<void> {
  assertEquals((await client.ask("/readyz")).status, 200);
}

Deno.test("no body makes the server fail, or does work that was not asked for", async () => {
  await withServing({ workers: 0 }, async ({ client, log }) => {
    const text = fc.oneof(
      fc.json(),
      fc.string(),
      fc.constantFrom("", "null", "[]", "{", '"x"', "1e999", '{"source":{}}', '{"__proto__":1}'),
      fc.record({
        source: fc.oneof(fc.string(), fc.constant(TINY), fc.integer(), fc.constant("docker://")),
        mode: fc.oneof(fc.constantFrom("merged", "flat"), fc.anything()),
        options: fc.oneof(fc.dictionary(fc.string(), fc.anything()), fc.anything()),
        priority: fc.anything(),
        name: fc.oneof(fc.string(), fc.constant("../../etc/passwd")),
      }, { requiredKeys: [] }).map((value) => JSON.stringify(value) ?? ""),
    );
    const type = fc.constantFrom(
      "application/json",
      "application/json; charset=x",
      "text/plain",
      "",
    );
    const path = fc.constantFrom("/v1/images", "/v1/probe");
    await fc.assert(
      fc.asyncProperty(path, text, type, async (path, body, type) => {
        const { status } = await client.ask(path, {
          method: "POST",
          body,
          headers: { "content-type": type },
        });
        assert(status === 202 || status >= 400 && status < 500, `${path} ${status} ${body}`);
      }),
      { numRuns: 400 },
    );
    assertEquals(log.filter((line) => line.includes('"level":"error"')), []);
    await assertAlive(client);
  });
});

Deno.test("no path and no query makes the server fail", async () => {
  await withServing({ workers: 0 }, async ({ client, log }) => {
    const path = fc.tuple(
      fc.constantFrom(
        ...ROUTES.map((route) => route.path.replace(/\{.*?\}/g, "")),
        "/",
        "/v1",
        "/x",
      ),
      fc.webPath(),
      fc.webQueryParameters(),
      fc.constantFrom("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"),
    );
    await fc.assert(
      fc.asyncProperty(path, async ([path, more, query, method]) => {
        const filled = path.replace(/:[a-z]+/g, () => more.replace(/^\//, "") || "x");
        const { message, close } = await client.open(`${filled}?${query}`, { method });
        close();
        assert(message.statusCode! < 500, `${method} ${filled}?${query}: ${message.statusCode}`);
      }),
      { numRuns: 300 },
    );
    assertEquals(log.filter((line) => line.includes('"level":"error"')), []);
    await assertAlive(client);
  });
});

Deno.test("large bodies are refused before they are read", async () => {
  await withServing({ workers: 0 }, async (serving) => {
    const { client } = serving;
    const body = new Uint8Array(10 << 20).fill(0x20);
    const headers = { "content-type": "application/json" };
    // The server may close before everything was sent.
    const status = await client.ask("/v1/images", { method: "POST", body, headers })
      .then((answer) => answer.status, () => 413);
    assertEquals(status, 413);
    const chunk = `${(1 << 16).toString(16)}\r\n${" ".repeat(1 << 16)}\r\n`;
    const head = "POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
      "Transfer-Encoding: chunked\r\n\r\n";
    const answer = await sendRaw(socketPath(serving), head + chunk.repeat(160), 10_000);
    assert(/^HTTP\/1\.1 4\d\d/.test(answer) || answer === "", answer.slice(0, 100));
    await assertAlive(client);
  });
});

Deno.test("what is not HTTP, is cut off, or comes slowly harms nobody else", async () => {
  await withServing({ workers: 0 }, async (serving) => {
    const path = socketPath(serving);
    const pieces = [
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      "GET / HTTP/9.9\r\n\r\n",
      "GET /v1/jobs HTTP/1.1\r\n",
      `GET /${"x".repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: x\r\n${"X: y\r\n".repeat(5000)}\r\n`,
      "POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
      "POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n",
      "POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
      "\r\n\r\n\r\n",
      "\0".repeat(1000),
    ];
    const answers = await Promise.all(pieces.map((piece) => sendRaw(path, piece, 1000)));
    for (const answer of answers) {
      assert(answer === "" || /^HTTP\/1\.[01] (?:4\d\d|200)/.test(answer), answer.slice(0, 100));
    }
    await assertAlive(serving.client);
  });
});

Deno.test("a thousand idle streams of events leave the server as quick as it was", async () => {
  await withServing({ workers: 0 }, async ({ client, server }) => {
    const job = await client.bless({ source: TINY });
    const streams: Awaited<ReturnType<Client["open"]>>[] = [];
    for (let i = 0; i < 1000; i++) streams.push(await client.open(`/v1/jobs/${job.id}/events`));
    const metrics = (await client.ask("/metrics")).text;
    assert(/^blessfs_event_streams (?:[1-9]\d{3})$/m.test(metrics), "a thousand streams");
    await assertAlive(client);
    const ended = new Promise<string>((resolve) => {
      let text = "";
      const { message } = streams[500]!;
      message.on("data", (piece) => text += new TextDecoder().decode(piece as Uint8Array));
      message.on("end", () => resolve(text));
    });
    await client.ask(`/v1/jobs/${job.id}`, { method: "DELETE" });
    assert((await ended).includes('"state":"cancelled"'));
    for (const { close } of streams) close();
    const isOver = async () =>
      /^blessfs_event_streams 0$/m.test((await client.ask("/metrics")).text);
    while (!await isOver()) await pause();
    await server.drain();
  });
});
