/**
 * `oci:DIR[:REF]` and `oci-archive:FILE[:REF]`: an OCI image layout in a directory or in a tar.
 * OCI image specification, image-layout.md.
 *
 * @module
 */
import { join } from "node:path";
import * as v from "valibot";
import { InputError } from "../errors.ts";
import { missingInput } from "../io/random_reader.ts";
import { type Archive, ArchiveBlobs } from "./archive.ts";
import { BlobFiles, type BlobStore } from "./blobs.ts";
import { choiceRequest, chooseImage } from "./choose.ts";
import { readIndex } from "./documents.ts";
import { checkJson, displayText, fields, parseJson } from "./json.ts";
import type { DocumentLimit } from "./limits.ts";
import { openManifest } from "./manifest.ts";
import { readDocumentFile } from "./source_file.ts";
import { statIfThere } from "../io/paths.ts";
import type { OpenedImage, ResolvedOptions } from "./types.ts";

/** Reads a small file of the layout; undefined when it is not there. */
export type LayoutFiles = (
  file: string,
  limitBytes: number,
  limitName?: DocumentLimit,
) => Uint8Array | undefined;

/** What a user asked for. */
export interface LayoutRequest {
  readonly origin: { readonly source: string; readonly kind: OpenedImage["kind"] };
  readonly options: ResolvedOptions;
}

/** The file that marks a layout. */
export const LAYOUT_MARKER = "oci-layout";
const MARKER_LIMIT_BYTES = 1 << 16;
const MARKER = fields({ imageLayoutVersion: v.literal("1.0.0", `"1.0.0"`) });

/** Opens the image of a layout. The image closes the store; when opening fails, the caller does. */
export async function openLayout(
  store: BlobStore,
  files: LayoutFiles,
  reference: string | undefined,
  { origin, options }: LayoutRequest,
): Promise<OpenedImage> {
  const request = choiceRequest(options);
  checkMarker(files, store.name);
  const indexName = `${store.name}: index.json`;
  const bytes = files("index.json", request.limits.manifestBytes, "manifestBytes");
  if (!bytes) {
    throw new InputError(indexName, "is missing: wanted an OCI image layout", {
      code: "wrongKind",
    });
  }
  const entries = readIndex(bytes, indexName, undefined);
  const descriptor = await chooseImage(store, entries, reference, request);
  return await openManifest(store, descriptor, request, { ...origin, warnings: options.warnings });
}

function checkMarker(files: LayoutFiles, name: string): void {
  const bytes = files(LAYOUT_MARKER, MARKER_LIMIT_BYTES);
  if (!bytes) {
    throw new InputError(name, `is not an OCI image layout: the file ${LAYOUT_MARKER} is missing`, {
      code: "wrongKind",
    });
  }
  const what = `${name}: ${LAYOUT_MARKER}`;
  checkJson(MARKER, parseJson(bytes, what), { what, field: "" });
}

/** Opens a layout in a directory. */
export async function openOciDirectory(
  source: string,
  directory: string,
  reference: string | undefined,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const name = displayText(directory);
  const stats = statIfThere(directory);
  if (!stats) throw missingInput(directory, "an OCI image layout");
  if (!stats.isDirectory()) {
    throw new InputError(name, "is not a directory: wanted an OCI image layout", {
      code: "wrongKind",
      hint: "a layout in a tar is written oci-archive:FILE",
    });
  }
  const origin = { source, kind: "oci" as const };
  return await openLayout(layoutBlobs(directory), directoryFiles(directory), reference, {
    origin,
    options,
  });
}

/** Reads the small files of a directory by their names; undefined when one is not there. */
export function directoryFiles(
  directory: string,
): LayoutFiles {
  return (file, limitBytes, limitName) => {
    return statIfThere(join(directory, file)) &&
      readDocumentFile(directory, file, limitBytes, limitName);
  };
}

/** Blobs in `blobs/ALGORITHM/HEX`. */
function layoutBlobs(directory: string): BlobFiles {
  return new BlobFiles(directory, ({ algorithm, hex }) => join("blobs", algorithm, hex));
}

/** Opens the layout in an archive. The image closes the archive; when opening fails, the caller does. */
export async function openOciArchive(
  source: string,
  archive: Archive,
  reference: string | undefined,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const origin = { source, kind: "oci-archive" as const };
  return await openLayout(new ArchiveBlobs(archive), archiveFiles(archive), reference, {
    origin,
    options,
  });
}

/** The small files of a layout in an archive. */
export function archiveFiles(archive: Archive): LayoutFiles {
  return (file, limitBytes, limitName) => archive.readSmall(file, limitBytes, limitName);
}
