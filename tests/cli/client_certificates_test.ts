import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { readFileSync, statSync } from "node:fs";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { FakeS3, TEST_KEYS, TEST_REGION } from "../chunk/fake_s3.ts";
import { buildTar } from "../tar/build.ts";
import { FakeRegistry } from "../source/registry/fake_registry.ts";
import { inDirectory, MAIN, programWords, RunningProgram } from "./program.ts";

/** An authority, and what it signed: a server for localhost and store.example, and a client; a stranger is another's. */
const FILES = fileURLToPath(new URL("./certificates/", import.meta.url));
const file = (name: string): string => join(FILES, name);
const TRUSTED = ["--ca-file", file("ca.pem")];
const KNOWN = [...TRUSTED, "--cert", file("client.pem"), "--key", file("client.key")];
const STRANGE = [...TRUSTED, "--cert", file("stranger.pem"), "--key", file("stranger.key")];
/** A server that speaks only to clients that its authority signed. */
const DEMANDING = {
  key: readFileSync(file("server.key")),
  cert: readFileSync(file("server.pem")),
  ca: readFileSync(file("ca.pem")),
  requestCert: true,
  rejectUnauthorized: true,
};
const KEYS = {
  AWS_ACCESS_KEY_ID: TEST_KEYS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: TEST_KEYS.secretAccessKey,
  AWS_REGION: TEST_REGION,
};
/** Deno asks for its own updates through the proxy, too. */
const proxied = (address: string) => ({ HTTPS_PROXY: address, DENO_NO_UPDATE_CHECK: "1" });
const IO_FAILURE = 4;

const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port;
const listening = (server: Server): Promise<void> =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

/** Tunnels to a port of this machine, whatever host is asked for. */
class TunnelingProxy {
  /** The hosts that were asked for. */
  readonly hosts: string[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => this.#take(socket));

  async start(): Promise<string> {
    await listening(this.#server);
    return `http://127.0.0.1:${portOf(this.#server)}`;
  }

  #take(socket: Socket): void {
    this.#keep(socket);
    socket.once("data", (head) => {
      const [, host, port] = /^CONNECT ([^ :]+):(\d+) HTTP/.exec(`${head}`) ?? [];
      if (host === undefined) return void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
      this.hosts.push(host);
      const onward = this.#keep(connect(Number(port), "127.0.0.1"));
      onward.on("connect", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        socket.pipe(onward).pipe(socket);
      });
    });
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    return socket.on("close", () => this.#sockets.delete(socket)).on("error", () => {});
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function withProxy(test: (proxy: TunnelingProxy, address: string) => Promise<void>) {
  const proxy = new TunnelingProxy();
  const address = await proxy.start();
  try {
    await test(proxy, address);
  } finally {
    await proxy.stop();
  }
}

async function runWith(env: Record<string, string>, args: readonly string[]) {
  const [command, ...words] = programWords(MAIN);
  const program = new RunningProgram(command, [...words, ...args], { env });
  return await program.ended;
}

/** A registry that demands a certificate of its clients. */
async function withDemandingRegistry(test: (port: number) => Promise<void>): Promise<void> {
  const registry = new FakeRegistry(() => {});
  registry.add({ layers: [buildTar([{ path: "etc/motd", data: "hello" }])] });
  const server = createTlsServer(DEMANDING, ({ url, method, headers }, response) => {
    registry.behave({ method: method!, path: url!, headers, body: "" }, response);
  });
  await listening(server);
  try {
    await test(portOf(server));
  } finally {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

Deno.test("bless shows its certificate to a registry that demands one, also behind a proxy", async () => {
  await inDirectory((directory) =>
    withDemandingRegistry((port) =>
      withProxy(async (proxy, address) => {
        const image = join(directory, "image.ext4");
        const bless = (host: string, options: readonly string[]) =>
          runWith(proxied(address), [
            ...["bless", `docker://${host}:${port}/team/app:v1`, "-o", image, "--force", "-q"],
            ...options,
          ]);
        for (const host of ["localhost", "store.example"]) {
          const { code, stderr } = await bless(host, KNOWN);
          assertEquals([code, stderr], [0, ""], host);
          assert(statSync(image).size > 0);
        }
        // What is on this machine is reached without the proxy.
        assertEquals([...new Set(proxy.hosts)], ["store.example"]);
        for (const options of [TRUSTED, STRANGE]) {
          const { code, stderr } = await bless("store.example", options);
          assertEquals(code, IO_FAILURE, stderr);
        }
      })
    )
  );
});

Deno.test("chunk shows its certificate to a store that demands one, also behind a proxy", async () => {
  await inDirectory(async (directory) => {
    const image = join(directory, "image");
    Deno.writeFileSync(image, new Uint8Array(300_000).fill(7));
    const s3 = new FakeS3({ tls: DEMANDING });
    await s3.listen();
    try {
      await withProxy(async (proxy, address) => {
        const port = new URL(s3.origin).port;
        const env = { ...KEYS, ...proxied(address) };
        const chunk = (host: string, options: readonly string[]) => {
          const store = `s3+https://${host}:${port}/${s3.bucket}/${host}`;
          const index = join(directory, "index.caibx");
          return runWith(env, [
            "chunk",
            image,
            "--store",
            store,
            "-o",
            index,
            "-f",
            "-q",
            ...options,
          ]);
        };
        for (const host of ["localhost", "store.example"]) {
          const { code, stderr } = await chunk(host, KNOWN);
          assertEquals([code, stderr], [0, ""], host);
        }
        assertEquals([...new Set(proxy.hosts)], ["store.example"]);
        assertEquals(s3.faults, []);
        assert(s3.objects.size >= 4, `${[...s3.objects.keys()]}`);
        const { code, stderr } = await chunk("store.example", TRUSTED);
        assertEquals(code, IO_FAILURE, stderr);
      });
    } finally {
      await s3.close();
    }
  });
});

Deno.test("a certificate without its key, and a key without its certificate, are errors", async () => {
  const source = "docker://localhost:1/app:v1";
  for (const half of [["--cert", file("client.pem")], ["--key", file("client.key")]]) {
    const { code, stderr } = await runWith({}, ["bless", source, "-o", "-", ...half]);
    assertEquals(code === 2 || code === 3, true, stderr);
    assertStringIncludes(stderr, "without the");
  }
});
