/**
 * `dir:DIR`: what `skopeo copy ... dir:DIR` writes: the manifest as it was, and blobs named by their digests.
 *
 * @module
 */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { missingInput } from "../io/random_reader.ts";
import { BlobFiles } from "./blobs.ts";
import { choiceRequest, chooseManifest } from "./choose.ts";
import { describeDocument, documentKind } from "./documents.ts";
import { displayText } from "./json.ts";
import { openManifest } from "./manifest.ts";
import { readDocumentFile } from "./source_file.ts";
import { statIfThere } from "../io/paths.ts";
import type { OpenedImage, ResolvedOptions } from "./types.ts";

const MANIFEST_FILE = "manifest.json";
/** Its content is a line such as `Directory Transport Version: 1.1`. */
const VERSION_FILE = "version";

/** Whether a directory looks like one of this kind. */
export function isDirTransport(directory: string): boolean {
  const version = join(directory, VERSION_FILE);
  if (!statIfThere(join(directory, MANIFEST_FILE))?.isFile()) return false;
  const stats = statIfThere(version);
  if (!stats?.isFile() || stats.size > 1024) return false;
  return new TextDecoder().decode(readDocumentFile(directory, VERSION_FILE, 1024)).startsWith(
    "Directory Transport",
  );
}

/** Opens the image in a directory of this kind. */
export async function openDirTransport(
  source: string,
  directory: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const name = displayText(directory);
  const stats = statIfThere(directory);
  if (!stats) throw missingInput(directory, "a directory that skopeo wrote");
  if (!statIfThere(join(directory, MANIFEST_FILE))) {
    throw new InputError(
      name,
      `is not a directory that skopeo wrote: ${MANIFEST_FILE} is missing`,
      { code: "wrongKind" },
    );
  }
  const request = choiceRequest(options);
  const what = `${name}: ${MANIFEST_FILE}`;
  const bytes = readDocumentFile(
    directory,
    MANIFEST_FILE,
    request.limits.manifestBytes,
    "manifestBytes",
  );
  const root = describeDocument(bytes, what);
  const store = transportBlobs(directory);
  const descriptor = await chooseManifest(store, [root], what, request);
  const origin = { source, kind: "dir" as const, warnings: options.warnings };
  return await openManifest(store, descriptor, request, origin);
}

/** skopeo's names: the hex digits alone for SHA-256, and another ending for manifests. */
function transportBlobs(directory: string): BlobFiles {
  return new BlobFiles(directory, ({ algorithm, hex }, mediaType) => {
    const isManifest = documentKind(mediaType) !== "unknown";
    return (algorithm === "sha256" ? hex : `${algorithm}-${hex}`) +
      (isManifest ? ".manifest.json" : "");
  });
}
