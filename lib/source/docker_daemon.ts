/**
 * `docker-daemon:NAME`: an image from a running Docker or podman, through the Docker Engine API
 * (https://docs.docker.com/reference/api/engine/, "Export an image") on a unix socket or over TCP.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { existsSync } from "node:fs";
import http, { type IncomingMessage, type RequestOptions } from "node:http";
import https from "node:https";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import * as v from "valibot";
import { InputError, IoError, UsageError } from "../errors.ts";
import { readCertificates } from "../io/http_fetch.ts";
import { openArchive } from "./archive.ts";
import { openDockerArchive } from "./docker_archive.ts";
import { displayText, fields, readJson, TEXT } from "./json.ts";
import { parseReference } from "./source_name.ts";
import { Connection, NetworkFault, REAL_TIMING, type RegistryTiming } from "./registry/http.ts";
import { spoolStream } from "./source_file.ts";
import type { OpenedImage, ResolvedOptions } from "./types.ts";

type Environment = Readonly<Record<string, string | undefined>>;

const STALL_MILLISECONDS = 60_000;
/** The time limit for the next piece of an image: Docker before 25 copies all layers before it sends the first piece. */
const EXPORT_STALL_MILLISECONDS = 600_000;
const MAX_DOCUMENT_BYTES = 4 << 20;
const SHOWN_CHARACTERS = 300;

export interface DaemonEndpoint {
  /** The daemon's name in messages; safe to print. */
  readonly name: string;
  readonly route: Pick<RequestOptions, "socketPath" | "host" | "port">;
  /** With TLS, the directory of ca.pem, cert.pem and key.pem. */
  readonly certificates: string | undefined;
}

/** Finds the daemon: `DOCKER_HOST`, or the first of the Docker and podman sockets that exists. */
export function daemonEndpoint(
  environment: Environment,
  isThere: (path: string) => boolean,
): DaemonEndpoint {
  const { DOCKER_HOST: named, XDG_RUNTIME_DIR: runtime } = environment;
  if (named) return namedEndpoint(named, environment);
  const sockets = [
    "/var/run/docker.sock",
    ...runtime ? [join(runtime, "docker.sock")] : [],
    "/run/podman/podman.sock",
    ...runtime ? [join(runtime, "podman/podman.sock")] : [],
  ];
  const socketPath = sockets.find(isThere);
  if (socketPath !== undefined) return socketEndpoint(socketPath);
  const why = `found no socket of Docker or podman: ${sockets.join(", ")}`;
  throw new IoError("docker-daemon", why, { hint: START_HINT });
}

const START_HINT = "start Docker or `podman system service --time=0`, or set DOCKER_HOST to " +
  "unix://PATH or tcp://HOST:PORT";

function socketEndpoint(socketPath: string): DaemonEndpoint {
  return { name: displayText(socketPath), route: { socketPath }, certificates: undefined };
}

function namedEndpoint(named: string, environment: Environment): DaemonEndpoint {
  const socketPath = /^unix:\/\/(\/.*)$/s.exec(named)?.[1];
  if (socketPath !== undefined) return socketEndpoint(socketPath);
  const url = /^(?:tcp|https?):\/\//.test(named) && URL.canParse(named)
    ? new URL(named)
    : undefined;
  if (url === undefined || url.hostname === "" || !["", "/"].includes(url.pathname)) {
    const why = `found "${displayText(named)}": wanted unix:///PATH or tcp://HOST:PORT`;
    const forward = "forward the socket: `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST`";
    const hint = named.startsWith("ssh:") ? forward : undefined;
    throw new UsageError("DOCKER_HOST", why, { hint });
  }
  const { DOCKER_TLS_VERIFY, DOCKER_TLS, DOCKER_CERT_PATH, DOCKER_CONFIG } = environment;
  const isSecure = url.protocol === "https:" || Boolean(DOCKER_TLS_VERIFY || DOCKER_TLS);
  // The brackets around an IPv6 address belong to the URL.
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  // The ports that Docker registered for plain HTTP and for TLS.
  const port = url.port === "" ? (isSecure ? 2376 : 2375) : Number(url.port);
  const certificates = DOCKER_CERT_PATH || DOCKER_CONFIG || join(homedir(), ".docker");
  return {
    name: displayText(named),
    route: { host, port },
    certificates: isSecure ? certificates : undefined,
  };
}

/** Opens an image by name or id: it is exported to an unlinked file, as `docker save` would, and read from there. */
export async function openDaemonImage(
  source: string,
  image: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const { environment = process.env, timing = REAL_TIMING } = options.registry ?? {};
  const what = displayText(source);
  const name = completeName(image);
  const endpoint = daemonEndpoint(environment, existsSync);
  const daemon: Daemon = { what, endpoint, timing, signal: options.signal };
  const exported = await exportedName(daemon, image, name);
  const pieces = ask(daemon, `/images/${exported}/get`, EXPORT_STALL_MILLISECONDS);
  const file = await spoolStream(what, pieces, options);
  const opened = await openArchive(file, options, (archive) => {
    return openDockerArchive(source, archive, undefined, options);
  });
  return { ...opened, kind: "docker-daemon" };
}

/** Completes a bare name, which would otherwise export every tag of its repository. */
function completeName(image: string): string {
  const { tag } = parseReference(image);
  const hasVersion = /[:@]/.test(image.slice(image.lastIndexOf("/") + 1));
  return hasVersion ? image : `${image}:${tag}`;
}

/** Matches ids and abbreviated ids, which may also be names. */
const ID = /^(?:sha256:)?[0-9a-f]{1,64}$/;
const FOUND_IMAGE = fields({ Id: TEXT });

/**
 * What to export once the daemon has found the image. If a daemon tries names before ids, its response shows which one
 * matched.
 */
async function exportedName(daemon: Daemon, image: string, name: string): Promise<string> {
  const mayBeId = ID.test(image);
  const asked = `/images/${mayBeId ? image : name}/json`;
  const what = `${daemon.what}: what ${daemon.endpoint.name} says of it`;
  const { Id } = readJson(FOUND_IMAGE, await wholeBody(ask(daemon, asked), daemon), what);
  const id = Id.replace(/^sha256:/, "");
  const isId = mayBeId && /^[0-9a-f]{64}$/.test(id) && id.startsWith(image.replace(/^sha256:/, ""));
  return isId ? `sha256:${id}` : name;
}

interface Daemon {
  /** The source, for errors. */
  readonly what: string;
  readonly endpoint: DaemonEndpoint;
  readonly timing: RegistryTiming;
  readonly signal: AbortSignal | undefined;
}

/**
 * The body of a response with status 200. The request is sent only when the first piece is requested. It uses the latest
 * API version.
 */
async function* ask(
  daemon: Daemon,
  path: string,
  stallMilliseconds = STALL_MILLISECONDS,
): AsyncGenerator<Uint8Array> {
  const { endpoint, timing, signal } = daemon;
  const connection = new Connection(signal, timing, stallMilliseconds);
  try {
    const message = await connection.watch((inner) => send(endpoint, path, inner));
    const body = bodyOf(message, connection);
    const { statusCode = 0 } = message;
    if (statusCode !== 200) throw refusal(daemon, statusCode, await wholeBody(body, daemon));
    yield* body;
  } catch (error) {
    throw error instanceof NetworkFault ? daemonFault(daemon, error, connection.failure) : error;
  } finally {
    connection.end();
  }
}

async function* bodyOf(
  message: IncomingMessage,
  connection: Connection,
): AsyncGenerator<Uint8Array> {
  const pieces: AsyncIterator<Uint8Array> = message[Symbol.asyncIterator]();
  for (;;) {
    const { done, value } = await connection.watch(() => pieces.next());
    if (done) return;
    connection.count(value.length);
    yield value;
  }
}

function send(
  { route, certificates }: DaemonEndpoint,
  path: string,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const shared = { ...route, path, method: "GET", signal, agent: false as const };
  const headers = { "Host": route.host === undefined ? "docker" : String(route.host) };
  return new Promise((resolve, reject) => {
    const request = certificates === undefined
      ? http.request({ ...shared, headers })
      : https.request({ ...shared, headers, ...tlsOptions(certificates) });
    request.on("response", resolve);
    request.on("error", reject);
    request.end();
  });
}

/** The files that `docker --tlsverify` uses. */
function tlsOptions(directory: string): Pick<https.RequestOptions, "ca" | "cert" | "key"> {
  const [caFile, certFile, keyFile] = ["ca.pem", "cert.pem", "key.pem"]
    .map((name) => join(directory, name))
    .map((path) => existsSync(path) ? path : undefined);
  const found = readCertificates({ caFile, certFile, keyFile });
  return {
    ...found && found.authorities.length > 0 ? { ca: [...found.authorities] } : {},
    ...found?.client ? { cert: found.client.certificate, key: found.client.key } : {},
  };
}

async function wholeBody(pieces: AsyncIterable<Uint8Array>, daemon: Daemon): Promise<Uint8Array> {
  const kept: Uint8Array[] = [];
  let lengthBytes = 0;
  for await (const piece of pieces) {
    kept.push(piece);
    lengthBytes += piece.length;
    if (lengthBytes > MAX_DOCUMENT_BYTES) {
      const why = `${daemon.endpoint.name} answers with more than ${MAX_DOCUMENT_BYTES} bytes`;
      throw new InputError(daemon.what, why);
    }
  }
  return Buffer.concat(kept);
}

function refusal(daemon: Daemon, status: number, body: Uint8Array): InputError | IoError {
  const { what, endpoint: { name } } = daemon;
  const message = daemonMessage(body);
  if (status !== 404) {
    return new IoError(what, `${name} answers with status ${status}${message && `: "${message}"`}`);
  }
  return new InputError(what, `${name} has no such image${message && `: it says "${message}"`}`, {
    hint:
      "`docker images` or `podman images` lists what is there; docker://NAME pulls from a registry",
  });
}

/** The text of the daemon's `{"message": ...}`, safe to print; empty if there is none. */
function daemonMessage(body: Uint8Array): string {
  const text = new TextDecoder().decode(body).slice(0, 4 * SHOWN_CHARACTERS);
  try {
    const { message } = v.parse(v.object({ message: v.string() }), JSON.parse(text));
    return displayText(message.slice(0, SHOWN_CHARACTERS));
  } catch {
    return displayText(text.trim().slice(0, SHOWN_CHARACTERS));
  }
}

const CONNECTION_FAULTS: ReadonlyMap<string, readonly [why: string, hint: string]> = new Map([
  ["ENOENT", ["there is no socket at", START_HINT]],
  ["ENOTSOCK", ["there is no socket at", START_HINT]],
  ["ECONNREFUSED", ["nothing answers at", START_HINT]],
  ["EACCES", [
    "permission denied at",
    "run as root, or as a member of the group that owns the socket",
  ]],
]);

function daemonFault(
  { what, endpoint: { name } }: Daemon,
  fault: NetworkFault,
  cause: unknown,
): IoError {
  const { stalledSeconds } = fault.details;
  if (stalledSeconds !== undefined) {
    return new IoError(what, `${name} sent nothing for ${stalledSeconds} seconds`, {
      hint: "see whether `docker version` answers; restart the daemon if it does not",
    });
  }
  const { code = "" } = (cause ?? {}) as NodeJS.ErrnoException;
  const [why, hint] = CONNECTION_FAULTS.get(code) ?? [];
  return new IoError(what, why ? `${why} ${name}` : `${name}: ${fault.message}`, { hint, cause });
}
