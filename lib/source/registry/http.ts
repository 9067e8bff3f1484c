/**
 * One request and its response, with the runtime's `fetch`, which handles proxies and certificates. Redirects are followed
 * here instead, because credentials must not follow them to another host.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setTimeout as delay } from "node:timers/promises";
import {
  BlessfsError,
  type ErrorDetails,
  InputError,
  IoError,
  type Remedy,
  throwIfAborted,
} from "../../errors.ts";
import {
  type Certificates,
  type FetchSettings,
  fetchWith,
  ProxyError,
  proxyOf,
} from "../../io/http_fetch.ts";
import { displayText } from "../json.ts";

export const MAX_REDIRECTS = 10;
/** A connection that receives nothing for this long is abandoned. */
const STALL_MILLISECONDS = 60_000;
/** How long a server is observed before it counts as slow: it sent few bytes in many pieces. */
const SPELL_MILLISECONDS = 120_000;
const SLOW_BYTES = 16 << 10;
const SLOW_PIECES = 8;
/** How much of an unwanted body is read so that its connection can be reused. */
const DRAINED_BYTES = 64 << 10;
const REDIRECT_STATUSES: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export interface HttpRequest {
  /** What is requested, for errors; safe to print. */
  readonly what: string;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Sent only to the origin of `url`. */
  readonly authorization?: string | undefined;
  /** Anonymous tokens for other origins that redirects lead to. */
  readonly otherAuthorizations?: ReadonlyMap<string, string> | undefined;
  /** How servers are reached. */
  readonly connection?: ConnectionSettings | undefined;
  /** The fields of a form; if set, the request is a POST. */
  readonly form?: URLSearchParams | undefined;
  readonly signal: AbortSignal | undefined;
  /** How long to wait without receiving anything; default STALL_MILLISECONDS. */
  readonly stallMilliseconds?: number | undefined;
}

/** How servers are reached. */
export interface ConnectionSettings {
  /** Contains the proxy variables. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly certificates: Certificates | undefined;
  /** The only origin that receives the client certificate. */
  readonly origin: string;
}

/** A parameter of signed addresses: their hosts need no other authentication, and may reject both together. */
const SIGNATURE_PARAMETER = /^(?:(?:x-(?:amz|goog|oss)-)?signature|sig)$/i;

/** Sends a request and follows redirects. The caller must read the final response's body, or call `drain` or `close`. */
export async function sendRequest(request: HttpRequest, timing: RegistryTiming): Promise<Answer> {
  let { url, authorization } = request;
  for (let hopCount = 0;; hopCount++) {
    const answer = await exchange({ ...request, url, authorization }, timing);
    const location = REDIRECT_STATUSES.has(answer.status) ? answer.header("location") : undefined;
    if (location === undefined) return answer;
    await answer.drain();
    if (request.form) throw redirectFault(request, url, "but what was sent is for it alone");
    if (hopCount >= MAX_REDIRECTS) {
      throw redirectFault(request, url, `after ${MAX_REDIRECTS} redirects already`);
    }
    const next = redirectTarget(request, url, location);
    if (next.origin !== url.origin) authorization = request.otherAuthorizations?.get(next.origin);
    const parameters = [...next.searchParams.keys()];
    if (parameters.some((name) => SIGNATURE_PARAMETER.test(name))) authorization = undefined;
    url = next;
  }
}

function redirectTarget(request: HttpRequest, from: URL, location: string): URL {
  const url = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  if (!url || (url.protocol !== "https:" && url.protocol !== "http:")) {
    throw redirectFault(request, from, "to something that is not an HTTP address");
  }
  if (from.protocol === "https:" && url.protocol === "http:") {
    throw redirectFault(request, from, `from https to plain http, at ${displayText(url.host)}`);
  }
  url.username = "";
  url.password = "";
  url.hash = "";
  return url;
}

function redirectFault(request: HttpRequest, from: URL, why: string): InputError {
  return new InputError(request.what, `${displayText(from.host)} redirects ${why}`);
}

async function exchange(request: HttpRequest, timing: RegistryTiming): Promise<Answer> {
  const { url, headers, authorization, form, signal } = request;
  const connection = new Connection(signal, timing, request.stallMilliseconds);
  try {
    const response = await connection.watch((inner) =>
      fetchWith(url, {
        method: form ? "POST" : "GET",
        headers: {
          "User-Agent": "blessfs",
          // A body in another encoding has different bytes and different byte ranges.
          "Accept-Encoding": "identity",
          ...headers,
          ...authorization === undefined ? {} : { Authorization: authorization },
          ...form ? { "Content-Type": "application/x-www-form-urlencoded" } : {},
        },
        ...form ? { body: form.toString() } : {},
        signal: inner,
      }, settingsFor(url, request.connection))
    );
    const answer = new Answer(response, url, connection);
    const encoding = answer.header("content-encoding")?.trim().toLowerCase();
    if (response.ok && encoding !== undefined && encoding !== "" && encoding !== "identity") {
      const shown = displayText(encoding.slice(0, 40));
      const why = `${displayText(url.host)} sends it encoded as ${shown}, which was not asked for`;
      throw new IoError(request.what, why, { code: "refused" });
    }
    return answer;
  } catch (error) {
    connection.end();
    const proxy = proxyOf(url, request.connection?.environment ?? {});
    throw error instanceof NetworkFault && proxy ? error.through(proxy) : error;
  }
}

/** Only the registry receives the client certificate; the authorities also apply to hosts it redirects to. */
function settingsFor(url: URL, connection: ConnectionSettings | undefined): FetchSettings {
  if (connection === undefined) return { environment: {} };
  const { environment, certificates, origin } = connection;
  if (certificates === undefined || url.origin === origin) return { environment, certificates };
  const { authorities } = certificates;
  const others = authorities.length === 0 ? undefined : { authorities, client: undefined };
  return { environment, certificates: others };
}

/** A response whose body has not been read. */
export class Answer {
  readonly status: number;
  /** The final address, after redirects. */
  readonly url: URL;
  readonly #response: Response;
  readonly #connection: Connection;

  constructor(response: Response, url: URL, connection: Connection) {
    this.status = response.status;
    this.url = url;
    this.#response = response;
    this.#connection = connection;
  }

  /** A header's value; undefined if it is missing. Repeated headers are joined with commas. */
  header(name: string): string | undefined {
    return this.#response.headers.get(name) ?? undefined;
  }

  /** The Content-Length, if it is valid. */
  get lengthBytes(): number | undefined {
    const text = this.header("content-length");
    return text !== undefined && /^[0-9]{1,19}$/.test(text) ? Number(text) : undefined;
  }

  /** The body's media type without parameters, in lower case. */
  get mediaType(): string | undefined {
    const types = (this.header("content-type") ?? "").split(",")
      .map((value) => value.split(";", 1)[0]!.trim().toLowerCase());
    // Some servers send the header twice.
    const [type = "", ...others] = new Set(types);
    return (others.length === 0 ? type : types.join(", ")) || undefined;
  }

  /** The body, no faster than it is consumed. @throws {NetworkFault} if it breaks off or stalls */
  async *pieces(): AsyncGenerator<Uint8Array> {
    const reader = this.#response.body?.getReader();
    try {
      while (reader) {
        const { done, value } = await this.#connection.watch(() => reader.read());
        if (done) break;
        this.#connection.count(value.length);
        if (value.length > 0) yield value;
      }
    } finally {
      this.close();
    }
  }

  /** The whole body; undefined if it exceeds the limit. @throws {NetworkFault} as `pieces` does */
  async bytes(limitBytes: number): Promise<Uint8Array | undefined> {
    if ((this.lengthBytes ?? 0) > limitBytes) return void this.close();
    const pieces: Uint8Array[] = [];
    let lengthBytes = 0;
    for await (const piece of this.pieces()) {
      lengthBytes += piece.length;
      if (lengthBytes > limitBytes) return undefined;
      pieces.push(piece);
    }
    return new Uint8Array(Buffer.concat(pieces));
  }

  /** Discards the body; a short one is read so that the connection can be reused. */
  async drain(): Promise<void> {
    if ((this.lengthBytes ?? Infinity) > DRAINED_BYTES) return this.close();
    try {
      await this.bytes(DRAINED_BYTES);
    } catch (error) {
      if (!(error instanceof NetworkFault)) throw error;
    }
  }

  /** Discards the body and, unless it has been read to the end, the connection. */
  close(): void {
    this.#connection.end();
  }
}

/** The lifetime of one request: until `end`, an interruption, or a stall. */
export class Connection {
  readonly #controller = new AbortController();
  readonly #signal: AbortSignal | undefined;
  readonly #timing: RegistryTiming;
  readonly #stallMilliseconds: number;
  readonly #onAbort = () => this.#controller.abort();
  /** What the last step threw; it may contain an address with a secret in it. */
  failure: unknown;
  #fault: NetworkFault | undefined;
  /** The pieces in this interval; and whether the previous one was slow, too. */
  #pieceCount = 0;
  #receivedBytes = 0;
  #wasSlow = false;
  #endSpell: () => void;

  constructor(
    signal: AbortSignal | undefined,
    timing: RegistryTiming,
    stallMilliseconds = STALL_MILLISECONDS,
  ) {
    this.#signal = signal;
    this.#timing = timing;
    this.#stallMilliseconds = stallMilliseconds;
    signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#endSpell = this.#beginSpell();
  }

  count(lengthBytes: number): void {
    this.#pieceCount++;
    this.#receivedBytes += lengthBytes;
  }

  /**
   * A server that sends one byte at a time never stalls, but is still abandoned: after two intervals in which many pieces
   * held next to nothing. A slow receiver, in contrast, causes few pieces.
   */
  #beginSpell(): () => void {
    return this.#timing.alarm(SPELL_MILLISECONDS, () => {
      const isSlow = this.#pieceCount >= SLOW_PIECES && this.#receivedBytes < SLOW_BYTES;
      if (isSlow && this.#wasSlow) {
        const seconds = SPELL_MILLISECONDS / 1000;
        return this.#giveUp(`fewer than ${SLOW_BYTES} bytes came in ${seconds} seconds`);
      }
      this.#endSpell();
      if (this.#controller.signal.aborted) return;
      this.#wasSlow = isSlow;
      this.#pieceCount = 0;
      this.#receivedBytes = 0;
      this.#endSpell = this.#beginSpell();
    });
  }

  #giveUp(why: string, details?: NetworkFault["details"]): void {
    this.#fault = new NetworkFault(why, true, details);
    this.#controller.abort();
  }

  /** Runs a step that waits for the network. @throws {NetworkFault} if it fails or takes too long */
  async watch<T>(step: (signal: AbortSignal) => Promise<T>): Promise<T> {
    throwIfAborted(this.#signal);
    const disarm = this.#timing.alarm(this.#stallMilliseconds, () => {
      const stalledSeconds = this.#stallMilliseconds / 1000;
      this.#giveUp(`nothing came for ${stalledSeconds} seconds`, { stalledSeconds });
    });
    try {
      return await step(this.#controller.signal);
    } catch (error) {
      throwIfAborted(this.#signal);
      this.failure = error;
      throw this.#fault ?? networkFault(error);
    } finally {
      disarm();
    }
  }

  end(): void {
    this.#endSpell();
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#controller.abort();
  }
}

/** The fault's text for a certificate that no known authority signed. */
export const UNTRUSTED_CERTIFICATE = "its certificate is not trusted";

/** A request without a complete response. */
export class NetworkFault extends Error {
  override readonly name = "NetworkFault";
  readonly isTransient: boolean;
  /** Remedies; and, if the connection stalled, for how long. */
  readonly details: Pick<ErrorDetails, "remedies"> & { readonly stalledSeconds?: number };

  /** @param why in words, without secrets, safe to print */
  constructor(why: string, isTransient: boolean, details: NetworkFault["details"] = {}) {
    super(why);
    this.isTransient = isTransient;
    this.details = details;
  }

  /** The same fault, encountered while using a proxy. */
  through({ host }: URL): NetworkFault {
    const why = `${this.message} (through the proxy ${displayText(host)})`;
    return new NetworkFault(why, this.isTransient, this.details);
  }
}

/** Error codes or parts of messages, their meanings, and whether they are transient. */
const KNOWN_FAULTS: readonly (readonly [
  signs: RegExp,
  why: string,
  isTransient: boolean,
  remedy?: Remedy,
])[] = [
  [
    /CERT_|_CERT|SELF_SIGNED|UNABLE_TO_VERIFY|invalid peer certificate|CERTIFICATE/,
    UNTRUSTED_CERTIFICATE,
    false,
    { option: "caFile", change: "set", to: "trust its authority" },
  ],
  [
    /EPROTO|ERR_SSL|InvalidContentType|corrupt message|HandshakeFailure/,
    "it does not speak TLS there",
    false,
    { option: "plainHttp", change: "set", when: "if the registry has no TLS" },
  ],
  [/ECONNREFUSED|ConnectionRefused|Connection refused/, "the connection is refused", true],
  [
    /ENOTFOUND|EAI_AGAIN|dns error|failed to lookup/,
    "the name of the host cannot be resolved",
    true,
  ],
  [/EHOSTUNREACH|ENETUNREACH|unreachable/, "the host cannot be reached", true],
  [/ETIMEDOUT|TIMEOUT|timed out/i, "the connection timed out", true],
  [/bad port|Requests to port|unsafe port/i, "the runtime refuses to talk to this port", false],
  [
    /HPE_|invalid HTTP version|MalformedHTTP|Malformed_HTTP/,
    "what it answers is not HTTP",
    false,
    { option: "plainHttp", change: "omit", when: "if the registry has TLS" },
  ],
  [
    /ECONNRESET|EPIPE|UND_ERR_SOCKET|error reading a body|closed|terminated|reset/i,
    "the connection broke",
    true,
  ],
];

const MAX_CAUSES = 6;
const SHOWN_CHARACTERS = 160;

/** Interprets the failure of a `fetch` or of reading its body. */
export function networkFault(error: unknown): NetworkFault {
  if (error instanceof ProxyError) return new NetworkFault(displayText(error.message), false);
  const texts: string[] = [];
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth++) {
    const { code } = current as { code?: unknown };
    if (typeof code === "string" && !(current instanceof BlessfsError)) texts.push(code);
    texts.push(current.message);
    current = current.cause;
  }
  // The innermost cause is the most specific; outer ones often say only that something failed.
  for (const text of texts.reverse()) {
    const known = KNOWN_FAULTS.find(([signs]) => signs.test(text));
    if (!known) continue;
    const [, why, isTransient, remedy] = known;
    return new NetworkFault(why, isTransient, { remedies: remedy && [remedy] });
  }
  const shown = displayText(
    (texts[0] ?? "it failed").replace(/[a-z][a-z0-9+.-]*:\/\/\S*/gi, "URL"),
  );
  return new NetworkFault(`the request failed: ${shown.slice(0, SHOWN_CHARACTERS)}`, true);
}

/** Timing functions. */
export interface RegistryTiming {
  /** Waits before a retry. Rejects once the signal is aborted. */
  wait(milliseconds: number, signal: AbortSignal | undefined): Promise<void>;
  /** Calls `ring` after a while, unless the returned function is called first. */
  alarm(milliseconds: number, ring: () => void): () => void;
}

export const REAL_TIMING: RegistryTiming = {
  async wait(milliseconds, signal) {
    await delay(milliseconds, undefined, signal === undefined ? {} : { signal });
  },
  alarm(milliseconds, ring) {
    const timer = setTimeout(ring, milliseconds);
    return () => clearTimeout(timer);
  },
};
