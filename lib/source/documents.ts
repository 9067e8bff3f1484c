/**
 * Indexes, manifests and configs: parsed, and checked as far as one document can be by itself.
 * OCI image specification: image-index.md, manifest.md, config.md.
 *
 * @module
 */
import { digestOf, parseDigest } from "../io/digest.ts";
import { InputError } from "../errors.ts";
import { type Descriptor, readDescriptor } from "./descriptor.ts";
import {
  asArray,
  asObject,
  asString,
  eachOf,
  field,
  inside,
  jsonFault,
  type JsonObject,
  type JsonPlace,
  optional,
  parseJsonObject,
  required,
} from "./json.ts";
import {
  type DocumentKind,
  documentKind,
  isImageConfigType,
  OCI_INDEX_TYPE,
  OCI_MANIFEST_TYPE,
} from "./media_types.ts";
import { normalizePlatform, type Platform } from "./platform.ts";

/** What a manifest says. */
export interface ManifestDocument {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

/** What is read of a config. */
export interface ConfigDocument {
  /** The whole document. */
  readonly json: JsonObject;
  /** Digests of the uncompressed layers, bottom to top. */
  readonly diffIds: readonly string[];
  /** Undefined when the config does not state it. */
  readonly platform: Platform | undefined;
}

const REMAKE_HINT = "make the image again with a tool of this decade, for example skopeo copy";

/**
 * Reads an index. Entries of kinds that are not read here are left out, as the specification wants.
 *
 * @param mediaType what the descriptor said, if there was one
 */
export function readIndex(
  bytes: Uint8Array,
  what: string,
  mediaType: string | undefined,
): readonly Descriptor[] {
  const object = parseJsonObject(bytes, what);
  const place = { what, field: "" };
  checkDocumentType(object, place, "index", mediaType);
  for (const key of ["layers", "config", "fsLayers"]) {
    if (field(object, key) !== undefined) throw ambiguous(place, "an index", key);
  }
  const entries = required(object, "manifests", place, asArray);
  const at = inside(place, "manifests");
  return entries.flatMap((entry, i) => {
    const entryPlace = inside(at, i);
    const type = required(asObject(entry, entryPlace), "mediaType", entryPlace, asString);
    return documentKind(type) === "unknown" ? [] : [readDescriptor(entry, entryPlace)];
  });
}

/** Reads a manifest of schema version 2. */
export function readManifest(
  bytes: Uint8Array,
  what: string,
  mediaType: string | undefined,
): ManifestDocument {
  const object = parseJsonObject(bytes, what);
  const place = { what, field: "" };
  checkDocumentType(object, place, "manifest", mediaType);
  for (const key of ["manifests", "fsLayers"]) {
    if (field(object, key) !== undefined) throw ambiguous(place, "a manifest", key);
  }
  const config = required(object, "config", place, readDescriptor);
  if (!isImageConfigType(config.mediaType)) {
    throw new InputError(
      what,
      `its config is of type ${config.mediaType}: it is no container image`,
    );
  }
  return { config, layers: required(object, "layers", place, eachOf(readDescriptor)) };
}

/** Reads a config. */
export function readConfig(bytes: Uint8Array, what: string): ConfigDocument {
  const json = parseJsonObject(bytes, what);
  const place = { what, field: "" };
  const rootfs = required(json, "rootfs", place, asObject);
  const rootfsPlace = inside(place, "rootfs");
  const type = required(rootfs, "type", rootfsPlace, asString);
  if (type !== "layers") throw jsonFault(inside(rootfsPlace, "type"), type, `"layers"`);
  // A config without layers may say null here.
  const diffIds = optional(rootfs, "diff_ids", rootfsPlace, eachOf(asString)) ?? [];
  for (const diffId of diffIds) parseDigest(diffId, what);
  return { json, diffIds, platform: configPlatform(json, place) };
}

/**
 * Describes an index or manifest that comes without a descriptor, such as the root of `dir:`. The type is what the
 * document says, or what it looks like.
 */
export function describeDocument(bytes: Uint8Array, what: string): Descriptor {
  const object = parseJsonObject(bytes, what);
  const stated = optional(object, "mediaType", { what, field: "" }, asString);
  const looksLike = field(object, "manifests") === undefined ? OCI_MANIFEST_TYPE : OCI_INDEX_TYPE;
  return {
    mediaType: stated || looksLike,
    digest: digestOf(bytes),
    sizeBytes: bytes.length,
    data: bytes,
    urls: [],
    annotations: new Map(),
    platform: undefined,
    artifactType: undefined,
  };
}

function configPlatform(json: JsonObject, place: JsonPlace): Platform | undefined {
  const os = optional(json, "os", place, asString);
  const architecture = optional(json, "architecture", place, asString);
  const variant = optional(json, "variant", place, asString);
  if (!os || !architecture) return undefined;
  return normalizePlatform({ os, architecture, ...(variant ? { variant } : {}) });
}

/** A document must be what its descriptor called it, or two tools will see two images in it (CVE-2021-41190). */
function checkDocumentType(
  object: JsonObject,
  place: JsonPlace,
  kind: DocumentKind,
  wanted: string | undefined,
): void {
  const version = field(object, "schemaVersion");
  if (version === 1) {
    throw new InputError(place.what, "is a manifest of schema version 1, which is not supported", {
      hint: REMAKE_HINT,
    });
  }
  if (version !== 2) throw jsonFault(inside(place, "schemaVersion"), version, "2");
  const stated = optional(object, "mediaType", place, asString);
  if (stated === undefined || stated === "") return;
  if (wanted !== undefined && stated !== wanted) {
    throw jsonFault(inside(place, "mediaType"), stated, `"${wanted}", as it was announced`);
  }
  if (documentKind(stated) !== kind) {
    throw jsonFault(
      inside(place, "mediaType"),
      stated,
      `the type of ${kind === "index" ? "an index" : "a manifest"}`,
    );
  }
}

function ambiguous(place: JsonPlace, kind: string, key: string): InputError {
  return new InputError(place.what, `is ${kind} and yet has "${key}": wanted only one of the two`);
}
