/**
 * A chunk store in a bucket of S3, as `desync --store s3+https://HOST/BUCKET/PREFIX` reads it.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { chunkPath, STORED_BYTES_MAX } from "./chunk.ts";
import type { ChunkStore, PutOutcome } from "./chunk_store.ts";
import { parseS3Address } from "./s3_request.ts";
import { S3Client, type S3ClientOptions } from "./s3_client.ts";

/** A server that knows no conditions on a PUT may say so. */
const NOT_IMPLEMENTED = 501;
const OPEN_TRIES = 4;

/**
 * A store in a bucket. An object is there whole or not at all, because the server takes it only when all of it has
 * arrived and has the digest that was signed. It is asked to store only where nothing is (`If-None-Match: *`), so that
 * of two who come at once one is told that the other was quicker.
 */
export class S3Store implements ChunkStore {
  readonly name: string;
  readonly #client: S3Client;
  readonly #prefix: string;
  #knowsConditions = true;

  /** @throws {UsageError} when the address is none */
  constructor(address: string, options: S3ClientOptions) {
    const parsed = parseS3Address(address);
    this.name = parsed.shown;
    this.#prefix = parsed.prefix;
    this.#client = new S3Client(parsed, options);
  }

  /**
   * Asks for names that no chunk has: the answer to that, and to no HEAD, says what is wrong. A server that cannot be
   * reached at all is not waited for as long as one that fails in the middle of the work.
   */
  async open(): Promise<void> {
    const query = { "list-type": "2", "max-keys": "1", prefix: `${this.#prefix}.` };
    await this.#client.send({ method: "GET", query, tries: OPEN_TRIES }, [200]);
  }

  async has(id: string): Promise<boolean> {
    const key = chunkPath(id);
    const { status, headers } = await this.#client.send({ method: "HEAD", key }, [200, 404]);
    if (status === 404) return false;
    if (headers.get("content-length") !== "0") return true;
    throw new InputError(`${this.name}/${key}`, "is empty: wanted a chunk", {
      hint: "remove it, and it will be stored again",
      data: { path: key },
    });
  }

  async get(id: string): Promise<Uint8Array> {
    const request = { method: "GET", key: chunkPath(id), mostBytes: STORED_BYTES_MAX } as const;
    return (await this.#client.send(request, [200])).body;
  }

  async put(id: string, stored: Uint8Array): Promise<PutOutcome> {
    const request = {
      method: "PUT",
      key: chunkPath(id),
      body: stored,
      headers: { "content-type": "application/octet-stream" },
    } as const;
    if (this.#knowsConditions) {
      const headers = { ...request.headers, "if-none-match": "*" };
      const answer = await this.#client.send({ ...request, headers }, [
        200,
        201,
        204,
        412,
        NOT_IMPLEMENTED,
      ]);
      // Where an answer was lost, what is there now is most likely what was sent then.
      if (answer.status === 412) return answer.mayBeRepeated ? "added" : "present";
      if (answer.status !== NOT_IMPLEMENTED) return "added";
      this.#knowsConditions = false;
    }
    await this.#client.send(request, [200, 201, 204]);
    return "added";
  }

  /** A server has stored an object for good when it says so. */
  settle(): Promise<void> {
    return Promise.resolve();
  }
}
