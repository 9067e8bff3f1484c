/**
 * A small registry in this process, which does as the specification says until a test tells it otherwise, and a clock
 * that only tests move.
 *
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { NO_PROGRESS } from "../../../lib/progress.ts";
import { Secrets } from "../../../lib/source/registry/credentials.ts";
import type { Session } from "../../../lib/source/registry/retry.ts";
import type { RegistryOptions } from "../../../lib/source/types.ts";
import type { RegistryTiming } from "../../../lib/source/registry/http.ts";
import type { ResolvedOptions, SourceOptions } from "../../../lib/source/source.ts";
import { type Blobs, buildImage, type BuiltImage, type ImageSpec } from "../build_layout.ts";
import { testOptions } from "../helpers.ts";

/** A request as it arrived. */
export interface SeenRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** Answers a request in its own way and returns true, or leaves it to the registry. */
export type Misbehaviour = (
  request: SeenRequest,
  response: ServerResponse,
  registry: FakeRegistry,
) => boolean | void;

/** A server for one test. */
export class FakeRegistry {
  readonly blobs: Blobs = new Map();
  readonly tags = new Map<string, string>();
  /** What was asked, in order. */
  readonly requests: SeenRequest[] = [];
  readonly #server: Server;
  hasRanges = true;

  constructor(misbehave: Misbehaviour) {
    this.#server = createServer((message, response) => {
      const pieces: Uint8Array[] = [];
      message.on("data", (piece: Uint8Array) => pieces.push(piece));
      message.on("end", () => {
        const request: SeenRequest = {
          method: message.method!,
          path: message.url!,
          headers: message.headers,
          body: pieces.map((piece) => new TextDecoder().decode(piece)).join(""),
        };
        this.requests.push(request);
        if (misbehave(request, response, this) !== true) this.behave(request, response);
      });
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get origin(): string {
    return `http://${this.host}`;
  }

  /** The source that names an image here. */
  source(rest = "team/app:v1"): string {
    return `docker://${this.host}/${rest}`;
  }

  /** Adds an image and tags it. */
  add(spec: ImageSpec, tag = "v1"): BuiltImage {
    const image = buildImage(this.blobs, spec);
    this.tags.set(tag, image.manifest.digest);
    return image;
  }

  /** The requests whose path has a text in it. */
  asked(part: string): SeenRequest[] {
    return this.requests.filter(({ path }) => path.includes(part));
  }

  /** Answers as the specification says. */
  behave({ path, headers }: SeenRequest, response: ServerResponse): void {
    if (path === "/v2/") return void response.end("{}");
    const [, kind, id] = /\/(manifests|blobs)\/([^?]*)/.exec(path) ?? [];
    const digest = this.tags.get(id ?? "") ?? id ?? "";
    const bytes = this.blobs.get(digest);
    if (!bytes) return sendJson(response, 404, errorBody("BLOB_UNKNOWN", "unknown"));
    const range = /^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1];
    const start = this.hasRanges && kind === "blobs" && range ? Number(range) : 0;
    const rest = bytes.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, {
      "content-type": kind === "manifests" ? typeOf(bytes) : "application/octet-stream",
      "content-length": rest.length,
      "docker-content-digest": digest,
      etag: `"${digest}"`,
      ...start > 0 ? { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {},
    });
    response.end(rest);
  }
}

/** Runs a test with a registry. */
export async function withRegistry<T>(
  test: (registry: FakeRegistry) => Promise<T>,
  misbehave: Misbehaviour = () => {},
): Promise<T> {
  const registry = new FakeRegistry(misbehave);
  await registry.start();
  try {
    return await test(registry);
  } finally {
    await registry.stop();
  }
}

/** A clock that stands still: waits end at once and are noted, alarms ring when a test wants. */
export class TestTiming implements RegistryTiming {
  readonly waits: number[] = [];
  readonly #alarms = new Map<() => void, number>();

  wait(milliseconds: number): Promise<void> {
    this.waits.push(milliseconds);
    return Promise.resolve();
  }

  alarm(milliseconds: number, ring: () => void): () => void {
    this.#alarms.set(ring, milliseconds);
    return () => this.#alarms.delete(ring);
  }

  /** Has every alarm ring that is set, or those that were set for so long. */
  ring(only?: number): void {
    for (const [ring, milliseconds] of [...this.#alarms]) {
      if (only === undefined || milliseconds === only) ring();
    }
  }

  get alarmCount(): number {
    return this.#alarms.size;
  }
}

/** Options of a source: plain http, no credentials of whoever runs the tests. */
export function registrySource(
  timing: RegistryTiming,
  registry: Partial<RegistryOptions> = {},
  more: Partial<SourceOptions> = {},
): ResolvedOptions {
  const environment = { HOME: "/nonexistent" };
  return testOptions({
    registry: { plainHttp: true, environment, timing, ...registry },
    ...more,
  });
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

/** What registries say when they refuse. */
export function errorBody(code: string, message: string): unknown {
  return { errors: [{ code, message }] };
}

/** Sends only the beginning of a body, and breaks the connection. */
export function sendCut(
  response: ServerResponse,
  status: number,
  headers: Record<string, string | number>,
  begin: Uint8Array,
): void {
  response.writeHead(status, headers);
  // Only once it is on its way, or nothing of it would be.
  response.write(begin, () => setTimeout(() => response.destroy(), 20));
}

function typeOf(document: Uint8Array): string {
  const { mediaType } = JSON.parse(new TextDecoder().decode(document)) as { mediaType?: string };
  return mediaType ?? "application/vnd.oci.image.manifest.v1+json";
}

/** What requests share, with a password among its secrets. */
export function testSession(timing: RegistryTiming = new TestTiming()): Session {
  const secrets = new Secrets();
  secrets.add("hunter22");
  return { timing, progress: NO_PROGRESS, secrets, credentialFaults: [] };
}
