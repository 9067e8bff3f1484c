/**
 * `docker://REGISTRY/REPOSITORY[:TAG][@DIGEST]`: an image in a registry, pulled over its HTTP API.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { digestOf, parseDigest } from "../../io/digest.ts";
import type { BlobStore } from "../blob_store.ts";
import { chooseManifest } from "../choose_manifest.ts";
import { type Descriptor, digestFault } from "../descriptor.ts";
import { describeDocument } from "../documents.ts";
import { displayText } from "../json.ts";
import { choiceRequest } from "../layout.ts";
import { ACCEPTED_DOCUMENT_TYPES, documentKind } from "../media_types.ts";
import { openManifest } from "../open_manifest.ts";
import { parseReference } from "../reference.ts";
import type { OpenedImage, SourceOptions, StoredBytes } from "../types.ts";
import { blobPieces, type BlobRequest } from "./blob_stream.ts";
import { connectRegistry, type RegistryClient } from "./client.ts";
import { apiPath } from "./endpoint.ts";
import type { Answer } from "./http.ts";
import { overcomeFaults } from "./patience.ts";
import { statusFault } from "./status_fault.ts";

const ACCEPT = { Accept: ACCEPTED_DOCUMENT_TYPES.join(", ") };
/** Types that say nothing; then the document itself must. */
const PLAIN_TYPES: ReadonlySet<string | undefined> = new Set([
  undefined,
  "application/json",
  "application/octet-stream",
  "text/plain",
]);

/**
 * Opens the image that a reference names. Where it has a digest, that decides, and its tag is not looked at.
 *
 * @param reference what is written behind `docker://`
 * @throws {UsageError} when the reference is not written as one
 * @throws {InputError} when the registry does not have it, or what it has is wrong or unsupported
 * @throws {IoError} when the registry cannot be reached or refuses
 */
export async function openRegistryImage(
  source: string,
  reference: string,
  options: SourceOptions,
): Promise<OpenedImage> {
  const request = choiceRequest(options);
  const client = await connectRegistry(parseReference(reference), options);
  const root = await fetchRoot(client, request.limits.manifestBytes, options);
  const store = new RegistryBlobs(client, options.signal);
  const descriptor = await chooseManifest(store, [root], store.name, request);
  const origin = { source, kind: "docker" as const, warnings: options.warnings };
  return await openManifest(store, descriptor, request, origin);
}

/** Manifests and blobs by their digests. */
class RegistryBlobs implements BlobStore {
  readonly name: string;
  readonly #client: RegistryClient;
  readonly #signal: AbortSignal | undefined;

  constructor(client: RegistryClient, signal: AbortSignal | undefined) {
    this.name = client.name;
    this.#client = client;
    this.#signal = signal;
  }

  async read(descriptor: Descriptor): Promise<Uint8Array> {
    const bytes = new Uint8Array(descriptor.sizeBytes);
    let at = 0;
    for await (const piece of blobPieces(this.#client, this.#request(descriptor), this.#signal)) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  locate(descriptor: Descriptor): StoredBytes {
    const request = this.#request(descriptor);
    return { kind: "stream", open: (signal) => blobPieces(this.#client, request, signal) };
  }

  close(): void {}

  #request(descriptor: Descriptor): BlobRequest {
    const { reference, name } = this.#client;
    const { digest, mediaType } = descriptor;
    const isDocument = documentKind(mediaType) !== "unknown";
    return {
      path: apiPath(reference, isDocument ? "manifests" : "blobs", digest),
      ...isDocument ? { headers: ACCEPT } : {},
      descriptor,
      what: `${name}: ${isDocument ? "manifest" : "blob"} ${digest}`,
    };
  }
}

/** The document that the reference itself names, with a descriptor made for it. */
async function fetchRoot(
  client: RegistryClient,
  limitBytes: number,
  { signal, warnings }: SourceOptions,
): Promise<Descriptor> {
  const { name, reference } = client;
  const path = apiPath(reference, "manifests", reference.digest ?? reference.tag!);
  const retries = client.retries();
  const place = { what: name, url: client.url(path), signal };
  const { answer, bytes } = await overcomeFaults(place, retries, async () => {
    const answer = await client.get(path, { what: name, headers: ACCEPT, signal, retries });
    if (answer.status !== 200) throw await statusFault(answer, name, client.secrets);
    checkIsDocument(answer, name);
    return { answer, bytes: await readAll(answer, limitBytes, name) };
  });
  const digest = checkDigests(answer, bytes, reference.digest, name);
  const { mediaType } = answer;
  if (mediaType !== undefined && documentKind(mediaType) !== "unknown") {
    // The document is compared with this type when it is read.
    return { ...describeDocument(bytes, name), digest, mediaType };
  }
  const root = { ...describeDocument(bytes, name), digest };
  const why = mediaType === undefined
    ? `comes without a type: taken for ${root.mediaType}`
    : `comes as ${displayText(mediaType)}: taken for ${root.mediaType}`;
  warnings.add("mediaTypeMismatch", name, why);
  return root;
}

function checkIsDocument(answer: Answer, what: string): void {
  const { mediaType } = answer;
  if (PLAIN_TYPES.has(mediaType)) return;
  if (mediaType !== undefined && documentKind(mediaType) !== "unknown") return;
  answer.close();
  const host = displayText(answer.url.host);
  const type = displayText((mediaType ?? "").slice(0, 120));
  throw new InputError(what, `${host} answers with ${type}: wanted a manifest or an index`);
}

async function readAll(answer: Answer, limitBytes: number, what: string): Promise<Uint8Array> {
  const { lengthBytes } = answer;
  if (lengthBytes === undefined || lengthBytes <= limitBytes) {
    const bytes = await answer.bytes(limitBytes);
    if (bytes) return bytes;
  }
  answer.close();
  const found = lengthBytes === undefined ? "is longer" : `is ${lengthBytes} bytes long`;
  throw new InputError(what, `its manifest ${found}: at most ${limitBytes} bytes are read`);
}

/** Compares what came with what was asked for, or else with what the registry says of it. Returns its digest. */
function checkDigests(
  answer: Answer,
  bytes: Uint8Array,
  wanted: string | undefined,
  what: string,
): string {
  if (wanted !== undefined) {
    const found = digestOf(bytes, parseDigest(wanted, what).algorithm);
    if (found !== wanted) throw digestFault(`${what}: its manifest`, found, wanted);
    return wanted;
  }
  const stated = answer.header("docker-content-digest");
  if (stated !== undefined && /^sha(?:256|512):/.test(stated)) {
    const found = digestOf(bytes, parseDigest(stated, what).algorithm);
    if (found !== stated) throw digestFault(`${what}: its manifest`, found, stated);
  }
  return digestOf(bytes);
}
