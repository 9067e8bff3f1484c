import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { daemonEndpoint } from "../../lib/source/docker_daemon.ts";
import type { SourceOptions } from "../../lib/source/types.ts";
import { hasCommand, runCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTar } from "../tar/build.ts";
import { oldDockerEntries, TARS } from "./build_archives.ts";
import {
  openAndLoad,
  openFilesBelow,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";
import { registrySource, sendJson, TestTiming } from "./registry/fake_registry.ts";

const ID = "0123456789abcdef".repeat(4);
const ARCHIVE = buildTar(oldDockerEntries());

/** Answers as a daemon with one image, `app:1`. */
function answerAsDaemon(request: IncomingMessage, response: ServerResponse): void {
  const ids = [`sha256:${ID}`, ID.slice(0, 12), ID.slice(0, 4)];
  const names = ["app:1", "team/app:latest", ...ids, "cafe", "cafe:latest"];
  const [, name, question] = /^\/images\/(.+)\/(json|get)$/.exec(request.url ?? "") ?? [];
  if (name === undefined || !names.includes(name)) {
    sendJson(response, 404, { message: `No such image: ${name}` });
  } else if (question === "json") sendJson(response, 200, { Id: `sha256:${ID}`, RepoTags: null });
  else response.end(ARCHIVE);
}

/** A daemon on a socket in a directory of its own. */
async function withDaemon(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  test: (daemon: {
    readonly asked: string[];
    readonly socket: string;
    readonly directory: string;
    readonly timing: TestTiming;
    readonly options: SourceOptions;
  }) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const asked: string[] = [];
    const socket = join(directory, "daemon.sock");
    const server = createServer((request, response) => {
      asked.push(request.url ?? "");
      answer(request, response);
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const timing = new TestTiming();
    const options = registrySource(timing, {
      environment: { DOCKER_HOST: `unix://${socket}` },
    }, { tmpdir: directory });
    try {
      await test({ asked, socket, directory, timing, options });
      assertEquals(timing.alarmCount, 0);
      assertEquals(openFilesBelow(directory), []);
      assertEquals(readdirSync(directory), ["daemon.sock"]);
    } finally {
      await closed(server);
    }
  });
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

Deno.test("openDaemonImage reads an image over a unix socket", async () => {
  await withDaemon(answerAsDaemon, async ({ asked, options }) => {
    await withLoaded("docker-daemon:app:1", options, (layers, image) => {
      assertEquals(image.kind, "docker-daemon");
      assertEquals(image.source, "docker-daemon:app:1");
      assertEquals(layers.map(storeBytes), [TARS[0]!, TARS[1]!, TARS[0]!]);
    });
    assertEquals(asked, ["/images/app:1/json", "/images/app:1/get"]);
    asked.length = 0;
    await openAndLoad("docker-daemon:team/app", options);
    assertEquals(asked, ["/images/team/app:latest/json", "/images/team/app:latest/get"]);
    asked.length = 0;
    await openAndLoad(`docker-daemon:${ID.slice(0, 12)}`, options);
    assertEquals(asked, [`/images/${ID.slice(0, 12)}/json`, `/images/sha256:${ID}/get`]);
    asked.length = 0;
    await openAndLoad(`docker-daemon:${ID.slice(0, 4)}`, options);
    assertEquals(asked, [`/images/${ID.slice(0, 4)}/json`, `/images/sha256:${ID}/get`]);
    asked.length = 0;
    // It looks like the beginning of an id, and the daemon has an image of that name.
    await openAndLoad("docker-daemon:cafe", options);
    assertEquals(asked, ["/images/cafe/json", "/images/cafe:latest/get"]);
  });
});

Deno.test("openDaemonImage reads an image over TCP", async () => {
  const server = createServer(answerAsDaemon);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const { port } = server.address() as AddressInfo;
    const environment = { DOCKER_HOST: `tcp://127.0.0.1:${port}` };
    await openAndLoad("docker-daemon:app:1", registrySource(new TestTiming(), { environment }));
  } finally {
    await closed(server);
  }
});

Deno.test("openDaemonImage says where nobody answers", async () => {
  await withDirectory(async (directory) => {
    const open = (socket: string) => {
      const environment = { DOCKER_HOST: `unix://${join(directory, socket)}` };
      return openAndLoad("docker-daemon:app", registrySource(new TestTiming(), { environment }));
    };
    const missing = join(directory, "missing");
    await assertRejects(
      () => open("missing"),
      IoError,
      `docker-daemon:app: there is no socket at ${missing}`,
    );
    writeFileSync(join(directory, "file"), "");
    await assertRejects(() => open("file"), IoError, join(directory, "file"));
  });
});

Deno.test("openDaemonImage gives up on a daemon that hangs, before and in the middle of an image", async () => {
  const own: { timing?: TestTiming } = {};
  // Until it was heard: who waits may not have begun to.
  const ringUntilClosed = (response: ServerResponse) => {
    const timer = setInterval(() => own.timing!.ring(), 5);
    response.on("close", () => clearInterval(timer));
  };
  await withDaemon(
    (_, response) => ringUntilClosed(response),
    async ({ timing, socket, options }) => {
      own.timing = timing;
      await assertRejects(
        () => openAndLoad("docker-daemon:app:1", options),
        IoError,
        `docker-daemon:app:1: ${socket} sent nothing for 60 seconds`,
      );
    },
  );
  await withDaemon((request, response) => {
    if (request.url?.endsWith("/json")) return answerAsDaemon(request, response);
    response.write(ARCHIVE.subarray(0, 1000), () => ringUntilClosed(response));
  }, async ({ timing, socket, options }) => {
    own.timing = timing;
    await assertRejects(
      () => openAndLoad("docker-daemon:app:1", options),
      IoError,
      `docker-daemon:app:1: ${socket} sent nothing for 600 seconds`,
    );
  });
});

Deno.test("openDaemonImage passes on that there is no such image, and what went wrong", async () => {
  await withDaemon(answerAsDaemon, async ({ socket, options }) => {
    const error = await assertRejects(
      () => openAndLoad("docker-daemon:nope", options),
      InputError,
      `docker-daemon:nope: ${socket} has no such image: it says "No such image: nope:latest"`,
    );
    assertEquals((error as InputError).hint?.includes("docker images"), true);
  });
  const broken = (_: IncomingMessage, response: ServerResponse) =>
    sendJson(response, 500, { message: "disk\u001b[31m full" });
  await withDaemon(broken, async ({ socket, options }) => {
    await assertRejects(
      () => openAndLoad("docker-daemon:app:1", options),
      IoError,
      `${socket} answers with status 500: "disk\\x1b[31m full"`,
    );
  });
  await withDaemon((_, response) => void response.end("pong"), async ({ options }) => {
    await assertRejects(() => openAndLoad("docker-daemon:app:1", options), InputError, "JSON");
  });
});

Deno.test("openDaemonImage refuses a stream that is cut", async () => {
  const cuts: readonly ((response: ServerResponse) => void)[] = [
    // In the middle of a chunk, and between two.
    (response) => response.write(ARCHIVE.subarray(0, 3000), () => response.socket?.destroy()),
    (response) => response.end(ARCHIVE.subarray(0, 3000)),
    (response) => response.end(),
  ];
  for (const cut of cuts) {
    await withDaemon((request, response) => {
      if (request.url?.endsWith("/json")) return answerAsDaemon(request, response);
      cut(response);
    }, async ({ options }) => {
      const error = await assertRejects(() => openAndLoad("docker-daemon:app:1", options));
      assertEquals(error instanceof IoError || error instanceof InputError, true, String(error));
      assertEquals((error as Error).message.startsWith("docker-daemon:app:1"), true, String(error));
    });
  }
});

Deno.test("openDaemonImage asks for no image that it cannot keep", async () => {
  await withDaemon(answerAsDaemon, async ({ asked, directory, options }) => {
    const elsewhere = { ...options, tmpdir: join(directory, "missing") };
    await assertRejects(() => openAndLoad("docker-daemon:app:1", elsewhere), IoError, "missing");
    assertEquals(asked, ["/images/app:1/json"]);
  });
});

Deno.test("openDaemonImage ends when it is interrupted", async () => {
  const controller = new AbortController();
  await withDaemon(() => controller.abort(), async ({ options }) => {
    const interrupted = { ...options, signal: controller.signal };
    await assertRejects(() => openAndLoad("docker-daemon:app:1", interrupted), InterruptedError);
  });
});

Deno.test("daemonEndpoint follows DOCKER_HOST, and else takes the first socket that is there", () => {
  const none = () => false;
  const route = (environment: Record<string, string>, isThere: (path: string) => boolean = none) =>
    daemonEndpoint(environment, isThere).route;
  assertEquals(route({ DOCKER_HOST: "unix:///a b/c" }), { socketPath: "/a b/c" });
  assertEquals(route({ DOCKER_HOST: "tcp://host" }), { host: "host", port: 2375 });
  assertEquals(route({ DOCKER_HOST: "tcp://[::1]:99" }), { host: "::1", port: 99 });
  const secure = { DOCKER_HOST: "tcp://host", DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: "/c" };
  const endpoint = daemonEndpoint(secure, none);
  assertEquals([endpoint.route.port, endpoint.certificates], [2376, "/c"]);
  const podman = "/run/user/9/podman/podman.sock";
  assertEquals(route({ XDG_RUNTIME_DIR: "/run/user/9" }, (path) => path === podman), {
    socketPath: podman,
  });
  assertEquals(route({ DOCKER_HOST: "" }, () => true), { socketPath: "/var/run/docker.sock" });
  assertThrows(() => route({}), IoError, "/var/run/docker.sock, /run/podman/podman.sock");
  for (const wrong of ["ssh://host", "unix://relative", "tcp://", "tcp://host/path", "host:1"]) {
    assertThrows(() => route({ DOCKER_HOST: wrong }), UsageError, `DOCKER_HOST: found "${wrong}"`);
  }
});

/** A storage of podman's own in a directory; undefined where podman cannot keep one. */
function storedImage(directory: string): readonly string[] | undefined {
  const archive = join(directory, "app.tar");
  writeFileSync(archive, ARCHIVE);
  const storage = ["--root", join(directory, "root"), "--runroot", join(directory, "run")];
  const words = [...storage, "--storage-driver", "vfs"];
  const loaded = runCommand("podman", [...words, "load", "--quiet", "--input", archive]);
  if (loaded.status === 0) return words;
  notRun("docker-daemon: from podman's service", `podman cannot store images: ${loaded.stderr}`);
  return undefined;
}

Deno.test("openDaemonImage reads an image from podman's service", async () => {
  if (!hasCommand("podman")) {
    return notRun("docker-daemon: from podman's service", "podman is not installed");
  }
  await withDirectory(async (directory) => {
    const words = storedImage(directory);
    if (words === undefined) return;
    const socket = join(directory, "podman.sock");
    const service = spawn(
      "podman",
      [...words, "system", "service", "--time=0", `unix://${socket}`],
      {
        stdio: "ignore",
      },
    );
    const ended = new Promise((resolve) => service.on("close", resolve));
    try {
      const environment = { ...process.env, DOCKER_HOST: `unix://${socket}` };
      while (service.exitCode === null && !existsSync(socket)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const options = testOptions({ registry: { environment } });
      await withLoaded("docker-daemon:app:1", options, (layers) => {
        assertEquals(layers.map(storeBytes), [TARS[0]!, TARS[1]!, TARS[0]!]);
      });
      await assertRejects(
        () => openAndLoad("docker-daemon:localhost/nope", options),
        InputError,
        "has no such image",
      );
    } finally {
      service.kill("SIGKILL");
      await ended;
    }
  });
});
