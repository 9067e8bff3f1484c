/**
 * Listens on a socket, using node:http on every runtime.
 *
 * @module
 */
import { getRequestListener } from "@hono/node-server";
import { chmodSync, lstatSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { IoError } from "../../lib/errors.ts";
import { ioErrorFrom } from "../../lib/io/system_error.ts";
import type { ListenAddress } from "../settings.ts";
import type { App } from "./app.ts";

const HEADERS_MS_MAX = 10_000;
const REQUEST_MS_MAX = 30_000;
/** Idle connections are closed after this time; event streams send something every 15 seconds. */
const IDLE_MS_MAX = 120_000;
/** A live server answers sooner. */
const ANSWER_MS_MAX = 3000;

export interface Listener {
  /** The address: `unix:PATH` or `http://HOST:PORT`. */
  readonly address: string;
  /** Stops accepting connections; resolves when the open ones are closed, or after `waitMs`. */
  close(waitMs: number): Promise<void>;
}

export async function listen(app: App, address: ListenAddress): Promise<Listener> {
  const handler = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer(
    { headersTimeout: HEADERS_MS_MAX, requestTimeout: REQUEST_MS_MAX },
    (request, response) => void handler(request, response),
  );
  server.setTimeout(IDLE_MS_MAX);
  // A client that does not speak HTTP, or disconnects, is not a server failure.
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    else socket.destroy();
  });
  if (address.kind === "unix") await removeStaleSocket(address.path);
  await start(server, address);
  const bound = server.address();
  const shown = address.kind === "unix"
    ? `unix:${address.path}`
    : `http://${address.host.includes(":") ? `[${address.host}]` : address.host}:${
      typeof bound === "object" && bound !== null ? bound.port : address.port
    }`;
  return { address: shown, close: (waitMs) => close(server, address, waitMs) };
}

function start(server: Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    const where = address.kind === "unix" ? address.path : `${address.host}:${address.port}`;
    const onError = (error: Error) => reject(ioErrorFrom(where, "cannot listen", error));
    server.once("error", onError);
    const onListening = () => {
      server.off("error", onError);
      server.on("error", () => {});
      // The socket's owner and group may connect.
      if (address.kind === "unix") chmodSync(address.path, 0o660);
      resolve();
    };
    if (address.kind === "unix") server.listen({ path: address.path }, onListening);
    else server.listen({ host: address.host, port: address.port }, onListening);
  });
}

/** Removes the socket of a server that was killed, but not one that still answers. */
async function removeStaleSocket(path: string): Promise<void> {
  const facts = lstatSync(path, { throwIfNoEntry: false });
  if (facts === undefined) return;
  if (!facts.isSocket()) {
    throw new IoError(path, "exists and is not a socket", { hint: "name another path" });
  }
  if (await answersHttp(path)) {
    throw new IoError(path, "another server listens there", { hint: "name another path" });
  }
  rmSync(path, { force: true });
}

/**
 * Whether a server answers. Accepting a connection proves nothing: a process that the killed server was about to start
 * can hold the socket for a moment, and never answers.
 */
function answersHttp(path: string): Promise<boolean> {
  return new Promise<boolean>((resolve) => {
    const socket = connect({ path });
    const end = (answers: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answers);
    };
    const timer = setTimeout(() => end(false), ANSWER_MS_MAX);
    socket.once("connect", () => socket.write("GET /healthz HTTP/1.0\r\n\r\n"));
    socket.once("data", () => end(true));
    socket.once("error", () => end(false));
    socket.once("close", () => end(false));
  });
}

async function close(server: Server, address: ListenAddress, waitMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections?.();
  const timer = setTimeout(() => server.closeAllConnections?.(), waitMs);
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, waitMs + 500))]);
  clearTimeout(timer);
  if (address.kind === "unix") rmSync(address.path, { force: true });
}
