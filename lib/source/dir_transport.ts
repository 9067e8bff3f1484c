/**
 * `dir:DIR`: what `skopeo copy ... dir:DIR` writes: the manifest as it was, and blobs named by their digests.
 *
 * @module
 */
import { join } from "node:path";
import { parseDigest } from "../io/digest.ts";
import { InputError } from "../errors.ts";
import { type BlobStore, missingBlob } from "./blob_store.ts";
import { chooseManifest } from "./choose_manifest.ts";
import { checkSize, type Descriptor } from "./descriptor.ts";
import { describeDocument } from "./documents.ts";
import { displayText } from "./json.ts";
import { choiceRequest } from "./layout.ts";
import { documentKind } from "./media_types.ts";
import { openManifest } from "./open_manifest.ts";
import { storedFile } from "./oci_layout.ts";
import { readSmallFile, statIfThere } from "./source_file.ts";
import type { OpenedImage, SourceOptions, StoredBytes } from "./types.ts";

const MANIFEST_FILE = "manifest.json";
/** Its content is a line such as `Directory Transport Version: 1.1`. */
const VERSION_FILE = "version";

/** Whether a directory looks like one of this kind. */
export function isDirTransport(directory: string): boolean {
  const version = join(directory, VERSION_FILE);
  if (!statIfThere(join(directory, MANIFEST_FILE))?.isFile()) return false;
  const stats = statIfThere(version);
  if (!stats?.isFile() || stats.size > 1024) return false;
  return new TextDecoder().decode(readSmallFile(version, 1024)).startsWith("Directory Transport");
}

/** Opens the image in a directory of this kind. */
export async function openDirTransport(
  source: string,
  directory: string,
  options: SourceOptions,
): Promise<OpenedImage> {
  const name = displayText(directory);
  const stats = statIfThere(directory);
  if (!stats) throw new InputError(name, "does not exist: wanted a directory that skopeo wrote");
  if (!statIfThere(join(directory, MANIFEST_FILE))) {
    throw new InputError(name, `is no directory that skopeo wrote: ${MANIFEST_FILE} is missing`);
  }
  const request = choiceRequest(options);
  const what = `${name}: ${MANIFEST_FILE}`;
  const bytes = readSmallFile(
    join(directory, MANIFEST_FILE),
    request.limits.manifestBytes,
    "manifestBytes",
  );
  const root = describeDocument(bytes, what);
  const store = new DirBlobs(directory);
  const descriptor = await chooseManifest(store, [root], what, request);
  const origin = { source, kind: "dir" as const, warnings: options.warnings };
  return await openManifest(store, descriptor, request, origin);
}

class DirBlobs implements BlobStore {
  readonly name: string;
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.name = displayText(directory);
  }

  read(descriptor: Descriptor): Promise<Uint8Array> {
    return Promise.resolve(readSmallFile(this.#find(descriptor), descriptor.sizeBytes));
  }

  locate(descriptor: Descriptor): StoredBytes {
    return storedFile(this.#find(descriptor), descriptor.sizeBytes);
  }

  close(): void {}

  #find(descriptor: Descriptor): string {
    const { algorithm, hex } = parseDigest(descriptor.digest, this.name);
    const isManifest = documentKind(descriptor.mediaType) !== "unknown";
    const file = (algorithm === "sha256" ? hex : `${algorithm}-${hex}`) +
      (isManifest ? ".manifest.json" : "");
    const path = join(this.#directory, file);
    const stats = statIfThere(path);
    if (!stats) throw missingBlob(descriptor, this.name);
    if (!stats.isFile()) {
      throw new InputError(displayText(path), "is no regular file: wanted a blob");
    }
    checkSize(stats.size, descriptor.sizeBytes, displayText(path));
    return path;
  }
}
