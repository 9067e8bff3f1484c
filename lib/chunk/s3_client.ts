/**
 * Requests to S3: signed, tried again where that may help, and bounded in time and in what they read.
 * Signature version 4 by aws4fetch; the rest follows the API reference of Amazon S3, "Error responses".
 *
 * @module
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { LimitedBytesTransformStream, toArrayBuffer } from "@std/streams";
import { AwsV4Signer } from "aws4fetch";
import { BlessfsError, InputError, throwIfAborted } from "../errors.ts";
import { type FetchSettings, fetchWith } from "../io/http_fetch.ts";
import type { AwsSettings } from "./aws_settings.ts";
import {
  type FailureContext,
  isPassing,
  networkError,
  type S3Failure,
  s3Failure,
  shownRequest,
} from "./s3_errors.ts";
import { objectPath, type S3Address, type S3Answer, type S3Request } from "./s3_request.ts";

/** What a client needs beside the address. */
export interface S3ClientOptions {
  readonly settings: AwsSettings;
  /** Certificates and proxies; default: those of the runtime. */
  readonly connection?: FetchSettings | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Waits between tries; for tests. */
  readonly pause?: (milliseconds: number, signal: AbortSignal | undefined) => Promise<void>;
  readonly tries?: number | undefined;
  /** For one try. */
  readonly timeoutMs?: number | undefined;
}

const DEFAULT_TRIES = 8;
const DEFAULT_TIMEOUT_MS = 60_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 20_000;
const ERROR_BYTES_MAX = 64 * 1024;
/** 0: no answer at all. */
const UNSURE_STATUSES: readonly number[] = [0, 408, 500, 502, 504];
const EMPTY = new Uint8Array(0);

/** Talks to one bucket. */
export class S3Client {
  readonly #address: S3Address;
  readonly #options: S3ClientOptions;
  /** Keys derived for the day, by aws4fetch. */
  readonly #signingKeys = new Map<string, ArrayBuffer>();
  /** What messages must not show. */
  #secrets: readonly string[] = [];

  constructor(address: S3Address, options: S3ClientOptions) {
    this.#address = address;
    this.#options = options;
  }

  /**
   * Sends a request until it is answered with one of the statuses, or with a failure that will not pass.
   *
   * @throws {IoError} that failure, or the last one
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
        failure = s3Failure(answer, this.#contextOf(request));
        const isPassed = isPassing(failure);
        if (isAnswer(answer, request, statuses, isPassed)) return { ...answer, mayBeRepeated };
        if (!isPassed) throw failure.error;
      } catch (cause) {
        throwIfAborted(signal);
        if (!isNetworkFault(cause)) throw cause;
        const error = networkError(this.#address, cause, this.#secrets);
        failure = { error, status: 0, code: "", pauseMs: 0 };
      }
      // SlowDown means that nothing was done; where there was no answer, or one of a gateway, nobody knows.
      if (UNSURE_STATUSES.includes(failure.status)) mayBeRepeated = true;
      if (n >= Math.min(tries, request.tries ?? tries)) throw failure.error;
      await this.#pause(n, failure.pauseMs, request.key ?? "", signal);
    }
  }

  #contextOf(request: S3Request): FailureContext {
    const { region } = this.#options.settings;
    return { request, address: this.#address, region, secrets: this.#secrets };
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
        ...body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> },
      }, this.#options.connection ?? { environment: {} });
      const isAsked = statuses.includes(response.status);
      const bytes = method === "HEAD" ? EMPTY : await this.#read(response, request, isAsked);
      return { status: response.status, headers: response.headers, body: bytes };
    } finally {
      limit.end();
    }
  }

  /** Of what is not the answer to the question, the beginning will do. */
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
        // The server compares it with what arrives, so an object is never stored other than it was meant.
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

  /** Twice as long each time. Requests that fail together come again apart: the key decides by how much. */
  async #pause(
    n: number,
    leastMs: number,
    key: string,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const longestMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (n - 1));
    const share = createHash("sha256").update(`${n} ${key}`).digest()[0]! / 256;
    const milliseconds = Math.max(leastMs, longestMs * (0.5 + share / 2));
    const { pause = pauseFor } = this.#options;
    await pause(Math.min(milliseconds, LONGEST_PAUSE_MS), signal);
  }
}

/**
 * A signal for one request, and its end. `AbortSignal.timeout` would do, but keeps each timer for its whole time, and with
 * a million requests that is memory.
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

async function pauseFor(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
}

/** Whether an answer is one that was asked for, and means what its status says. */
function isAnswer(
  { status, body }: Omit<S3Answer, "mayBeRepeated">,
  { method }: S3Request,
  statuses: readonly number[],
  isPassing: boolean,
): boolean {
  if (!statuses.includes(status)) return false;
  // A server may find out that it failed when it has already sent the status (Amazon S3, "CopyObject").
  if (status < 300) return method !== "PUT" || !new TextDecoder().decode(body).includes("<Error>");
  return !isPassing;
}

/** What fetch throws when there is no answer, or half of one: a TypeError, or something of the runtime's own. */
function isNetworkFault(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof BlessfsError) return false;
  return error.name === "TypeError" || error.name === "TimeoutError" || error.name === "Error" ||
    typeof (error as { code?: unknown }).code === "string";
}
