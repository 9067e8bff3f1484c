/**
 * `oci:DIR[:REF]` and `oci-archive:FILE[:REF]`: an OCI image layout in a directory or a tar (OCI image specification,
 * image-layout.md); and `dir:DIR`, the output of `skopeo copy ... dir:DIR`: the original manifest, and blobs named by their
 * digests.
 *
 * @module
 */
import { join } from "node:path";
import * as v from "valibot";
import { InputError } from "../errors.ts";
import { parseDigest } from "../bytes/digest.ts";
import { statIfThere } from "../io/paths.ts";
import { missingInput, SharedDescriptor } from "../io/random_reader.ts";
import type { Archive } from "./archive.ts";
import {
  type BlobStore,
  checkSize,
  describeDocument,
  type Descriptor,
  documentKind,
  missingBlob,
  readIndex,
} from "./documents.ts";
import { displayText, fields, readJson } from "./json.ts";
import { type ImageOrigin, openOneOf, openReferenced } from "./manifest.ts";
import { readDocumentFile, readSmallFile } from "./source_file.ts";
import {
  type DocumentLimit,
  documentLimit,
  type OpenedImage,
  type ResolvedOptions,
  type StoredFile,
} from "./types.ts";

export const LAYOUT_MARKER = "oci-layout";
const MARKER_LIMIT = { bytes: 1 << 16 };
const MARKER = fields({ imageLayoutVersion: v.literal("1.0.0", `"1.0.0"`) });

/** Blobs and the small files beside them. */
interface LayoutStore extends BlobStore {
  /** Reads a small file; undefined if it does not exist. */
  readSmall(file: string, limit: DocumentLimit): Uint8Array | undefined;
}

/** Opens the image in a layout. The image closes the store; if opening fails, the caller must. */
async function openLayout(
  store: LayoutStore,
  reference: string | undefined,
  origin: ImageOrigin,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const marker = store.readSmall(LAYOUT_MARKER, MARKER_LIMIT);
  if (!marker) {
    const why = `is not an OCI image layout: the file ${LAYOUT_MARKER} is missing`;
    throw new InputError(store.name, why, { code: "wrongKind" });
  }
  readJson(MARKER, marker, `${store.name}: ${LAYOUT_MARKER}`);
  const indexName = `${store.name}: index.json`;
  const bytes = store.readSmall("index.json", documentLimit(options, "manifestBytes"));
  if (!bytes) {
    const why = "is missing: wanted an OCI image layout";
    throw new InputError(indexName, why, { code: "wrongKind" });
  }
  const entries = readIndex(bytes, indexName, undefined);
  return await openReferenced(store, entries, reference, origin, options);
}

export async function openOciDirectory(
  source: string,
  directory: string,
  reference: string | undefined,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const store = directoryStore(directory, blobPath);
  const stats = statIfThere(directory);
  if (!stats) throw missingInput(directory, "an OCI image layout");
  if (!stats.isDirectory()) {
    throw new InputError(store.name, "is not a directory: wanted an OCI image layout", {
      code: "wrongKind",
      hint: "a layout in a tar is written oci-archive:FILE",
    });
  }
  return await openLayout(store, reference, { source, kind: "oci" }, options);
}

/** Opens the layout in an archive. The image closes the archive; if opening fails, the caller must. */
export async function openOciArchive(
  source: string,
  archive: Archive,
  reference: string | undefined,
  options: ResolvedOptions,
  kind: "oci-archive" | "docker-archive" = "oci-archive",
): Promise<OpenedImage> {
  return await openLayout(archiveStore(archive), reference, { source, kind }, options);
}

/** The path of a blob in a layout. The digest has been validated, so the path is safe. */
function blobPath({ digest }: Descriptor): string {
  const { algorithm, hex } = parseDigest(digest, "descriptor");
  return `blobs/${algorithm}/${hex}`;
}

function archiveStore(archive: Archive): LayoutStore {
  const { name } = archive;
  return {
    name,
    readSmall: (file, limit) => archive.readSmall(file, limit),
    read(descriptor) {
      const bytes = archive.readSmall(blobPath(descriptor), { bytes: descriptor.sizeBytes });
      return bytes ? Promise.resolve(bytes) : Promise.reject(missingBlob(descriptor, name));
    },
    locate(descriptor): StoredFile {
      const path = blobPath(descriptor);
      const stored = archive.stored(path);
      if (!stored) throw missingBlob(descriptor, name);
      checkSize(stored.lengthBytes, descriptor.sizeBytes, `${name}: ${path}`);
      return stored;
    },
    has: (descriptor) => descriptor.data !== undefined || archive.has(blobPath(descriptor)),
    close: archive.close,
  };
}

/** @param fileOf returns the path of a blob in the directory */
function directoryStore(
  directory: string,
  fileOf: (descriptor: Descriptor) => string,
): LayoutStore {
  const name = displayText(directory);
  const pathOf = (descriptor: Descriptor) => join(directory, fileOf(descriptor));
  const find = (descriptor: Descriptor) => {
    const path = pathOf(descriptor);
    const stats = statIfThere(path);
    if (!stats) throw missingBlob(descriptor, name);
    const shown = displayText(path);
    if (!stats.isFile()) {
      throw new InputError(shown, "is not a regular file: wanted a blob", { code: "wrongKind" });
    }
    checkSize(stats.size, descriptor.sizeBytes, shown);
    return path;
  };
  return {
    name,
    readSmall(file, limit) {
      if (!statIfThere(join(directory, file))) return undefined;
      return readDocumentFile(directory, file, limit);
    },
    read: (descriptor) =>
      Promise.resolve(readSmallFile(find(descriptor), { bytes: descriptor.sizeBytes })),
    locate(descriptor) {
      const path = find(descriptor);
      const open = () => SharedDescriptor.openFile(path);
      return { kind: "file", offsetBytes: 0, lengthBytes: descriptor.sizeBytes, open };
    },
    has: (descriptor) =>
      descriptor.data !== undefined || statIfThere(pathOf(descriptor)) !== undefined,
    close: () => {},
  };
}

const MANIFEST_FILE = "manifest.json";
/** Its content is a line such as `Directory Transport Version: 1.1`. */
const VERSION_FILE = "version";
const VERSION_LIMIT = { bytes: 1024 };

export function isDirTransport(directory: string): boolean {
  if (!statIfThere(join(directory, MANIFEST_FILE))?.isFile()) return false;
  const stats = statIfThere(join(directory, VERSION_FILE));
  if (!stats?.isFile() || stats.size > VERSION_LIMIT.bytes) return false;
  const text = new TextDecoder().decode(readDocumentFile(directory, VERSION_FILE, VERSION_LIMIT));
  return text.startsWith("Directory Transport");
}

export async function openDirTransport(
  source: string,
  directory: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  if (!statIfThere(directory)) throw missingInput(directory, "a directory that skopeo wrote");
  const store = directoryStore(directory, transportFile);
  const bytes = store.readSmall(MANIFEST_FILE, documentLimit(options, "manifestBytes"));
  if (!bytes) {
    const why = `is not a directory that skopeo wrote: ${MANIFEST_FILE} is missing`;
    throw new InputError(store.name, why, { code: "wrongKind" });
  }
  const what = `${store.name}: ${MANIFEST_FILE}`;
  const origin = { source, kind: "dir" as const };
  return await openOneOf(store, [describeDocument(bytes, what)], what, origin, options);
}

/** skopeo's names: the hex digits alone for SHA-256, and a suffix for manifests. */
function transportFile({ digest, mediaType }: Descriptor): string {
  const { algorithm, hex } = parseDigest(digest, "descriptor");
  const isManifest = documentKind(mediaType) !== "unknown";
  return (algorithm === "sha256" ? hex : `${algorithm}-${hex}`) +
    (isManifest ? ".manifest.json" : "");
}
