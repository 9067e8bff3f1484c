/** Servers for tests: in this process, or in one that can be killed. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { type IncomingMessage, request as httpRequest } from "node:http";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { optionRules } from "../../cli/commands/serve.ts";
import { type DocumentName, DOCUMENTS, type Route, ROUTES } from "../../serve/http/routes.ts";
import type { Job } from "../../serve/schemas.ts";
import { type RunningServer, startServer } from "../../serve/server.ts";
import type { ListenAddress, ServeSettings } from "../../serve/settings.ts";
import { writeOciLayout } from "../source/build_layout.ts";
import { sampleTar } from "../source/helpers.ts";
import { type Misbehaviour, withRegistry } from "../source/registry/fake_registry.ts";
import { buildTar } from "../tar/build.ts";
import { MAIN, programWords } from "../cli/program.ts";

export const TINY = `oci:${fileURLToPath(new URL("../../fixtures/oci-tiny", import.meta.url))}`;

/** An answer that was read whole. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly bytes: Uint8Array;
  readonly text: string;
  // deno-lint-ignore no-explicit-any
  readonly json: any;
}

/** What a request says. */
export interface Asking {
  readonly method?: string;
  readonly json?: unknown;
  readonly body?: string | Uint8Array;
  readonly headers?: Record<string, string>;
}

/** Asks a server on a socket or a port, and holds each JSON answer against the route's schema. */
export class Client {
  readonly #address: ListenAddress;
  readonly #headers: Record<string, string>;

  constructor(address: ListenAddress, headers: Record<string, string> = {}) {
    this.#address = address;
    this.#headers = headers;
  }

  async ask(path: string, asking: Asking = {}): Promise<Answer> {
    const { message, close } = await this.open(path, asking);
    const pieces: Uint8Array[] = [];
    for await (const piece of message) pieces.push(piece as Uint8Array);
    close();
    const bytes = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
    const text = new TextDecoder().decode(bytes);
    const isJson = message.headers["content-type"]?.startsWith("application/json") ?? false;
    const json = isJson && text !== "" ? JSON.parse(text) : undefined;
    const answer = { status: message.statusCode!, headers: message.headers, bytes, text, json };
    checkAnswer(asking.method ?? (asking.json === undefined ? "GET" : "POST"), path, answer);
    return answer;
  }

  /** The answer as it comes. */
  open(
    path: string,
    { method, json, body, headers = {} }: Asking = {},
  ): Promise<{ readonly message: IncomingMessage; close(): void }> {
    const address = this.#address;
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        ...address.kind === "unix"
          ? { socketPath: address.path, host: "localhost" }
          : { host: address.host, port: address.port },
        path,
        method: method ?? (json === undefined && body === undefined ? "GET" : "POST"),
        agent: false,
        headers: {
          ...json === undefined ? {} : { "content-type": "application/json" },
          ...this.#headers,
          ...headers,
        },
      }, (message) => resolve({ message, close: () => request.destroy() }));
      request.on("error", reject);
      request.end(json === undefined ? body : JSON.stringify(json));
    });
  }

  /** Asks for an image and gives the job. */
  async bless(request: Record<string, unknown>): Promise<Job> {
    const { status, json, text } = await this.ask("/v1/images", { json: request });
    if (status !== 202) throw new Error(`POST /v1/images: ${status} ${text}`);
    return json;
  }

  /** Waits until a worker has a job. */
  async begun(id: string): Promise<void> {
    while ((await this.ask(`/v1/jobs/${id}`)).json.state === "queued") await pause();
  }

  /** The job when it has ended. */
  async ended(id: string, seconds = 120): Promise<Job> {
    const untilMs = performance.now() + seconds * 1000;
    for (;;) {
      const { json } = await this.ask(`/v1/jobs/${id}?wait=20s`);
      if (json.finishedAt !== null) return json;
      if (performance.now() > untilMs) throw new Error(`job ${id} is still ${json.state}`);
    }
  }
}

/** The route of a request. */
export function routeOf(method: string, path: string): Route | undefined {
  const plain = path.split("?")[0]!;
  return ROUTES.find((route) => {
    const pattern = route.path.replace(
      /:[a-z]+(\{[^}]*\})?/g,
      (_, rest) => rest === undefined ? "[^/]+" : ".+",
    );
    const methods = route.method === "get" ? ["GET", "HEAD"] : [route.method.toUpperCase()];
    return methods.includes(method) && new RegExp(`^${pattern}$`).test(plain);
  });
}

/** Throws unless an answer is one that /openapi.json tells of. */
function checkAnswer(method: string, path: string, { status, json, headers }: Answer): void {
  const route = routeOf(method, path);
  if (route === undefined || method === "HEAD") return;
  const answer = route.answers[status];
  const content: DocumentName | { readonly type: string } | undefined = answer === undefined
    ? "Error"
    : answer.content;
  if (answer === undefined && status < 400) throw new Error(`${method} ${path}: status ${status}`);
  if (typeof content === "string") v.parse(DOCUMENTS[content], json);
  else if (content && !headers["content-type"]?.startsWith(content.type)) {
    throw new Error(`${method} ${path}: ${headers["content-type"]}`);
  }
}

/** Settings for a server of a test. */
export function testSettings(
  directory: string,
  more: Partial<ServeSettings> = {},
): ServeSettings {
  const images = join(directory, "images");
  return {
    listen: { kind: "unix", path: join(directory, "socket") },
    images,
    store: undefined,
    state: join(images, ".serve", "state.db"),
    host: "here",
    workers: availableParallelism(),
    queueMax: 1000,
    jobMemoryBytes: 2 * 1024 ** 3,
    deadlineMs: 120_000,
    resolveMs: 60_000,
    blobBytesMax: 1 << 30,
    retryDelaysMs: [10, 10],
    leaseMs: 2000,
    drainMs: 30_000,
    keepJobsMs: 3_600_000,
    tokens: [],
    policy: { roots: undefined, trustsClients: true, registries: undefined },
    optionRules: optionRules(),
    authFile: undefined,
    plainHttp: false,
    tmpdir: undefined,
    timestamp: 0,
    program: testProgram(),
    version: "0.0.0-test",
    ...more,
  };
}

/** How the program is started in tests: without looking at types again. */
export function testProgram(): ServeSettings["program"] {
  const [command, ...words] = programWords(MAIN);
  return [command, ...words.flatMap((word) => word === "run" ? ["run", "--no-check"] : [word])];
}

/** A server in this process, while a test runs. */
export interface Serving {
  readonly server: RunningServer;
  readonly client: Client;
  readonly directory: string;
  readonly settings: ServeSettings;
  /** What was logged. */
  readonly log: string[];
}

/** Runs a test with a server. */
export async function withServing<T>(
  more: Partial<ServeSettings> | ((directory: string) => Partial<ServeSettings>),
  test: (serving: Serving) => Promise<T>,
): Promise<T> {
  return await inDirectory(async (directory) => {
    const settings = testSettings(
      directory,
      typeof more === "function" ? more(directory) : more,
    );
    const log: string[] = [];
    const server = await startServer(settings, (line) => log.push(line));
    const port = Number(/:(\d+)$/.exec(server.address)?.[1]);
    const address = settings.listen.kind === "tcp" ? { ...settings.listen, port } : settings.listen;
    try {
      return await test({ server, client: new Client(address), directory, settings, log });
    } finally {
      await server.stop();
    }
  });
}

/** Runs a test with a directory of its own. */
export async function inDirectory<T>(test: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-serve-"));
  try {
    return await test(directory);
  } finally {
    await ServerProcess.endAll();
    rmSync(directory, { recursive: true, force: true, maxRetries: 10 });
  }
}

/** Writes a small image that no other number gives. */
export function writeSmallImage(directory: string, number: number): string {
  const path = join(directory, `small-${number}`);
  const tar = buildTar([
    { path: "etc/" },
    { path: "etc/number", data: `${number}\n` },
  ]);
  writeOciLayout(path, { layers: [tar] });
  return `oci:${path}`;
}

/** An image whose layer is held back: a job that needs it runs until it is released. */
export interface HeldImage {
  readonly source: string;
  release(): void;
}

/** Runs a test with an image that is held back, so that a job is still running however fast the machine is. */
export async function withHeldImage(test: (held: HeldImage) => Promise<void>): Promise<void> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let layerDigest = "";
  const hold: Misbehaviour = (request, response, registry) => {
    if (!request.path.includes(`/blobs/${layerDigest}`)) return false;
    void released.then(() => registry.behave(request, response));
    return true;
  };
  await withRegistry(async (registry) => {
    layerDigest = registry.add({ layers: [sampleTar(1)] }).layerDigests[0]!;
    await test({ source: registry.source(), release });
  }, hold);
}

/** A server in a process of its own. */
export class ServerProcess {
  static readonly #running = new Set<ServerProcess>();
  readonly child: ChildProcess;
  readonly #ended: Promise<number | null>;
  log = "";

  private constructor(words: readonly string[]) {
    const [command, ...args] = [...testProgram(), "serve", ...words];
    this.child = spawn(command!, args, {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
    this.child.stderr!.on("data", (piece: Uint8Array) => {
      this.log += new TextDecoder().decode(piece);
    });
    ServerProcess.#running.add(this);
    this.#ended = new Promise((resolve) => {
      this.child.on("close", (code) => {
        ServerProcess.#running.delete(this);
        resolve(code);
      });
    });
  }

  /** Ends what a test that failed has left running. */
  static async endAll(): Promise<void> {
    for (const server of ServerProcess.#running) await server.kill("SIGKILL");
  }

  /** Starts one, and waits until it listens. */
  static async start(words: readonly string[]): Promise<ServerProcess> {
    const server = new ServerProcess(words);
    let isOver = false;
    void server.#ended.then(() => isOver = true);
    while (!server.log.includes('"message":"listening"')) {
      if (isOver) throw new Error(`the server ended: ${server.log}`);
      await pause();
    }
    return server;
  }

  async kill(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    // Deno takes a child that it has sent a signal to for one that died of it.
    process.kill(this.child.pid!, signal);
    return await this.#ended;
  }
}

/** Lets time pass where something is asked again and again. */
export function pause(milliseconds = 10): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The processes that work in a directory of images. */
export function processesOf(directory: string): number[] {
  const pids: number[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const environment = readFileSync(`/proc/${name}/environ`, "latin1");
      if (environment.includes(`BLESSFS_SERVE_WORK=${directory}/`)) pids.push(Number(name));
    } catch {
      // It has ended, or is somebody else's.
    }
  }
  return pids;
}
