/**
 * Where the blobs of an image are: a layout, an archive, a registry.
 *
 * @module
 */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { parseDigest } from "../io/digest.ts";
import { SharedDescriptor } from "../io/random_reader.ts";
import { checkBlob, checkSize, type Descriptor } from "./documents.ts";
import { displayText } from "./json.ts";
import type { DocumentLimit, SourceLimits } from "./limits.ts";
import { documentFault, readSmallFile } from "./source_file.ts";
import { statIfThere } from "../io/paths.ts";
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
  /** Whether a blob is there, as far as this can be told without reading it. */
  has(descriptor: Descriptor): boolean;
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
    code: "missingPart",
    data: { digest: descriptor.digest },
  });
}

/** The name of a blob in its directory, from its digest, which was checked, and the type of what is in it. */
export type BlobFileName = (
  digest: ReturnType<typeof parseDigest>,
  mediaType: string,
) => string;

/** The blobs of a directory. */
export class BlobFiles implements BlobStore {
  readonly name: string;
  readonly #directory: string;
  readonly #nameOf: BlobFileName;

  constructor(directory: string, nameOf: BlobFileName) {
    this.#directory = directory;
    this.#nameOf = nameOf;
    this.name = displayText(directory);
  }

  read(descriptor: Descriptor): Promise<Uint8Array> {
    const path = this.#find(descriptor);
    return Promise.resolve(readSmallFile(path, descriptor.sizeBytes));
  }

  /** The whole file; it is opened when it is read. */
  locate(descriptor: Descriptor): StoredBytes {
    const path = this.#find(descriptor);
    return {
      kind: "file",
      offsetBytes: 0,
      lengthBytes: descriptor.sizeBytes,
      open: () => SharedDescriptor.openFile(path),
    };
  }

  has(descriptor: Descriptor): boolean {
    return descriptor.data !== undefined || statIfThere(this.#pathOf(descriptor)) !== undefined;
  }

  close(): void {}

  #pathOf(descriptor: Descriptor): string {
    const digest = parseDigest(descriptor.digest, this.name);
    return join(this.#directory, this.#nameOf(digest, descriptor.mediaType));
  }

  /** The blob's path, once it is known to be a file of the right size. */
  #find(descriptor: Descriptor): string {
    const path = this.#pathOf(descriptor);
    const stats = statIfThere(path);
    if (!stats) throw missingBlob(descriptor, this.name);
    if (!stats.isFile()) {
      throw new InputError(displayText(path), "is not a regular file: wanted a blob", {
        code: "wrongKind",
      });
    }
    checkSize(stats.size, descriptor.sizeBytes, displayText(path));
    return path;
  }
}
