/**
 * Blobs as files of a directory, each under a name that its digest gives.
 *
 * @module
 */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { parseDigest } from "../io/digest.ts";
import { SharedDescriptor } from "../io/shared_descriptor.ts";
import { type BlobStore, missingBlob } from "./blob_store.ts";
import { checkSize, type Descriptor } from "./descriptor.ts";
import { displayText } from "./json.ts";
import { readSmallFile, statIfThere } from "./source_file.ts";
import type { StoredBytes } from "./types.ts";

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

  close(): void {}

  /** The blob's path, once it is known to be a file of the right size. */
  #find(descriptor: Descriptor): string {
    const digest = parseDigest(descriptor.digest, this.name);
    const path = join(this.#directory, this.#nameOf(digest, descriptor.mediaType));
    const stats = statIfThere(path);
    if (!stats) throw missingBlob(descriptor, this.name);
    if (!stats.isFile()) {
      throw new InputError(displayText(path), "is no regular file: wanted a blob");
    }
    checkSize(stats.size, descriptor.sizeBytes, displayText(path));
    return path;
  }
}
