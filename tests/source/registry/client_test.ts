import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import { type AddressInfo, createServer as createPlainServer, type Socket } from "node:net";
import { join } from "node:path";
import { InputError, InterruptedError, IoError, UsageError } from "../../../lib/errors.ts";
import { parseReference } from "../../../lib/source/source_name.ts";
import {
  connectRegistry,
  registryAddresses,
  type RegistryClient,
} from "../../../lib/source/registry/client.ts";
import { Retries, statusFault } from "../../../lib/source/registry/retry.ts";
import type { RegistryOptions } from "../../../lib/source/types.ts";
import { environment, MAIN, programWords } from "../../cli/program.ts";
import { runCommand } from "../../oracle/command.ts";
import { notRun } from "../../oracle/notice.ts";
import { withDirectory } from "../helpers.ts";
import {
  FakeRegistry,
  type Misbehaviour,
  registrySource,
  sendJson,
  TestTiming,
  withRegistry,
} from "./fake_registry.ts";

const PATH = "/v2/team/app/manifests/v1";

async function connect(
  registry: FakeRegistry,
  options: Partial<RegistryOptions> = {},
): Promise<RegistryClient> {
  const reference = parseReference(`${registry.host}/team/app:v1`);
  return await connectRegistry(reference, registrySource(new TestTiming(), options));
}

const REQUEST = { what: "x", signal: undefined };

async function statusOf(client: RegistryClient): Promise<number> {
  const answer = await client.get(PATH, REQUEST, new Retries(client.session));
  await answer.drain();
  return answer.status;
}

/** Wants a token, and hands tokens out; each is good for as many requests as it is said. */
function tokens(usesOfEach: number): Misbehaviour {
  const uses = new Map<string, number>();
  return ({ path, headers }, response, { origin }) => {
    if (path.startsWith("/token")) {
      const token = `t${uses.size + 1}`;
      uses.set(token, 0);
      sendJson(response, 200, { token });
      return true;
    }
    const token = headers.authorization?.replace("Bearer ", "") ?? "";
    const count = uses.get(token);
    if (count !== undefined && count < usesOfEach) {
      uses.set(token, count + 1);
      return;
    }
    response.setHeader("www-authenticate", `Bearer realm="${origin}/token",service="s"`);
    response.writeHead(401).end("{}");
    return true;
  };
}

Deno.test("RegistryClient gets along without authorization where nobody wants any", async () => {
  await withRegistry(async (registry) => {
    registry.add({ layers: [] });
    assertEquals(await statusOf(await connect(registry)), 200);
    assertEquals(registry.requests.map(({ path, headers }) => [path, headers.authorization]), [
      ["/v2/", undefined],
      [PATH, undefined],
    ]);
  });
});

Deno.test("RegistryClient gets a token when it is refused, and another when it expires", async () => {
  await withRegistry(async (registry) => {
    registry.add({ layers: [] });
    const client = await connect(registry);
    for (let i = 0; i < 5; i++) assertEquals(await statusOf(client), 200);
    const sent = registry.asked("manifests").map(({ headers }) => headers.authorization?.at(-1));
    assertEquals(sent, [undefined, "1", "1", "1", "2", "2", "2", "3"]);
    assertEquals(registry.asked("/token").length, 3);
  }, tokens(2));
});

Deno.test("RegistryClient believes a registry that refuses a new token", async () => {
  await withRegistry(async (registry) => {
    assertEquals(await statusOf(await connect(registry)), 401);
    assertEquals(registry.asked("manifests").length, 2);
  }, tokens(0));
});

Deno.test("RegistryClient learns late where the first answer says nothing of authorization", async () => {
  const strict = tokens(Infinity);
  await withRegistry(async (registry) => {
    registry.add({ layers: [] });
    assertEquals(await statusOf(await connect(registry)), 200);
  }, (request, response, registry) => {
    if (request.path !== "/v2/") return strict(request, response, registry);
    response.writeHead(404).end();
    return true;
  });
});

Deno.test("RegistryClient takes basic credentials from the file it is given", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "auth.json");
    await withRegistry(async (registry) => {
      registry.add({ layers: [] });
      const save = (name: string) =>
        Deno.writeTextFileSync(
          file,
          JSON.stringify({ auths: { [registry.host]: { auth: btoa(`${name}:hunter22`) } } }),
        );
      save("me");
      assertEquals(await statusOf(await connect(registry, { authFile: file })), 200);
      save("you");
      assertEquals(await statusOf(await connect(registry, { authFile: file })), 401);
      // Each of the two asks without a login first.
      assertEquals(registry.asked("manifests").length, 4);
      await assertRejects(async () => statusOf(await connect(registry)), IoError, "found none");
    }, ({ headers }, response) => {
      if (headers.authorization === `Basic ${btoa("me:hunter22")}`) return;
      response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
      return true;
    });
  });
});

Deno.test("RegistryClient gives no authorization to a host that it was sent to", async () => {
  await withRegistry(async (storage) => {
    const strict = tokens(Infinity);
    await withRegistry(async (registry) => {
      assertEquals(await statusOf(await connect(registry)), 401);
      const shown = storage.requests.map(({ headers }) => headers.authorization);
      assertEquals(shown, [undefined, undefined]);
      assertEquals(registry.asked("/token").length, 1);
    }, (request, response, registry) => {
      if (strict(request, response, registry)) return true;
      response.writeHead(307, { location: `${storage.origin}${PATH}` }).end();
      return true;
    });
  }, (_, response) => {
    response.writeHead(401, { "www-authenticate": 'Bearer realm="http://127.0.0.1/"' }).end();
    return true;
  });
});

Deno.test("connectRegistry finds a registry on loopback that has no TLS", async () => {
  await withRegistry(async (registry) => {
    registry.add({ layers: [] });
    assertEquals(await statusOf(await connect(registry, { plainHttp: false })), 200);
  });
});

/** The first byte of a TLS record that begins a handshake. RFC 8446 section 5.1. */
const TLS_HANDSHAKE = 0x16;

Deno.test("connectRegistry does not wait long for TLS where http is next", async () => {
  const timing = new TestTiming();
  const sockets = new Set<Socket>();
  const server = createPlainServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes: Uint8Array) => {
      if (bytes[0] === TLS_HANDSHAKE) setTimeout(() => timing.ring(), 0);
      else socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const reference = parseReference(`127.0.0.1:${(server.address() as AddressInfo).port}/x`);
    const client = await connectRegistry(reference, registrySource(timing, { plainHttp: false }));
    assertEquals(client.url("/").protocol, "http:");
    assertEquals(timing.waits, []);
  } finally {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
});

Deno.test("connectRegistry gives up soon on a host that does not answer", async () => {
  const registry = new FakeRegistry(() => {});
  await registry.start();
  const { host } = registry;
  await registry.stop();
  const timing = new TestTiming();
  const source = registrySource(timing, { plainHttp: false });
  const gone = () => connectRegistry(parseReference(`${host}/x`), source);
  await assertRejects(gone, IoError, "cannot be reached: the connection is refused");
  assertEquals(timing.waits, [1000, 2000]);
});

Deno.test("connectRegistry refuses a port that is none, and stops when it is told to", async () => {
  const source = registrySource(new TestTiming());
  const wrong = () => connectRegistry(parseReference("localhost:99999/x"), source);
  await assertRejects(wrong, UsageError);
  await withRegistry(async (registry) => {
    const { host } = registry;
    const aborted = registrySource(new TestTiming(), {}, { signal: AbortSignal.abort() });
    const stopped = () => connectRegistry(parseReference(`${host}/x`), aborted);
    await assertRejects(stopped, InterruptedError);
    assertEquals(registry.requests.length, 0);
  });
});

/** Makes a certificate for localhost; undefined without openssl. */
function makeCertificate(directory: string): { key: string; cert: string } | undefined {
  const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 " +
    "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 " +
    "-addext basicConstraints=critical,CA:FALSE";
  try {
    const { status } = runCommand("openssl", [...words.split(" "), "-keyout", key, "-out", cert]);
    return status === 0 ? { key, cert } : undefined;
  } catch {
    return undefined;
  }
}

/** Runs a test with a registry that speaks TLS under a certificate of its own. */
async function withTls(
  part: string,
  test: (host: string, certificate: string, registry: FakeRegistry) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const files = makeCertificate(directory);
    if (!files) return notRun(part, "openssl is not installed");
    const registry = new FakeRegistry(() => {});
    const pair = { key: readFileSync(files.key), cert: readFileSync(files.cert) };
    const server = createServer(pair, ({ url, method, headers }, response) => {
      registry.behave({ method: method!, path: url!, headers, body: "" }, response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      await test(`localhost:${(server.address() as AddressInfo).port}`, files.cert, registry);
    } finally {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    }
  });
}

Deno.test("connectRegistry trusts no certificate that nobody vouches for", async () => {
  await withTls("refusing a certificate", async (host) => {
    const source = registrySource(new TestTiming(), { plainHttp: false });
    const connect = () => connectRegistry(parseReference(`${host}/x`), source);
    const error = await assertRejects(connect, IoError, "its certificate is not trusted");
    assertEquals(error.remedies.map(({ option }) => option), ["caFile"]);
  });
});

Deno.test("RegistryClient trusts the authority that it is given, or that lies where docker looks", async () => {
  await withTls("trusting an authority", async (host, certificate, registry) => {
    registry.add({ layers: [] });
    await withDirectory(async (directory) => {
      mkdirSync(join(directory, host), { recursive: true });
      copyFileSync(certificate, join(directory, host, "ca.crt"));
      const ways: Partial<RegistryOptions>[] = [
        { caFile: certificate },
        { certificateDirectories: ["/nonexistent", directory] },
      ];
      for (const way of ways) {
        // A proxy that is not there: what is on loopback is reached without it.
        const environment = { HOME: "/nonexistent", HTTPS_PROXY: "http://127.0.0.1:9" };
        const options = { plainHttp: false, environment, ...way };
        const source = registrySource(new TestTiming(), options);
        const client = await connectRegistry(parseReference(`${host}/app:v1`), source);
        const answer = await client.get(
          "/v2/app/manifests/v1",
          REQUEST,
          new Retries(client.session),
        );
        assertEquals([answer.status, (await answer.bytes(1 << 20))!.length > 10], [200, true]);
      }
      writeFileSync(join(directory, host, "client.cert"), readFileSync(certificate));
      const source = registrySource(new TestTiming(), { certificateDirectories: [directory] });
      const connect = () => connectRegistry(parseReference(`${host}/app:v1`), source);
      await assertRejects(connect, InputError, "its key is missing: wanted client.key beside it");
    });
  });
});

Deno.test("bless pulls over TLS from a registry whose certificate the runtime trusts", async () => {
  await withTls("pulling over TLS", async (host, certificate, registry) => {
    registry.add({ layers: [] });
    await withDirectory(async (directory) => {
      const [command, ...words] = programWords(MAIN);
      const image = join(directory, "image.ext4");
      const child = spawn(command, [...words, "bless", `docker://${host}/app:v1`, "-o", image], {
        env: environment({ DENO_CERT: certificate, NODE_EXTRA_CA_CERTS: certificate }) as Record<
          string,
          string
        >,
        stdio: ["ignore", "ignore", "inherit"],
      });
      const code = await new Promise((resolve) => child.on("close", resolve));
      assertEquals(code, 0);
      assert(readFileSync(image).length > 0);
    });
  });
});

Deno.test("RegistryClient keeps InputErrors of credentials to the request that needs them", async () => {
  await withRegistry(async (registry) => {
    const client = await connect(registry, { authFile: "/nonexistent/auth.json" });
    await assertRejects(() => statusOf(client), InputError, "does not exist");
    assertEquals(registry.asked("manifests").length, 1);
  }, tokens(1));
});

const BASIC = { "www-authenticate": 'Basic realm="example"' };

Deno.test("RegistryClient asks for what is public without a login, whatever /v2/ wants", async () => {
  await withRegistry(async (registry) => {
    registry.add({ layers: [] });
    assertEquals(await statusOf(await connect(registry)), 200);
    assertEquals(registry.requests.map(({ headers }) => headers.authorization), [
      undefined,
      undefined,
    ]);
  }, ({ path }, response) => {
    if (path !== "/v2/") return;
    response.writeHead(401, BASIC).end();
    return true;
  });
});

Deno.test("RegistryClient logs in where a registry hides what is not public", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "auth.json");
    for (const status of [403, 404]) {
      await withRegistry(async (registry) => {
        registry.add({ layers: [] });
        const auths = { [registry.host]: { auth: btoa("me:hunter22") } };
        writeFileSync(file, JSON.stringify({ auths }));
        assertEquals(await statusOf(await connect(registry, { authFile: file })), 200);
        // Without credentials, what it said first is what counts.
        assertEquals(await statusOf(await connect(registry)), status);
      }, ({ path, headers }, response) => {
        if (headers.authorization !== undefined) return;
        response.writeHead(path === "/v2/" ? 401 : status, BASIC).end();
        return true;
      });
    }
  });
});

Deno.test("RegistryClient gets an anonymous token from a registry that another one sends it to", async () => {
  const strict = tokens(1);
  await withDirectory(async (directory) => {
    await withRegistry(async (behind) => {
      behind.add({ layers: [] });
      await withRegistry(async (front) => {
        const file = join(directory, "auth.json");
        const auth = btoa("me:hunter22");
        const auths = { [front.host]: { auth }, [behind.host]: { auth } };
        writeFileSync(file, JSON.stringify({ auths }));
        const client = await connect(front, { authFile: file });
        for (let i = 0; i < 3; i++) assertEquals(await statusOf(client), 200);
        const shown = behind.requests.flatMap(({ headers }) => headers.authorization ?? []);
        assertEquals([...new Set(shown)], ["Bearer t1", "Bearer t2", "Bearer t3"]);
        assertEquals(front.requests.filter(({ headers }) => headers.authorization), []);
      }, ({ path }, response) => {
        if (path === "/v2/") return;
        response.writeHead(307, { location: `${behind.origin}${path}` }).end();
        return true;
      });
    }, strict);
  });
});

Deno.test("RegistryClient goes on without a helper that is missing, and says so when it is refused", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "auth.json");
    writeFileSync(file, JSON.stringify({ credsStore: "gone", auths: { "r.example.com": null } }));
    await withRegistry(async (registry) => {
      registry.add({ layers: [] });
      assertEquals(await statusOf(await connect(registry, { authFile: file })), 200);
    }, tokens(9));
    await withRegistry(async (registry) => {
      const client = await connect(registry, { authFile: file });
      const answer = await client.get(PATH, REQUEST, new Retries(client.session));
      const { hint } = await statusFault(answer, "x", client.session);
      assertStringIncludes(hint ?? "", "docker-credential-gone: is not on the PATH");
    }, tokens(0));
    await withRegistry(async (registry) => {
      const client = await connect(registry, { authFile: file });
      const error = await assertRejects(() => statusOf(client), IoError, "found none");
      assertStringIncludes(error.hint ?? "", "docker-credential-gone: is not on the PATH");
    }, (_, response) => {
      response.writeHead(401, BASIC).end();
      return true;
    });
  });
});

Deno.test("RegistryClient names the proxy that does not let it through", async () => {
  const timing = new TestTiming();
  const environment = { HOME: "/nonexistent", HTTPS_PROXY: "http://127.0.0.1:9" };
  const options = { plainHttp: false, environment, certificateDirectories: [] };
  await withTls("naming a proxy", async (_, certificate) => {
    const source = registrySource(timing, { ...options, caFile: certificate });
    const connect = () => connectRegistry(parseReference("r.example.com/x"), source);
    await assertRejects(connect, IoError, "(through the proxy 127.0.0.1:9)");
  });
});

function addresses(registry: string, plainHttp = false): string[] {
  return registryAddresses(registry, plainHttp).map(({ href }) => href);
}

Deno.test("registryAddresses names http only on request or behind https on loopback", () => {
  assertEquals(addresses("r.example.com"), ["https://r.example.com/"]);
  assertEquals(addresses("r.example.com:5000", true), ["http://r.example.com:5000/"]);
  assertEquals(addresses("localhost:5000"), ["https://localhost:5000/", "http://localhost:5000/"]);
  assertEquals(addresses("[::1]:5000", true), ["http://[::1]:5000/"]);
});

Deno.test("registryAddresses knows where docker.io is", () => {
  assertEquals(addresses("docker.io"), ["https://registry-1.docker.io/"]);
});

Deno.test("registryAddresses refuses a port that is none", () => {
  assertThrows(() => registryAddresses("a.example.com:70000", false), UsageError, "is not a host");
});
