/**
 * A chunk store in an S3 bucket, readable with `desync --store s3+https://HOST/BUCKET/PREFIX`. Requests are signed,
 * retried where that may help, and limited in time and response size. aws4fetch implements signature version 4; the
 * rest follows the API reference of Amazon S3, "Error responses".
 *
 * @module
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { LimitedBytesTransformStream, toArrayBuffer } from "@std/streams";
import { AwsV4Signer } from "aws4fetch";
import { BlessfsError, InputError, IoError, throwIfAborted } from "../errors.ts";
import { type FetchSettings, fetchWith } from "../io/http_fetch.ts";
import type { AwsSettings } from "./aws_settings.ts";
import {
  chunkIdOf,
  chunkPath,
  type ChunkStore,
  missingChunk,
  notAChunk,
  type PutOutcome,
  sizeFault,
  STORED_BYTES_MAX,
  type StoredObject,
} from "./chunk.ts";
import {
  elementOf,
  errorCode,
  isPassing,
  networkError,
  objectPath,
  parseS3Address,
  type S3Address,
  type S3Answer,
  type S3Failure,
  s3Failure,
  type S3Request,
  shownRequest,
} from "./s3_request.ts";

/** Options of a client. */
export interface S3ClientOptions {
  readonly settings: AwsSettings;
  /** Certificates and proxies; default: the runtime's. */
  readonly connection?: FetchSettings | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Replaces the pause between attempts in tests. */
  readonly pause?: (milliseconds: number, signal: AbortSignal | undefined) => Promise<void>;
  readonly tries?: number | undefined;
  /** The time limit of one attempt. */
  readonly timeoutMs?: number | undefined;
}

const DEFAULT_TRIES = 8;
const DEFAULT_TIMEOUT_MS = 60_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 20_000;
const ERROR_BYTES_MAX = 64 * 1024;
/** Statuses after which the request may have been carried out; 0 means no answer. */
const UNSURE_STATUSES: readonly number[] = [0, 408, 500, 502, 504];
const EMPTY = new Uint8Array(0);

export class S3Client {
  readonly #address: S3Address;
  readonly #options: S3ClientOptions;
  /** Signing keys for the day, cached by aws4fetch. */
  readonly #signingKeys = new Map<string, ArrayBuffer>();
  /** Values that messages must not show. */
  #secrets: readonly string[] = [];

  constructor(address: S3Address, options: S3ClientOptions) {
    this.#address = address;
    this.#options = options;
  }

  /**
   * Sends a request until it is answered with one of `statuses`, or fails permanently.
   *
   * @throws {IoError} the permanent failure, or the last temporary one
   */
  async send(request: S3Request, statuses: readonly number[]): Promise<S3Answer> {
    const { tries = DEFAULT_TRIES } = this.#options;
    const signal = this.#signalOf(request);
    let mayBeRepeated = false;
    for (let n = 1;; n++) {
      throwIfAborted(signal);
      let failure: S3Failure;
      try {
        const answer = await this.#try(request, statuses, signal);
        const { region } = this.#options.settings;
        const context = { request, address: this.#address, region, secrets: this.#secrets };
        failure = s3Failure(answer, context);
        const isPassed = isPassing(failure);
        if (isAnswer(answer, request, statuses, isPassed)) return { ...answer, mayBeRepeated };
        if (!isPassed) throw failure.error;
      } catch (cause) {
        throwIfAborted(signal);
        if (!isNetworkFault(cause)) throw cause;
        const error = networkError(this.#address, cause, this.#secrets);
        failure = { error, status: 0, code: "", pauseMs: 0 };
      }
      // SlowDown means that nothing was done; without an answer, or with one from a gateway, that is unknown.
      if (UNSURE_STATUSES.includes(failure.status)) mayBeRepeated = true;
      if (n >= Math.min(tries, request.tries ?? tries)) throw failure.error;
      await this.#pause(n, failure.pauseMs, request.key ?? "", signal);
    }
  }

  #signalOf(request: S3Request): AbortSignal | undefined {
    const signals = [this.#options.signal, request.signal].filter((each) => each !== undefined);
    return signals.length > 1 ? AbortSignal.any(signals) : signals[0];
  }

  async #try(
    request: S3Request,
    statuses: readonly number[],
    signal: AbortSignal | undefined,
  ): Promise<Omit<S3Answer, "mayBeRepeated">> {
    const { method, body } = request;
    const timeoutMs = request.timeoutMs ?? this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const { url, headers } = await this.#sign(request);
    const limit = limitTime(timeoutMs, signal);
    try {
      const response = await fetchWith(new URL(url), {
        method,
        headers: Object.fromEntries(headers),
        signal: limit.signal,
        body: body as Uint8Array<ArrayBuffer> | undefined,
      }, this.#options.connection ?? { environment: {} });
      const isAsked = statuses.includes(response.status);
      const bytes = method === "HEAD" ? EMPTY : await this.#read(response, request, isAsked);
      return { status: response.status, headers: response.headers, body: bytes };
    } finally {
      limit.end();
    }
  }

  /** Reads the body; unexpected answers are truncated. */
  async #read(response: Response, request: S3Request, isAsked: boolean): Promise<Uint8Array> {
    const mostBytes = isAsked ? request.mostBytes ?? ERROR_BYTES_MAX : ERROR_BYTES_MAX;
    if (response.body === null) return EMPTY;
    const bounded = response.body.pipeThrough(
      new LimitedBytesTransformStream(mostBytes, { error: isAsked }),
    );
    try {
      return new Uint8Array(await toArrayBuffer(bounded));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const what = shownRequest({ request, address: this.#address });
      throw new InputError(what, `has more than ${mostBytes} bytes, the most that it can have`);
    }
  }

  async #sign({ method, key, query = {}, headers = {}, body }: S3Request) {
    const { settings } = this.#options;
    const { accessKeyId, secretAccessKey, sessionToken } = await settings.keys();
    this.#secrets = [secretAccessKey, sessionToken ?? "", accessKeyId];
    const url = new URL(this.#address.origin + objectPath(this.#address, key));
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const signer = new AwsV4Signer({
      method,
      url: url.href,
      headers: {
        ...headers,
        // The server compares this with the received body, so an object is never stored corrupted.
        "x-amz-content-sha256": createHash("sha256").update(body ?? EMPTY).digest("hex"),
      },
      accessKeyId,
      secretAccessKey,
      ...sessionToken === undefined ? {} : { sessionToken },
      service: "s3",
      region: settings.region,
      cache: this.#signingKeys,
    });
    return await signer.sign();
  }

  /** Doubles the pause each time. A share derived from the key spreads out requests that failed together. */
  async #pause(
    n: number,
    leastMs: number,
    key: string,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const longestMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (n - 1));
    const share = createHash("sha256").update(`${n} ${key}`).digest()[0]! / 256;
    const milliseconds = Math.max(leastMs, longestMs * (0.5 + share / 2));
    const pausedMs = Math.min(milliseconds, LONGEST_PAUSE_MS);
    const { pause = () => sleep(pausedMs, undefined, { signal }).catch(() => {}) } = this.#options;
    await pause(pausedMs, signal);
  }
}

/**
 * A signal with a timeout for one request. `AbortSignal.timeout` would keep every timer until it fires, which costs
 * memory with a million requests.
 */
function limitTime(
  milliseconds: number,
  signal: AbortSignal | undefined,
): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const onAbort = () => controller.abort(signal?.reason);
  const timer = setTimeout(() => {
    controller.abort(new DOMException("no answer in time", "TimeoutError"));
  }, milliseconds);
  signal?.addEventListener("abort", onAbort);
  if (signal?.aborted) onAbort();
  return {
    signal: controller.signal,
    end: () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    },
  };
}

/** Whether an answer has an expected status and means what the status says. */
function isAnswer(
  { status, body }: Omit<S3Answer, "mayBeRepeated">,
  { method }: S3Request,
  statuses: readonly number[],
  isPassing: boolean,
): boolean {
  if (!statuses.includes(status)) return false;
  // A server may fail after it has sent the status (Amazon S3, "CopyObject").
  if (status < 300) return method !== "PUT" || !new TextDecoder().decode(body).includes("<Error>");
  return !isPassing;
}

/** Whether fetch threw because there was no answer or only part of one: a TypeError, or a runtime-specific error. */
function isNetworkFault(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof BlessfsError) return false;
  return error.name === "TypeError" || error.name === "TimeoutError" || error.name === "Error" ||
    typeof (error as { code?: unknown }).code === "string";
}

/** The answers of servers that do not support conditions on a PUT. */
const NO_CONDITION_STATUSES: readonly number[] = [400, 405, 501];
const STORED_STATUSES: readonly number[] = [200, 201, 204];
/** Another writer was faster, or at least the server says so. */
const CONFLICT_STATUSES: readonly number[] = [304, 412];
const OPEN_TRIES = 4;
const MARK_TIMEOUT_MS = 10_000;
const LIST_BYTES_MAX = 8 << 20;
/** The content of marks; not empty, because some servers do not keep empty objects. */
const MARK = new TextEncoder().encode("blessfs\n");
const HEADERS = { "content-type": "application/octet-stream" } as const;
/** Content types that chunks never have, but answers of consoles and portals do. */
const DOCUMENT_TYPES = /^(text\/|image\/|application\/(xhtml|xml|json|javascript))/i;

/**
 * A store in a bucket. An object is either complete or absent, because the server accepts it only once all of it has
 * arrived with the signed digest. Objects are stored only if none exists (`If-None-Match: *`), so of two concurrent
 * writers, one learns that the other was faster.
 */
export class S3Store implements ChunkStore {
  readonly name: string;
  readonly #client: S3Client;
  readonly #address: S3Address;
  #knowsConditions = true;

  /** @throws {UsageError} when the address is invalid */
  constructor(address: string, options: S3ClientOptions) {
    this.#address = parseS3Address(address);
    this.name = this.#address.shown;
    this.#client = new S3Client(this.#address, options);
  }

  /**
   * Lists a prefix that no chunk has: unlike the answer to a HEAD, the answer to a list explains failures. An
   * unreachable server is retried less often here than one that fails during the work.
   */
  async open(): Promise<void> {
    await this.#list({ "max-keys": "1", prefix: `${this.#address.prefix}.` }, OPEN_TRIES);
  }

  async has(id: string, contentBytes: number, signal?: AbortSignal): Promise<boolean> {
    const key = chunkPath(id);
    const request = { method: "HEAD", key, signal } as const;
    let answer = await this.#client.send(request, [200, 400, 401, 403, 404]);
    // The answer to a HEAD has no body to explain the failure; that to a list has one.
    if (answer.status !== 200 && answer.status !== 404) {
      await this.open();
      answer = await this.#client.send(request, [200, 404]);
    }
    if (answer.status === 404) return false;
    this.#checkObject(key, answer.headers, contentBytes);
    return true;
  }

  async get(id: string, signal?: AbortSignal): Promise<Uint8Array> {
    const key = chunkPath(id);
    const request = { method: "GET", key, mostBytes: STORED_BYTES_MAX, signal } as const;
    const { status, body } = await this.#client.send(request, [200, 404]);
    if (status === 200) return body;
    throw missingChunk(`${this.name}/${key}`, key);
  }

  async put(id: string, stored: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    const request = { method: "PUT", key: chunkPath(id), body: stored, signal } as const;
    return await this.#add(request, () => this.has(id, Infinity, signal));
  }

  /** Nothing to do: a server acknowledges an object only when it is durable. */
  settle(): Promise<void> {
    return Promise.resolve();
  }

  async *list(folder = "", signal?: AbortSignal): AsyncGenerator<StoredObject> {
    const { prefix } = this.#address;
    let token = "";
    do {
      const within = { prefix: folder === "" ? prefix : `${prefix}${folder}/` };
      const query = token === "" ? within : { ...within, "continuation-token": token };
      const page = await this.#list(query, undefined, signal);
      for (const [, entry] of page.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        const key = elementOf(entry!, "Key");
        if (!key.startsWith(prefix)) throw this.#listFault(`lists ${JSON.stringify(key)}`);
        const path = key.slice(prefix.length);
        yield {
          path,
          id: chunkIdOf(path),
          sizeBytes: Number(elementOf(entry!, "Size")),
          storedMs: Date.parse(elementOf(entry!, "LastModified")),
        };
      }
      token = elementOf(page, "IsTruncated") === "true"
        ? elementOf(page, "NextContinuationToken")
        : "";
    } while (token !== "");
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    await this.#client.send({ method: "DELETE", key: path, signal }, [200, 204, 404]);
  }

  async mark(path: string): Promise<boolean> {
    const request = { method: "PUT", key: path, body: MARK, timeoutMs: MARK_TIMEOUT_MS } as const;
    const isThere = async () => {
      const { status } = await this.#client.send({ method: "HEAD", key: path }, [200, 404]);
      return status === 200;
    };
    return await this.#add(request, isThere) === "added";
  }

  /** Stores an object if none exists. */
  async #add(
    request: S3Request & { readonly key: string },
    isThere: () => Promise<boolean>,
  ): Promise<PutOutcome> {
    if (this.#knowsConditions) {
      const headers = { ...HEADERS, "if-none-match": "*" };
      const statuses = [...STORED_STATUSES, ...CONFLICT_STATUSES, ...NO_CONDITION_STATUSES];
      const answer = await this.#client.send({ ...request, headers }, statuses);
      const { status } = answer;
      if (STORED_STATUSES.includes(status)) return await this.#confirm(request, answer, isThere);
      if (CONFLICT_STATUSES.includes(status)) {
        // Some servers refuse every condition like this and have stored nothing. If an earlier answer was lost, the
        // object that exists now is most likely the one sent then.
        if (await isThere()) return answer.mayBeRepeated ? "added" : "present";
      } else if (isAboutCondition(answer)) this.#knowsConditions = false;
    }
    // A failure now has another reason, which is reported.
    const answer = await this.#client.send({ ...request, headers: HEADERS }, STORED_STATUSES);
    return await this.#confirm(request, answer, isThere);
  }

  /**
   * S3 returns an entity tag for a stored object. If the tag is missing, the server is asked whether the object exists.
   */
  async #confirm(
    { key, body }: S3Request,
    { headers, status }: S3Answer,
    isThere: () => Promise<boolean>,
  ): Promise<PutOutcome> {
    if (headers.has("etag") || await isThere()) return "added";
    throw new IoError(`${this.name}/${key}`, "was not stored, although the server said so", {
      hint: "check that the address is that of an S3 server",
      data: { status, sizeBytes: body!.length },
    });
  }

  /** Lists objects. A server that answers 200 to everything, such as a web console on a wrong port, returns no list. */
  async #list(
    query: Readonly<Record<string, string>>,
    tries?: number,
    signal?: AbortSignal,
  ): Promise<string> {
    const { body } = await this.#client.send({
      method: "GET",
      query: { "list-type": "2", ...query },
      mostBytes: LIST_BYTES_MAX,
      signal,
      tries,
    }, [200]);
    const text = new TextDecoder().decode(body);
    if (/<ListBucketResult[\s>]/.test(text)) return text;
    const code = errorCode(text);
    throw this.#listFault(code === "" ? "answers a list with something else" : `says ${code}`);
  }

  #listFault(why: string): IoError {
    return new IoError(this.name, `is not an S3 server: it ${why}`, {
      hint: "check the host, the port and the bucket: s3+https://HOST/BUCKET/PREFIX",
    });
  }

  /** Checks that the object with a chunk's name can be a chunk. */
  #checkObject(key: string, headers: Headers, contentBytes: number): void {
    const type = headers.get("content-type") ?? "";
    const length = headers.get("content-length") ?? "";
    const why = DOCUMENT_TYPES.test(type)
      ? `has the type ${JSON.stringify(type.slice(0, 80))}`
      : /^\d{1,15}$/.test(length)
      ? sizeFault(Number(length), contentBytes)
      : "has no stated size";
    if (why !== undefined) throw notAChunk(`${this.name}/${key}`, key, why);
  }
}

/** Whether a refusal may concern the condition, so that a retry without it makes sense. */
function isAboutCondition({ status, body }: S3Answer): boolean {
  const said = new TextDecoder().decode(body);
  return status !== 400 || /none-match|InvalidArgument|InvalidRequest|NotImplemented/i.test(said);
}
