/**
 * A chunk store in a bucket of S3, as `desync --store s3+https://HOST/BUCKET/PREFIX` reads it.
 *
 * @module
 */
import { InputError, IoError } from "../errors.ts";
import {
  chunkIdOf,
  chunkPath,
  STORED_BYTES_MAX,
  STORED_BYTES_MIN,
  storedBytesMax,
} from "./chunk.ts";
import type { ChunkStore, PutOutcome, StoredObject } from "./chunk_store.ts";
import { MISSING_CODE } from "./chunk_store.ts";
import { S3Client, type S3ClientOptions } from "./s3_client.ts";
import { elementOf, errorCode } from "./s3_errors.ts";
import { parseS3Address, type S3Address, type S3Answer } from "./s3_request.ts";

/** What servers answer that know no conditions on a PUT. */
const NO_CONDITION_STATUSES: readonly number[] = [400, 405, 501];
const STORED_STATUSES: readonly number[] = [200, 201, 204];
/** Somebody was quicker, or the server says so. */
const CONFLICT_STATUSES: readonly number[] = [304, 412];
const OPEN_TRIES = 4;
const MARK_TIMEOUT_MS = 10_000;
const LIST_BYTES_MAX = 8 << 20;
/** An object that is not empty, for servers that do not keep empty ones. */
const MARK = new TextEncoder().encode("blessfs\n");
const HEADERS = { "content-type": "application/octet-stream" } as const;
/** What an object of a chunk is never labelled with, and answers of consoles and portals are. */
const DOCUMENT_TYPES = /^(text\/|image\/|application\/(xhtml|xml|json|javascript))/i;

/**
 * A store in a bucket. An object is there whole or not at all, because the server takes it only when all of it has
 * arrived and has the digest that was signed. It is asked to store only where nothing is (`If-None-Match: *`), so that
 * when two come at once, one learns that the other was quicker.
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
   * Lists a name that no chunk has: the answer to that says what is wrong, which no answer to a HEAD does. A server that
   * cannot be reached at all is not waited for as long as one that fails in the middle of the work.
   */
  async open(): Promise<void> {
    await this.#list({ "max-keys": "1", prefix: `${this.#address.prefix}.` }, OPEN_TRIES);
  }

  async has(id: string, contentBytes: number, signal?: AbortSignal): Promise<boolean> {
    const key = chunkPath(id);
    const request = { method: "HEAD", key, signal } as const;
    let answer = await this.#client.send(request, [200, 400, 401, 403, 404]);
    // A HEAD has no body that could say why it failed; a list has one.
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
    throw new InputError(`${this.name}/${key}`, "is missing: wanted a chunk", {
      code: "missingPart",
      data: { path: key, code: MISSING_CODE },
    });
  }

  async put(id: string, stored: Uint8Array, signal?: AbortSignal): Promise<PutOutcome> {
    const request = { method: "PUT", key: chunkPath(id), body: stored, signal } as const;
    if (this.#knowsConditions) {
      const answer = await this.#client.send(
        { ...request, headers: { ...HEADERS, "if-none-match": "*" } },
        [...STORED_STATUSES, ...CONFLICT_STATUSES, ...NO_CONDITION_STATUSES],
      );
      if (STORED_STATUSES.includes(answer.status)) return await this.#confirm(id, stored, answer);
      if (CONFLICT_STATUSES.includes(answer.status)) {
        // Some servers refuse every condition in this way and have stored nothing.
        if (await this.has(id, Infinity, signal)) {
          // Where an answer was lost, what is there now is most likely what was sent then.
          return answer.mayBeRepeated ? "added" : "present";
        }
      } else if (isAboutCondition(answer)) this.#knowsConditions = false;
    }
    // One that fails now fails for a reason of its own, which is reported.
    const answer = await this.#client.send({ ...request, headers: HEADERS }, STORED_STATUSES);
    return await this.#confirm(id, stored, answer);
  }

  /** A server has stored an object for good when it says so. */
  settle(): Promise<void> {
    return Promise.resolve();
  }

  async *list(folder = "", signal?: AbortSignal): AsyncGenerator<StoredObject> {
    const { prefix } = this.#address;
    let token = "";
    do {
      const page = await this.#list(
        {
          prefix: folder === "" ? prefix : `${prefix}${folder}/`,
          ...token === "" ? {} : { "continuation-token": token },
        },
        undefined,
        signal,
      );
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
    const headers = { ...HEADERS, "if-none-match": "*" };
    const request = { method: "PUT", key: path, body: MARK, timeoutMs: MARK_TIMEOUT_MS } as const;
    const statuses = [...STORED_STATUSES, ...CONFLICT_STATUSES, ...NO_CONDITION_STATUSES];
    const { status } = await this.#client.send({ ...request, headers }, statuses);
    if (STORED_STATUSES.includes(status)) return true;
    if (CONFLICT_STATUSES.includes(status)) {
      const head = await this.#client.send({ method: "HEAD", key: path }, [200, 404]);
      if (head.status === 200) return false;
    }
    await this.#client.send({ ...request, headers: HEADERS }, STORED_STATUSES);
    return true;
  }

  /** A server that answers 200 to everything, such as a web console on a wrong port, has no list of objects. */
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
      ...tries === undefined ? {} : { tries },
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

  /** What is under a chunk's name must be able to be the chunk. */
  #checkObject(key: string, headers: Headers, contentBytes: number): void {
    const type = headers.get("content-type") ?? "";
    const length = headers.get("content-length") ?? "";
    const sizeBytes = /^\d{1,15}$/.test(length) ? Number(length) : undefined;
    const most = storedBytesMax(contentBytes);
    const why = DOCUMENT_TYPES.test(type)
      ? `has the type ${JSON.stringify(type.slice(0, 80))}`
      : sizeBytes === undefined
      ? "has no stated size"
      : sizeBytes === 0
      ? "is empty"
      : sizeBytes < STORED_BYTES_MIN || sizeBytes > most
      ? `has ${sizeBytes} bytes`
      : undefined;
    if (why === undefined) return;
    throw new InputError(`${this.name}/${key}`, `${why}: wanted a chunk`, {
      hint: "remove it, and it will be stored again",
      data: { path: key },
    });
  }

  /** S3 gives an entity tag for what it has stored. Who gives none is asked whether it is there. */
  async #confirm(id: string, stored: Uint8Array, answer: S3Answer): Promise<PutOutcome> {
    if (answer.headers.has("etag")) return "added";
    if (await this.has(id, Infinity)) return "added";
    throw new IoError(
      `${this.name}/${chunkPath(id)}`,
      "was not stored, although the server said so",
      {
        hint: "check that the address is that of an S3 server",
        data: { status: answer.status, sizeBytes: stored.length },
      },
    );
  }
}

/** Whether a refusal may be about the condition, so that it is worth trying without. */
function isAboutCondition({ status, body }: S3Answer): boolean {
  if (status !== 400) return true;
  return /none-match|InvalidArgument|InvalidRequest|NotImplemented/i.test(
    new TextDecoder().decode(body),
  );
}
