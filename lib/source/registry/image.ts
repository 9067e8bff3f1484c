/**
 * `docker://REGISTRY/REPOSITORY[:TAG][@DIGEST]`: an image in a registry, pulled through its HTTP API, and the directory
 * that caches its layers.
 *
 * @module
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { InputError, IoError } from "../../errors.ts";
import { SharedDescriptor } from "../../io/random_reader.ts";
import {
  ACCEPTED_DOCUMENT_TYPES,
  type BlobStore,
  checkDigest,
  checkSize,
  describeDocument,
  type Descriptor,
  documentKind,
  missingBlob,
} from "../documents.ts";
import { displayText } from "../json.ts";
import { openOneOf } from "../manifest.ts";
import { parseReference } from "../source_name.ts";
import {
  type OpenedImage,
  type ResolvedOptions,
  type SourceLimits,
  sourceLimits,
  type StoredBytes,
  type StoredStream,
} from "../types.ts";
import { connectRegistry, type RegistryClient } from "./client.ts";
import { type Answer, NetworkFault } from "./http.ts";
import { Retries, statusFault, withRetries } from "./retry.ts";

const ACCEPT = { Accept: ACCEPTED_DOCUMENT_TYPES.join(", ") };
/** Uninformative types; the document itself must state its type. */
const PLAIN_TYPES: ReadonlySet<string | undefined> = new Set([
  undefined,
  "application/json",
  "application/octet-stream",
  "text/plain",
]);

/** Opens the image that a reference names. If it has a digest, its tag is ignored. */
export async function openRegistryImage(
  source: string,
  reference: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const client = await connectRegistry(parseReference(reference), options);
  const root = await fetchRoot(client, options);
  const store = registryBlobs(client, options);
  return await openOneOf(store, [root], store.name, { source, kind: "docker" }, options);
}

function registryBlobs(
  client: RegistryClient,
  { signal, registry: { blobCache } = {} }: ResolvedOptions,
): BlobStore {
  const { name } = client;
  const requestOf = (descriptor: Descriptor): BlobRequest => {
    const { digest, mediaType } = descriptor;
    const isDocument = isDocumentType(mediaType);
    return {
      path: pathIn(client, isDocument ? "manifests" : "blobs", digest),
      ...isDocument ? { headers: ACCEPT } : {},
      descriptor,
      what: `${name}: ${isDocument ? "manifest" : "blob"} ${digest}`,
    };
  };
  return {
    name,
    async read(descriptor) {
      const bytes = new Uint8Array(descriptor.sizeBytes);
      let at = 0;
      for await (const piece of blobPieces(client, requestOf(descriptor), signal)) {
        bytes.set(piece, at);
        at += piece.length;
      }
      return bytes;
    },
    locate(descriptor) {
      const request = requestOf(descriptor);
      const open = (signal: AbortSignal | undefined) => blobPieces(client, request, signal);
      const stream: StoredStream = { kind: "stream", open };
      return blobCache === undefined ? stream : throughBlobCache(blobCache, descriptor, stream);
    },
    // Do not ask the registry for blobs that may not be needed.
    has: () => true,
    close: () => {},
  };
}

/** A path in the repository's API. The reference's grammar has validated its parts. */
function pathIn({ reference }: RegistryClient, kind: "manifests" | "blobs", id: string): string {
  return `/v2/${reference.repository}/${kind}/${id}`;
}

/** The document that the reference itself names, with a descriptor made for it. */
async function fetchRoot(client: RegistryClient, options: ResolvedOptions): Promise<Descriptor> {
  const { signal, warnings } = options;
  const { name, reference } = client;
  const path = pathIn(client, "manifests", reference.digest ?? reference.tag!);
  const retries = new Retries(client.session);
  const request = { what: name, url: client.url(path), signal };
  const { answer, bytes } = await withRetries(request, retries, async () => {
    const answer = await client.get(path, { what: name, headers: ACCEPT, signal }, retries);
    if (answer.status !== 200) throw await statusFault(answer, name, client.session);
    checkIsDocument(answer, name);
    return { answer, bytes: await readManifest(answer, sourceLimits(options), name) };
  });
  const stated = answer.header("docker-content-digest");
  const wanted = reference.digest ?? (/^sha(?:256|512):/.test(stated ?? "") ? stated : undefined);
  if (wanted !== undefined) checkDigest(bytes, wanted, `${name}: its manifest`);
  const root = describeDocument(bytes, name);
  const { digest = root.digest } = reference;
  const { mediaType } = answer;
  // The document is compared with this type when it is read.
  if (mediaType !== undefined && isDocumentType(mediaType)) return { ...root, digest, mediaType };
  const why = mediaType === undefined ? "without a type" : `as ${displayText(mediaType)}`;
  warnings.add("mediaTypeMismatch", name, `comes ${why}: taken for ${root.mediaType}`);
  return { ...root, digest };
}

function isDocumentType(mediaType: string | undefined): boolean {
  return documentKind(mediaType) !== "unknown";
}

function checkIsDocument(answer: Answer, what: string): void {
  const { mediaType } = answer;
  if (PLAIN_TYPES.has(mediaType) || isDocumentType(mediaType)) return;
  answer.close();
  const host = displayText(answer.url.host);
  const type = displayText((mediaType ?? "").slice(0, 120));
  throw new InputError(what, `${host} answers with ${type}: wanted a manifest or an index`);
}

async function readManifest(
  answer: Answer,
  { manifestBytes }: SourceLimits,
  what: string,
): Promise<Uint8Array> {
  const bytes = await answer.bytes(manifestBytes);
  if (bytes) return bytes;
  const { lengthBytes } = answer;
  const found = lengthBytes === undefined ? "is longer" : `is ${lengthBytes} bytes long`;
  throw new InputError(what, `its manifest ${found}: at most ${manifestBytes} bytes are read`, {
    code: "limitExceeded",
  });
}

/** After this many more bytes of the blob, earlier failures no longer count. */
export const PROGRESS_BYTES = 1 << 20;

interface BlobRequest {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Its size is verified; its digest is not. */
  readonly descriptor: Descriptor;
  readonly what: string;
}

export async function* blobPieces(
  client: RegistryClient,
  request: BlobRequest,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const { descriptor, what } = request;
  const wantedBytes = descriptor.sizeBytes;
  const retries = new Retries(client.session);
  const transfer = new Transfer();
  let receivedBytes = 0;
  let countedBytes = 0;
  for (;;) {
    let why = "the connection was closed early";
    const headers = { ...request.headers, ...transfer.rangeHeaders(receivedBytes) };
    const answer = await client.get(request.path, { what, headers, signal }, retries);
    const repeatedBytes = await transfer.accept(client, request, answer, receivedBytes);
    let skippedBytes = 0;
    try {
      for await (const piece of repeatedBytes === undefined ? [] : answer.pieces()) {
        const fresh = piece.subarray(repeatedBytes! - skippedBytes);
        skippedBytes += piece.length - fresh.length;
        if (fresh.length === 0) continue;
        receivedBytes += fresh.length;
        if (receivedBytes > wantedBytes) {
          const why = `is longer than the ${wantedBytes} bytes that were announced`;
          throw new InputError(what, why);
        }
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
      code: "unreachable",
      data: { expected: wantedBytes, actual: receivedBytes },
    });
  }
}

/** Fetches a blob, in parts if the server supports that. RFC 9110 section 14. */
class Transfer {
  #hasRanges = true;
  /** The strong entity tag of the response that the bytes so far came from. */
  #entityTag: string | undefined;

  rangeHeaders(receivedBytes: number): Record<string, string> {
    if (receivedBytes === 0 || !this.#hasRanges) return {};
    const range = { Range: `bytes=${receivedBytes}-` };
    return this.#entityTag === undefined ? range : { ...range, "If-Range": this.#entityTag };
  }

  /** How many bytes at the start of a response to skip; undefined if it is unusable but another request may succeed. */
  async accept(
    client: RegistryClient,
    { descriptor, what }: BlobRequest,
    answer: Answer,
    receivedBytes: number,
  ): Promise<number | undefined> {
    const { sizeBytes } = descriptor;
    const asked = receivedBytes > 0 && this.#hasRanges;
    if (answer.status === 200) {
      const { lengthBytes = sizeBytes } = answer;
      if (lengthBytes !== sizeBytes) answer.close();
      checkSize(lengthBytes, sizeBytes, what);
      this.#entityTag = /^"[\x21\x23-\x7e]*"$/.exec(answer.header("etag") ?? "")?.[0];
      return receivedBytes;
    }
    if (asked && answer.status === 206) {
      const range = `bytes ${receivedBytes}-${sizeBytes - 1}/${sizeBytes}`;
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
    throw await statusFault(answer, what, client.session);
  }
}

let partCount = 0;

/** A blob's file in a cache; undefined if the digest is not SHA-256. */
export function cachedBlobPath(directory: string, digest: string): string | undefined {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  return hex === undefined ? undefined : join(directory, "sha256", hex);
}

/**
 * A layer's stored bytes: the cached file if it exists, otherwise the registry's stream, which also leaves a copy in the
 * cache. Processes may share a cache: a file gets its name once it is complete and verified.
 */
function throughBlobCache(
  directory: string,
  { digest, sizeBytes }: Descriptor,
  stream: StoredStream,
): StoredBytes {
  const path = cachedBlobPath(directory, digest);
  if (path === undefined) return stream;
  if (isOfSize(path, sizeBytes)) {
    const open = () => SharedDescriptor.openFile(path);
    return { kind: "file", open, offsetBytes: 0, lengthBytes: sizeBytes };
  }
  return { kind: "stream", open: (signal) => copying(stream.open(signal), path) };
}

function isOfSize(path: string, sizeBytes: number): boolean {
  try {
    return statSync(path).size === sizeBytes;
  } catch {
    return false;
  }
}

/** Passes pieces on and keeps a copy. If copying fails, for example on a full disk, the copy is abandoned. */
async function* copying(
  pieces: AsyncIterable<Uint8Array>,
  path: string,
): AsyncGenerator<Uint8Array> {
  const partPath = `${path}.part-${process.pid}-${++partCount}`;
  const hash = createHash("sha256");
  let descriptor: number | undefined;
  const drop = () => {
    if (descriptor === undefined) return;
    closeSync(descriptor);
    descriptor = undefined;
    rmSync(partPath, { force: true });
  };
  const attempt = (step: () => void) => {
    try {
      step();
    } catch {
      drop();
    }
  };
  attempt(() => {
    mkdirSync(dirname(path), { recursive: true });
    descriptor = openSync(partPath, "wx");
  });
  try {
    for await (const piece of pieces) {
      attempt(() => {
        if (descriptor === undefined) return;
        for (let at = 0; at < piece.length;) at += writeSync(descriptor, piece, at);
        hash.update(piece);
      });
      yield piece;
    }
    attempt(() => {
      if (descriptor === undefined || !path.endsWith(hash.digest("hex"))) return;
      fsyncSync(descriptor);
      renameSync(partPath, path);
    });
  } finally {
    drop();
  }
}
