/**
 * A blob as it comes from a registry, picked up where it was when its connection breaks. Whoever reads it compares the
 * digest with what arrives, so that a part from somewhere else cannot slip in.
 *
 * @module
 */
import { InputError, IoError } from "../../errors.ts";
import { missingBlob } from "../blob_store.ts";
import { checkSize, type Descriptor } from "../descriptor.ts";
import { displayText } from "../json.ts";
import type { RegistryClient } from "./client.ts";
import type { Answer } from "./http.ts";
import { NetworkFault } from "./network_fault.ts";
import { statusFault } from "./status_fault.ts";

/** After so much more of the blob, earlier failures count no more. */
export const PROGRESS_BYTES = 1 << 20;

/** What is asked for. */
export interface BlobRequest {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Its size is compared; its digest is not. */
  readonly descriptor: Descriptor;
  /** What the blob is called in errors. */
  readonly what: string;
}

/**
 * The bytes of a blob, in order, in pieces of any size.
 *
 * @throws {InputError} when there is no such blob, or its size is not the descriptor's
 * @throws {IoError} when it cannot be had for all attempts
 */
export async function* blobPieces(
  client: RegistryClient,
  request: BlobRequest,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const { descriptor, what } = request;
  const wantedBytes = descriptor.sizeBytes;
  const retries = client.retries();
  const transfer = new Transfer(client, request);
  let receivedBytes = 0;
  let countedBytes = 0;
  for (;;) {
    let why = "the connection was closed early";
    const answer = await client.get(request.path, {
      what,
      headers: { ...request.headers, ...transfer.rangeHeaders(receivedBytes) },
      signal,
      retries,
    });
    const repeatedBytes = await transfer.accept(answer, receivedBytes);
    try {
      const isUseful = repeatedBytes !== undefined;
      for await (const fresh of isUseful ? piecesFrom(answer, repeatedBytes) : []) {
        receivedBytes += fresh.length;
        if (receivedBytes > wantedBytes) throw tooLong(what, wantedBytes);
        if (receivedBytes - countedBytes >= PROGRESS_BYTES) {
          retries.reset();
          countedBytes = receivedBytes;
        }
        yield fresh;
      }
    } catch (error) {
      if (!(error instanceof NetworkFault)) throw error;
      why = error.message;
    } finally {
      answer.close();
    }
    if (receivedBytes === wantedBytes) return;
    if (repeatedBytes === undefined) why = "it continues a blob at the wrong place";
    if (await retries.again(signal)) continue;
    const host = displayText(answer.url.host);
    throw new IoError(what, `${host} sent ${receivedBytes} of ${wantedBytes} bytes: ${why}`, {
      data: { expected: wantedBytes, actual: receivedBytes },
    });
  }
}

/** What is known of how a blob can be had in parts. RFC 9110 section 14. */
class Transfer {
  readonly #client: RegistryClient;
  readonly #request: BlobRequest;
  #hasRanges = true;
  /** A strong one, of the answer that the bytes so far came from. */
  #entityTag: string | undefined;

  constructor(client: RegistryClient, request: BlobRequest) {
    this.#client = client;
    this.#request = request;
  }

  /** The headers that ask for the rest. */
  rangeHeaders(receivedBytes: number): Record<string, string> {
    if (receivedBytes === 0 || !this.#hasRanges) return {};
    return {
      Range: `bytes=${receivedBytes}-`,
      ...this.#entityTag === undefined ? {} : { "If-Range": this.#entityTag },
    };
  }

  /**
   * Looks at the head of an answer.
   *
   * @returns how many of its bytes were received before; undefined when it is of no use, but another may be
   */
  async accept(answer: Answer, receivedBytes: number): Promise<number | undefined> {
    const { descriptor, what } = this.#request;
    const asked = receivedBytes > 0 && this.#hasRanges;
    if (answer.status === 200) {
      const { lengthBytes } = answer;
      if (lengthBytes !== undefined && lengthBytes !== descriptor.sizeBytes) {
        answer.close();
        checkSize(lengthBytes, descriptor.sizeBytes, what);
      }
      const tag = answer.header("etag");
      this.#entityTag = tag !== undefined && /^"[\x21\x23-\x7e]*"$/.test(tag) ? tag : undefined;
      return receivedBytes;
    }
    if (asked && answer.status === 206) {
      const range = `bytes ${receivedBytes}-${descriptor.sizeBytes - 1}/${descriptor.sizeBytes}`;
      if (answer.header("content-range")?.trim() === range) return 0;
    }
    if (asked && (answer.status === 206 || answer.status === 416)) {
      this.#hasRanges = false;
      answer.close();
      return undefined;
    }
    if (answer.status === 404) {
      answer.close();
      throw missingBlob(descriptor, what);
    }
    throw await statusFault(answer, what, this.#client.secrets);
  }
}

/** The body without its first bytes. */
async function* piecesFrom(answer: Answer, offsetBytes: number): AsyncGenerator<Uint8Array> {
  let skippedBytes = 0;
  for await (const piece of answer.pieces()) {
    const count = Math.min(offsetBytes - skippedBytes, piece.length);
    skippedBytes += count;
    if (count < piece.length) yield piece.subarray(count);
  }
}

function tooLong(what: string, wantedBytes: number): InputError {
  return new InputError(what, `is longer than the ${wantedBytes} bytes that were announced`);
}
