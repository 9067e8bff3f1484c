/**
 * `docker-daemon:NAME`: an image of a running Docker or podman, over the Docker Engine API
 * (https://docs.docker.com/reference/api/engine/, "Export an image"), on a unix socket or over TCP.
 *
 * @module
 */
import { existsSync } from "node:fs";
import http, { type IncomingMessage, type RequestOptions } from "node:http";
import https from "node:https";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import * as v from "valibot";
import { type ErrorDetails, InputError, IoError, throwIfAborted, UsageError } from "../errors.ts";
import { readCertificates } from "../io/http_fetch.ts";
import { openArchive } from "./archive.ts";
import { openDockerArchive } from "./docker_archive.ts";
import { checkJson, displayText, fields, listOf, maybe, parseJson, TEXT } from "./json.ts";
import { parseReference } from "./reference.ts";
import { NetworkFault, networkFault, REAL_TIMING, type RegistryTiming } from "./registry/http.ts";
import { spoolStream } from "./source_file.ts";
import type { OpenedImage, ResolvedOptions } from "./types.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** How long a daemon may take to answer a question, and to send the next piece of an image. */
const STALL_MILLISECONDS = 60_000;
/** Docker before 25 copies all layers to a temporary directory before it sends the first byte. */
const EXPORT_STALL_MILLISECONDS = 600_000;
/** What a daemon says of an image, and of an error, is short. */
const MAX_DOCUMENT_BYTES = 4 << 20;
const SHOWN_CHARACTERS = 300;

/** Where a daemon is reached. */
export interface DaemonEndpoint {
  /** What to call it in messages; safe to print. */
  readonly name: string;
  /** For node:http. */
  readonly route: Pick<RequestOptions, "socketPath" | "host" | "port">;
  /** With TLS: the directory of ca.pem, cert.pem and key.pem. */
  readonly certificates: string | undefined;
}

/**
 * Finds the daemon: `DOCKER_HOST`, or else the first of Docker's and podman's sockets that is there.
 *
 * @param isThere whether something is at a path
 * @throws {UsageError} when DOCKER_HOST is not `unix://PATH` or `tcp://HOST:PORT`
 * @throws {IoError} when there is no socket
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { daemonEndpoint } from "./docker_daemon.ts";
 * const endpoint = daemonEndpoint({ DOCKER_HOST: "unix:///run/docker.sock" }, () => true);
 * assertEquals(endpoint.route, { socketPath: "/run/docker.sock" });
 * ```
 */
export function daemonEndpoint(
  environment: Environment,
  isThere: (path: string) => boolean,
): DaemonEndpoint {
  const { DOCKER_HOST: named } = environment;
  if (named !== undefined && named !== "") return namedEndpoint(named, environment);
  const runtimeDirectory = environment["XDG_RUNTIME_DIR"];
  const sockets = [
    "/var/run/docker.sock",
    ...runtimeDirectory ? [join(runtimeDirectory, "docker.sock")] : [],
    "/run/podman/podman.sock",
    ...runtimeDirectory ? [join(runtimeDirectory, "podman/podman.sock")] : [],
  ];
  const socketPath = sockets.find(isThere);
  if (socketPath !== undefined) return socketEndpoint(socketPath);
  throw new IoError(
    "docker-daemon:",
    `found no socket of Docker or podman: ${sockets.join(", ")}`,
    {
      hint: START_HINT,
    },
  );
}

const START_HINT =
  "start Docker or `podman system service --time=0`, or set DOCKER_HOST to unix://PATH or tcp://HOST:PORT";

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
    throw new UsageError(
      "DOCKER_HOST",
      `found "${displayText(named)}": wanted unix:///PATH or tcp://HOST:PORT`,
      {
        hint: named.startsWith("ssh:")
          ? "forward the socket: `ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST`"
          : undefined,
      },
    );
  }
  const isSecure = url.protocol === "https:" || (environment["DOCKER_TLS_VERIFY"] ?? "") !== "" ||
    (environment["DOCKER_TLS"] ?? "") !== "";
  // The brackets around an IPv6 address belong to the URL.
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  // The ports that Docker registered for plain HTTP and for TLS.
  const port = url.port === "" ? (isSecure ? 2376 : 2375) : Number(url.port);
  const certificates = environment["DOCKER_CERT_PATH"] ||
    environment["DOCKER_CONFIG"] || join(homedir(), ".docker");
  return {
    name: displayText(named),
    route: { host, port },
    certificates: isSecure ? certificates : undefined,
  };
}

/**
 * Opens an image of the daemon: it is exported into an unlinked file, as `docker save` would, and read from there.
 *
 * @param image a name, with `:latest` where it has neither tag nor digest, or an id
 * @throws {InputError} when the daemon has no such image
 * @throws {IoError} when no daemon answers, it stops answering, or breaks off
 */
export async function openDaemonImage(
  source: string,
  image: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const environment = options.registry?.environment ?? process.env;
  const timing = options.registry?.timing ?? REAL_TIMING;
  const { signal } = options;
  const what = displayText(source);
  const reference = completeName(image);
  const endpoint = daemonEndpoint(environment, existsSync);
  const daemon: Daemon = { what, endpoint, timing, signal };
  const exported = await exportedName(daemon, reference);
  const answer = await ask(daemon, `/images/${exported}/get`, EXPORT_STALL_MILLISECONDS);
  const file = await spoolStream(what, answer.pieces(), options);
  const archive = await openArchive(file, options);
  try {
    const opened = await openDockerArchive(source, archive, undefined, options);
    return { ...opened, kind: "docker-daemon" };
  } catch (error) {
    archive.close();
    throw error;
  }
}

/** The name as the daemon is asked for it: a bare one would export every tag of its repository. */
function completeName(image: string): string {
  if (/^(?:sha256:)?[0-9a-f]{12,64}$/.test(image)) return image;
  const parsed = parseReference(image);
  const hasVersion = /[:@]/.test(image.slice(image.lastIndexOf("/") + 1));
  return hasVersion ? image : `${image}:${parsed.tag ?? "latest"}`;
}

const FOUND_IMAGE = fields({ Id: TEXT, RepoTags: maybe(listOf(TEXT)) });

/** Asks whether the image is there, which a daemon knows at once; what was named by its id is exported by the whole id. */
async function exportedName(daemon: Daemon, reference: string): Promise<string> {
  const answer = await ask(daemon, `/images/${reference}/json`, STALL_MILLISECONDS);
  const bytes = await answer.document();
  const what = `${daemon.what}: what ${daemon.endpoint.name} says of it`;
  const { Id } = checkJson(FOUND_IMAGE, parseJson(bytes, what), { what, field: "" });
  const id = Id.replace(/^sha256:/, "");
  return /^[0-9a-f]{64}$/.test(id) && id.startsWith(reference.replace(/^sha256:/, ""))
    ? `sha256:${id}`
    : reference;
}

/** A daemon that is asked for one source. */
interface Daemon {
  /** The source, for errors. */
  readonly what: string;
  readonly endpoint: DaemonEndpoint;
  readonly timing: RegistryTiming;
  readonly signal: AbortSignal | undefined;
}

/** A good answer whose body was not read yet. */
interface DaemonAnswer {
  /** The body; throws an IoError when it breaks off or stalls. */
  pieces(): AsyncGenerator<Uint8Array>;
  /** The body, whole, when it is a short one. */
  document(): Promise<Uint8Array>;
}

/**
 * Asks the daemon.
 *
 * @param path of the API; without a version before it, a daemon speaks its newest
 * @throws {InputError} when it has no such image
 * @throws {IoError} when it does not answer, or answers something else than 200
 */
async function ask(daemon: Daemon, path: string, stallMilliseconds: number): Promise<DaemonAnswer> {
  const controller = new AbortController();
  const { signal } = daemon;
  const onAbort = () => controller.abort();
  signal?.addEventListener("abort", onAbort, { once: true });
  const end = () => {
    signal?.removeEventListener("abort", onAbort);
    controller.abort();
  };
  let isStalled = false;
  const watch = async <T>(step: Promise<T>): Promise<T> => {
    const disarm = daemon.timing.alarm(stallMilliseconds, () => {
      isStalled = true;
      controller.abort();
    });
    try {
      return await step;
    } catch (error) {
      throwIfAborted(signal);
      throw daemonFault(daemon, error, isStalled ? stallMilliseconds : undefined);
    } finally {
      disarm();
    }
  };
  async function* bodyOf(message: IncomingMessage): AsyncGenerator<Uint8Array> {
    const iterator = message[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value } = await watch(iterator.next());
        if (done) return;
        yield value as Uint8Array;
      }
    } finally {
      end();
    }
  }
  try {
    throwIfAborted(signal);
    const message = await watch(send(daemon.endpoint, path, controller.signal));
    const document = () => wholeBody(bodyOf(message), daemon);
    if (message.statusCode !== 200) {
      throw refusal(daemon, message.statusCode ?? 0, await document());
    }
    return { pieces: () => bodyOf(message), document };
  } catch (error) {
    end();
    throw error;
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

/** The files that `docker --tlsverify` takes. */
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
      throw new InputError(
        daemon.what,
        `${daemon.endpoint.name} answers with more than ${MAX_DOCUMENT_BYTES} bytes`,
      );
    }
  }
  const whole = new Uint8Array(lengthBytes);
  let at = 0;
  for (const piece of kept) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** An answer that is not the image. */
function refusal(daemon: Daemon, status: number, body: Uint8Array): InputError | IoError {
  const { what, endpoint } = daemon;
  const said = daemonMessage(body);
  if (status === 404) {
    return new InputError(
      what,
      `${endpoint.name} has no such image${said && `: it says "${said}"`}`,
      {
        hint:
          "`docker images` or `podman images` lists what is there; docker://NAME pulls from a registry",
      },
    );
  }
  return new IoError(
    what,
    `${endpoint.name} answers with status ${status}${said && `: "${said}"`}`,
  );
}

/** What a daemon says in `{"message": ...}`, safe to print; empty when it says nothing. */
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
  ["ECONNREFUSED", ["nobody answers at", START_HINT]],
  ["EACCES", [
    "permission denied at",
    "run as root, or as a member of the group that owns the socket",
  ]],
]);

/** What a connection that failed means. */
function daemonFault(daemon: Daemon, error: unknown, stalledMilliseconds?: number): Error {
  const { what, endpoint: { name } } = daemon;
  if (stalledMilliseconds !== undefined) {
    return new IoError(what, `${name} sent nothing for ${stalledMilliseconds / 1000} seconds`, {
      hint: "see whether `docker version` answers; restart the daemon if it does not",
    });
  }
  const { code } = error as NodeJS.ErrnoException;
  const [why, hint] = CONNECTION_FAULTS.get(code ?? "") ?? [];
  const details: ErrorDetails = { hint, cause: error };
  if (why !== undefined) return new IoError(what, `${why} ${name}`, details);
  if (!(error instanceof Error)) return new IoError(what, `${name} failed`, details);
  const fault = error instanceof NetworkFault ? error : networkFault(error);
  return new IoError(what, `${name}: ${fault.message}`, details);
}
