/**
 * `fetch` with custom certificates, the same under every runtime. It uses the runtime's own `fetch` if its defaults are
 * enough, and node:http or node:https if certificates are given or a proxy must be bypassed: the runtimes' `fetch`
 * functions have no common way to specify either.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import http, { type ClientRequest, type IncomingMessage } from "node:http";
import https from "node:https";
import type { Socket } from "node:net";
import tls from "node:tls";
import { InputError } from "../errors.ts";
import { ioErrorFrom } from "./system_error.ts";

/** Certificates in PEM format. */
export interface Certificates {
  /** Certificate authorities trusted in addition to the usual ones. */
  readonly authorities: readonly string[];
  /** This client's certificate and its private key. */
  readonly client: { readonly certificate: string; readonly key: string } | undefined;
}

/** Certificate files in PEM format. */
export interface CertificateFiles {
  /** Authorities to trust in addition to the usual ones. */
  readonly caFile?: string | undefined;
  /** The client certificate; requires `keyFile`. */
  readonly certFile?: string | undefined;
  /** The client certificate's private key. */
  readonly keyFile?: string | undefined;
}

/** How to reach a server. */
export interface FetchSettings {
  readonly certificates?: Certificates | undefined;
  /** Contains the proxy variables. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** A request. */
export interface FetchInit {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array<ArrayBuffer> | undefined;
  readonly signal: AbortSignal;
}

const MAX_CERTIFICATE_BYTES = 1 << 20;
const DEFAULT_PORTS: ReadonlyMap<string, string> = new Map([["http:", "80"], ["https:", "443"]]);

/** A proxy refused or failed. The message names it. */
export class ProxyError extends Error {
  override name = "ProxyError";
}

/**
 * Reads certificate files.
 *
 * @throws {InputError} if a file has no certificate or key, or a certificate is given without a key
 * @throws {IoError} if one cannot be read
 */
export function readCertificates(files: CertificateFiles): Certificates | undefined {
  const { caFile, certFile, keyFile } = files;
  if (caFile === undefined && certFile === undefined && keyFile === undefined) return undefined;
  const authorities = caFile === undefined ? [] : [readPem(caFile, "CERTIFICATE")];
  if (certFile === undefined && keyFile === undefined) return { authorities, client: undefined };
  if (certFile === undefined || keyFile === undefined) {
    const [found, wanted] = certFile === undefined
      ? [keyFile!, "the certificate that belongs to it"]
      : [certFile, "the key that belongs to it"];
    throw new InputError(found, `is given without ${wanted}`);
  }
  const certificate = readPem(certFile, "CERTIFICATE");
  return { authorities, client: { certificate, key: readPem(keyFile, "PRIVATE KEY") } };
}

/** The text of a PEM file. @param label the block it must contain */
export function readPem(path: string, label: "CERTIFICATE" | "PRIVATE KEY"): string {
  let text: string;
  try {
    text = readFileSync(path, "latin1");
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be read", cause);
  }
  const pattern = new RegExp(`-----BEGIN (?:[A-Z0-9]+ )*${label}-----`);
  if (text.length > MAX_CERTIFICATE_BYTES || !pattern.test(text)) {
    const what = label === "CERTIFICATE" ? "certificate" : "private key";
    throw new InputError(path, `holds no ${what} in PEM`);
  }
  return text;
}

/** Whether a host, with or without a port, is clearly this machine by name. Nothing is resolved. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, "").toLowerCase();
  if (name === "localhost" || name.endsWith(".localhost") || name === "[::1]") return true;
  return /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
}

/**
 * The proxy for an address according to the environment, by curl's rules; undefined for none, and always for loopback.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { proxyOf } from "./http_fetch.ts";
 * const environment = { HTTPS_PROXY: "http://proxy:3128", NO_PROXY: ".example.org" };
 * assertEquals(proxyOf(new URL("https://example.com/"), environment)?.host, "proxy:3128");
 * assertEquals(proxyOf(new URL("https://a.example.org/"), environment), undefined);
 * assertEquals(proxyOf(new URL("https://localhost:5000/"), environment), undefined);
 * ```
 */
export function proxyOf(
  url: URL,
  environment: Readonly<Record<string, string | undefined>>,
): URL | undefined {
  if (isLoopback(url.host)) return undefined;
  const scheme = url.protocol.slice(0, -1);
  const named = [`${scheme}_proxy`, "all_proxy"]
    .map((name) => environment[name] || environment[name.toUpperCase()])
    .find((value) => value !== undefined && value !== "");
  if (named === undefined) return undefined;
  const text = named.includes("://") ? named : `http://${named}`;
  if (isExcepted(url, environment["no_proxy"] ?? environment["NO_PROXY"] ?? "")) return undefined;
  return URL.canParse(text) ? new URL(text) : undefined;
}

function isExcepted(url: URL, list: string): boolean {
  const host = url.hostname.toLowerCase();
  const port = url.port || DEFAULT_PORTS.get(url.protocol);
  return list.split(/[\s,]+/).some((entry) => {
    if (entry === "*") return true;
    const [, name = "", wantedPort] = /^\*?\.?(.*?)(?::(\d+))?$/.exec(entry.toLowerCase()) ?? [];
    if (name === "" || (wantedPort !== undefined && wantedPort !== port)) return false;
    return host === name || host.endsWith(`.${name}`);
  });
}

/**
 * Sends a request without following redirects. As with `fetch`, the response is available before its body.
 *
 * @throws the runtime's error if there is no response
 */
export async function fetchWith(
  url: URL,
  init: FetchInit,
  { certificates, environment }: FetchSettings,
): Promise<Response> {
  const isLocal = isLoopback(url.host) && namesAnyProxy(environment);
  if (certificates === undefined && !isLocal) {
    const { body, ...rest } = init;
    return await fetch(url, { ...rest, ...body ? { body } : {}, redirect: "manual" });
  }
  const proxy = proxyOf(url, environment);
  return await exchange(url, init, { certificates, proxy });
}

function namesAnyProxy(environment: FetchSettings["environment"]): boolean {
  return Object.keys(environment).some((name) => /^(?:https?|all)_proxy$/i.test(name));
}

interface Route {
  readonly certificates: Certificates | undefined;
  readonly proxy: URL | undefined;
}

/** One exchange with node:http or node:https. */
async function exchange(url: URL, init: FetchInit, route: Route): Promise<Response> {
  const { method, headers, body, signal } = init;
  signal.throwIfAborted();
  const isSecure = url.protocol === "https:";
  const secure = isSecure ? tlsOptions(route.certificates) : {};
  const options = { method, headers: { ...headers, Host: url.host }, signal, ...secure };
  let request: ClientRequest;
  if (route.proxy === undefined) request = (isSecure ? https : http).request(url, options);
  else if (isSecure) {
    const socket = await tunnel(url, route.proxy, signal);
    const servername = url.hostname;
    const createConnection = () => tls.connect({ ...secure, socket, servername });
    request = https.request(url, { ...options, createConnection });
  } else {
    const { proxy } = route;
    request = requestTo(proxy, {
      ...options,
      path: url.href,
      headers: { ...options.headers, ...proxyAuthorization(proxy) },
    });
  }
  const response = new Promise<IncomingMessage>((resolve, reject) => {
    request.on("response", resolve);
    request.on("error", reject);
  });
  request.end(body);
  return asResponse(await response);
}

function tlsOptions(certificates: Certificates | undefined): tls.SecureContextOptions {
  if (certificates === undefined) return {};
  const { authorities, client } = certificates;
  return {
    ...authorities.length === 0 ? {} : { ca: [...tls.rootCertificates, ...authorities] },
    ...client === undefined ? {} : { cert: client.certificate, key: client.key },
  };
}

function requestTo(proxy: URL, options: http.RequestOptions): ClientRequest {
  const where = { host: proxy.hostname, port: proxy.port || DEFAULT_PORTS.get(proxy.protocol) };
  return (proxy.protocol === "https:" ? https : http).request({ ...options, ...where });
}

/** A connection to an address's host through a proxy (RFC 9110, section 9.3.6). */
function tunnel(url: URL, proxy: URL, signal: AbortSignal): Promise<Socket> {
  const path = `${url.hostname}:${url.port || 443}`;
  const headers = { Host: path, ...proxyAuthorization(proxy) };
  const request = requestTo(proxy, { method: "CONNECT", path, headers, signal });
  return new Promise((resolve, reject) => {
    request.on("connect", ({ statusCode }, socket: Socket) => {
      if (statusCode === 200) return resolve(socket);
      socket.destroy();
      reject(new ProxyError(`the proxy ${proxy.host} refuses with status ${statusCode}`));
    });
    request.on("error", reject);
    request.end();
  });
}

function proxyAuthorization({ username, password }: URL): Record<string, string> {
  if (username === "" && password === "") return {};
  const text = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { "Proxy-Authorization": `Basic ${btoa(text)}` };
}

/** Statuses of responses that have no body. */
const BODILESS: ReadonlySet<number> = new Set([101, 204, 205, 304]);

function asResponse(message: IncomingMessage): Response {
  const status = message.statusCode ?? 0;
  const headers = new Headers();
  const { rawHeaders } = message;
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    headers.append(rawHeaders[i]!, rawHeaders[i + 1]!);
  }
  if (BODILESS.has(status)) {
    message.resume();
    return new Response(null, { status, headers });
  }
  const pieces = message[Symbol.asyncIterator]();
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const { done, value } = await pieces.next();
      if (done) controller.close();
      else controller.enqueue(new Uint8Array(value as Uint8Array<ArrayBuffer>));
    },
    cancel: () => {
      message.destroy();
    },
  }, { highWaterMark: 0 });
  return new Response(body, { status, headers });
}
