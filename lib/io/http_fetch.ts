/**
 * `fetch` with certificates of its own, which is the same under every runtime. The runtime's own `fetch` is used where nothing
 * but its defaults is wanted; node:http and node:https where certificates are given, or where a proxy must be left aside:
 * no runtime's `fetch` lets both be said in the same way.
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

/** Certificates in PEM. */
export interface Certificates {
  /** Authorities that are trusted beside those that everybody trusts. */
  readonly authorities: readonly string[];
  /** What this program shows of itself, and the key to it. */
  readonly client: { readonly certificate: string; readonly key: string } | undefined;
}

/** Files of certificates, in PEM. */
export interface CertificateFiles {
  /** Authorities to trust beside the usual ones. */
  readonly caFile?: string | undefined;
  /** The certificate of this client; goes with `keyFile`. */
  readonly certFile?: string | undefined;
  /** Its key. */
  readonly keyFile?: string | undefined;
}

/** How a server is reached. */
export interface FetchSettings {
  readonly certificates?: Certificates | undefined;
  /** Where the proxies are said. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** What is asked. */
export interface FetchInit {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array<ArrayBuffer> | undefined;
  readonly signal: AbortSignal;
}

const MAX_CERTIFICATE_BYTES = 1 << 20;
const DEFAULT_PORTS: ReadonlyMap<string, string> = new Map([["http:", "80"], ["https:", "443"]]);

/** A proxy that does not do what it is asked. The message names it. */
export class ProxyError extends Error {
  override name = "ProxyError";
}

/**
 * Reads files of certificates.
 *
 * @throws {InputError} for a file without a certificate or a key, or a certificate without a key
 * @throws {IoError} when one cannot be read
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

/** The text of a PEM file. @param label what must be in it */
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

/** Whether a host, perhaps with a port, is this machine by its very name. No resolver is asked. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, "").toLowerCase();
  if (name === "localhost" || name.endsWith(".localhost") || name === "[::1]") return true;
  return /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
}

/**
 * The proxy that the environment names for an address, by the rules that curl has; undefined for none, and always for
 * loopback.
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
 * Asks, without following redirects. As with `fetch`, the answer is there before its body.
 *
 * @throws whatever the runtime does when no answer comes
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

/** One exchange over node:http or node:https. */
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

/** A connection to the host of an address, through a proxy. RFC 9110 section 9.3.6. */
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

/** Statuses whose answers have no body. */
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
