/**
 * Where the blobs of an image are: a layout, an archive, a registry.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { checkBlob, checkSize, type Descriptor } from "./descriptor.ts";
import type { DocumentLimit, SourceLimits } from "./limits.ts";
import { documentFault } from "./source_file.ts";
import type { StoredBytes } from "./types.ts";

/** Blobs by their descriptors. */
export interface BlobStore {
  /** What to call it in messages; safe to print. */
  readonly name: string;
  /**
   * A small blob, whole. The caller compares it with the descriptor.
   *
   * @throws {InputError} when it is missing, or bigger than the descriptor says
   */
  read(descriptor: Descriptor): Promise<Uint8Array>;
  /**
   * How a layer's stored bytes are had. Nothing is read of them yet.
   *
   * @throws {InputError} when it is missing, or when its size is known and not what the descriptor says
   */
  locate(descriptor: Descriptor): StoredBytes;
  close(): void;
}

/**
 * Reads a document through its descriptor and checks size and digest.
 *
 * @param what the document's name in errors
 */
export async function readDocument(
  store: BlobStore,
  descriptor: Descriptor,
  what: string,
  limits: SourceLimits,
  limitName: DocumentLimit,
): Promise<Uint8Array> {
  const { sizeBytes } = descriptor;
  if (sizeBytes > limits[limitName]) {
    throw documentFault(what, sizeBytes, limits[limitName], limitName);
  }
  const bytes = descriptor.data ?? await store.read(descriptor);
  checkBlob(bytes, descriptor, what);
  return bytes;
}

/** How the stored bytes of a layer are had, also when its descriptor carries them. */
export function locateLayer(store: BlobStore, descriptor: Descriptor, what: string): StoredBytes {
  const { data } = descriptor;
  if (data === undefined) return store.locate(descriptor);
  checkSize(data.length, descriptor.sizeBytes, what);
  return {
    kind: "stream",
    async *open() {
      await Promise.resolve();
      yield data.slice();
    },
  };
}

/** The error for a blob that is not where it should be. */
export function missingBlob(descriptor: Descriptor, where: string): InputError {
  const elsewhere = descriptor.urls.length > 0
    ? "; its descriptor names other places for it, which are not asked"
    : "";
  return new InputError(where, `the blob ${descriptor.digest} is missing${elsewhere}`, {
    data: { digest: descriptor.digest },
  });
}
