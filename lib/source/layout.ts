/**
 * What an OCI image layout in a directory and one in an archive have in common: `oci-layout`, `index.json` and the way
 * from there to an image.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import type { BlobStore } from "./blob_store.ts";
import { type ChoiceRequest, chooseManifest } from "./choose_manifest.ts";
import { chooseReference } from "./choose_reference.ts";
import { readIndex } from "./documents.ts";
import { asString, jsonFault, parseJsonObject, required } from "./json.ts";
import { DEFAULT_SOURCE_LIMITS } from "./limits.ts";
import type { DocumentLimit } from "./limits.ts";
import { openManifest } from "./open_manifest.ts";
import { parsePlatform } from "./platform.ts";
import type { OpenedImage, SourceOptions } from "./types.ts";

/** Reads a small file of the layout; undefined when it is not there. */
export type LayoutFiles = (
  file: string,
  limitBytes: number,
  limitName?: DocumentLimit,
) => Uint8Array | undefined;

/** What a user asked for. */
export interface LayoutRequest {
  readonly origin: { readonly source: string; readonly kind: OpenedImage["kind"] };
  readonly options: SourceOptions;
}

/** The file that marks a layout. */
export const LAYOUT_MARKER = "oci-layout";
const MARKER_LIMIT_BYTES = 1 << 16;
const LAYOUT_VERSION = "1.0.0";

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
  if (!bytes) throw new InputError(indexName, "is missing: wanted an OCI image layout");
  const chosen = chooseReference(readIndex(bytes, indexName, undefined), reference, store.name);
  const descriptor = await chooseManifest(store, chosen, store.name, request);
  return await openManifest(store, descriptor, request, { ...origin, warnings: options.warnings });
}

/** The options as a choice among manifests needs them. */
export function choiceRequest(options: SourceOptions): ChoiceRequest {
  return {
    platform: options.platform === undefined ? undefined : parsePlatform(options.platform),
    limits: { ...DEFAULT_SOURCE_LIMITS, ...options.limits },
  };
}

function checkMarker(files: LayoutFiles, name: string): void {
  const bytes = files(LAYOUT_MARKER, MARKER_LIMIT_BYTES);
  if (!bytes) {
    throw new InputError(name, `is no OCI image layout: the file ${LAYOUT_MARKER} is missing`);
  }
  const what = `${name}: ${LAYOUT_MARKER}`;
  const object = parseJsonObject(bytes, what);
  const version = required(object, "imageLayoutVersion", { what, field: "" }, asString);
  if (version !== LAYOUT_VERSION) {
    throw jsonFault({ what, field: "imageLayoutVersion" }, version, `"${LAYOUT_VERSION}"`);
  }
}
