/**
 * `oci:DIR[:REF]`: an OCI image layout in a directory. OCI image specification, image-layout.md.
 *
 * @module
 */
import { join } from "node:path";
import { parseDigest } from "../io/digest.ts";
import { InputError } from "../errors.ts";
import { SharedDescriptor } from "../io/shared_descriptor.ts";
import { type BlobStore, missingBlob } from "./blob_store.ts";
import { checkSize, type Descriptor } from "./descriptor.ts";
import { displayText } from "./json.ts";
import { type LayoutFiles, openLayout } from "./layout.ts";
import { readSmallFile, statIfThere } from "./source_file.ts";
import type { OpenedImage, SourceOptions, StoredBytes } from "./types.ts";

/** Opens a layout in a directory. */
export async function openOciDirectory(
  source: string,
  directory: string,
  reference: string | undefined,
  options: SourceOptions,
): Promise<OpenedImage> {
  const name = displayText(directory);
  const stats = statIfThere(directory);
  if (!stats) throw new InputError(name, "does not exist: wanted an OCI image layout");
  if (!stats.isDirectory()) {
    throw new InputError(name, "is no directory: wanted an OCI image layout", {
      hint: "a layout in a tar is written oci-archive:FILE",
    });
  }
  const origin = { source, kind: "oci" as const };
  return await openLayout(new DirectoryBlobs(directory), directoryFiles(directory), reference, {
    origin,
    options,
  });
}

/** Reads the small files of a directory by their names; undefined when one is not there. */
export function directoryFiles(
  directory: string,
): LayoutFiles {
  return (file, limitBytes, limitName) => {
    const path = join(directory, file);
    return statIfThere(path) && readSmallFile(path, limitBytes, limitName);
  };
}

/** Blobs in `blobs/ALGORITHM/HEX`. */
class DirectoryBlobs implements BlobStore {
  readonly name: string;
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.name = displayText(directory);
  }

  read(descriptor: Descriptor): Promise<Uint8Array> {
    const path = this.#find(descriptor);
    return Promise.resolve(readSmallFile(path, descriptor.sizeBytes));
  }

  locate(descriptor: Descriptor): StoredBytes {
    return storedFile(this.#find(descriptor), descriptor.sizeBytes);
  }

  close(): void {}

  /** The blob's path, once it is known to be a file of the right size. */
  #find(descriptor: Descriptor): string {
    const { algorithm, hex } = parseDigest(descriptor.digest, this.name);
    const path = join(this.#directory, "blobs", algorithm, hex);
    const stats = statIfThere(path);
    if (!stats) throw missingBlob(descriptor, this.name);
    if (!stats.isFile()) {
      throw new InputError(displayText(path), "is no regular file: wanted a blob");
    }
    checkSize(stats.size, descriptor.sizeBytes, displayText(path));
    return path;
  }
}

/** A whole file as a layer's stored bytes; it is opened when it is read. */
export function storedFile(path: string, lengthBytes: number): StoredBytes {
  return {
    kind: "file",
    offsetBytes: 0,
    lengthBytes,
    open: () => SharedDescriptor.openFile(path),
  };
}
