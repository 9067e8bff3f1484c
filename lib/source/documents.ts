/**
 * Indexes, manifests, configs and descriptors, each validated on its own, and the blobs that descriptors refer to. OCI
 * image specification: media-types.md, descriptor.md, image-index.md, manifest.md, config.md; the older types are Docker's.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import * as v from "valibot";
import { InputError } from "../errors.ts";
import { digestOf, parseDigest } from "../bytes/digest.ts";
import type { Compression } from "../io/inflate.ts";
import {
  checkJson,
  field,
  fields,
  inside,
  jsonFault,
  type JsonLocation,
  type JsonObject,
  listOf,
  maybe,
  parseJsonObject,
  SIZE_BYTES,
  TEXT,
} from "./json.ts";
import { normalizePlatform, type Platform } from "./platform.ts";
import { checkDocumentSize } from "./source_file.ts";
import type { SourceLimits, StoredBytes } from "./types.ts";

type DocumentKind = "index" | "manifest" | "schema1" | "unknown";

const OCI = "application/vnd.oci.image.";
const DOCKER = "application/vnd.docker.";

export const OCI_INDEX_TYPE = `${OCI}index.v1+json`;
export const OCI_MANIFEST_TYPE = `${OCI}manifest.v1+json`;
export const OCI_CONFIG_TYPE = `${OCI}config.v1+json`;
/** An uncompressed layer; a `+gzip` or `+zstd` suffix states the compression. */
export const OCI_LAYER_TYPE = `${OCI}layer.v1.tar`;
/** Docker's form of an index, called a manifest list. */
const DOCKER_INDEX_TYPE = `${DOCKER}distribution.manifest.list.v2+json`;
export const DOCKER_MANIFEST_TYPE = `${DOCKER}distribution.manifest.v2+json`;
export const DOCKER_CONFIG_TYPE = `${DOCKER}container.image.v1+json`;

const DOCUMENT_KINDS: ReadonlyMap<string, DocumentKind> = new Map([
  [OCI_INDEX_TYPE, "index"],
  [DOCKER_INDEX_TYPE, "index"],
  [OCI_MANIFEST_TYPE, "manifest"],
  [DOCKER_MANIFEST_TYPE, "manifest"],
  [`${DOCKER}distribution.manifest.v1+json`, "schema1"],
  [`${DOCKER}distribution.manifest.v1+prettyjws`, "schema1"],
]);

/** The supported media types to request from a registry. */
export const ACCEPTED_DOCUMENT_TYPES: readonly string[] = [...DOCUMENT_KINDS.keys()]
  .filter((type) => DOCUMENT_KINDS.get(type) !== "schema1");

const LAYER_COMPRESSIONS: ReadonlyMap<string, Compression> = new Map([
  [OCI_LAYER_TYPE, "none"],
  [`${OCI_LAYER_TYPE}+gzip`, "gzip"],
  [`${OCI_LAYER_TYPE}+zstd`, "zstd"],
  [`${OCI}layer.nondistributable.v1.tar`, "none"],
  [`${OCI}layer.nondistributable.v1.tar+gzip`, "gzip"],
  [`${OCI}layer.nondistributable.v1.tar+zstd`, "zstd"],
  [`${DOCKER}image.rootfs.diff.tar`, "none"],
  [`${DOCKER}image.rootfs.diff.tar.gzip`, "gzip"],
  [`${DOCKER}image.rootfs.diff.tar.zstd`, "zstd"],
  [`${DOCKER}image.rootfs.foreign.diff.tar`, "none"],
  [`${DOCKER}image.rootfs.foreign.diff.tar.gzip`, "gzip"],
]);

export function documentKind(mediaType = ""): DocumentKind {
  return DOCUMENT_KINDS.get(mediaType) ?? "unknown";
}

export function isImageConfigType(mediaType: string): boolean {
  return mediaType === OCI_CONFIG_TYPE || mediaType === DOCKER_CONFIG_TYPE;
}

/**
 * Config types in Docker manifests of old images: docker 1.10 used the type that the registry's storage returned
 * (distribution/distribution issue 1621). They have no other use there.
 */
const STORAGE_TYPES: ReadonlySet<string> = new Set([
  "application/octet-stream",
  "application/json",
  "text/html",
  "text/plain",
]);

/** The compression that a layer's media type states; undefined if the layer cannot be read. */
export function layerCompression(mediaType: string): Compression | undefined {
  return LAYER_COMPRESSIONS.get(mediaType);
}

/** Explains why a layer of this media type cannot be read. */
export function whyNoLayer(mediaType: string): string {
  if (/[+.]encrypted(?:$|\+)/.test(mediaType)) return "the layer is encrypted";
  if (mediaType.startsWith("application/vnd.in-toto")) {
    return "it is an attestation about an image, not a layer of one";
  }
  return "it is not a layer of a container image";
}

export interface Descriptor {
  readonly mediaType: string;
  /** Well-formed and of a known algorithm, hence safe in a path. */
  readonly digest: string;
  readonly sizeBytes: number;
  /** The blob itself, if it is embedded in the descriptor. */
  readonly data: Uint8Array | undefined;
  /** Other addresses of the blob; they are never followed. */
  readonly urls: readonly string[];
  readonly annotations: ReadonlyMap<string, string>;
  readonly platform: Platform | undefined;
  /** The type of an artifact; images have none, or that of their config. */
  readonly artifactType: string | undefined;
}

const MEDIA_TYPE =
  /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/;

/** Line breaks are ignored, as in Go's decoder. */
const BASE64 = v.pipe(
  TEXT,
  v.transform((text) => text.replace(/[\r\n]/g, "")),
  v.check((text) => text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text), "base64"),
  v.transform((text) => new Uint8Array(Buffer.from(text, "base64"))),
);

const VARIANT = { variant: maybe(TEXT), "os.version": maybe(TEXT) };

function platformOf(
  { "os.version": osVersion, ...stated }: Omit<Platform, "osVersion"> & {
    readonly "os.version": string | undefined;
  },
): Platform {
  return normalizePlatform({ ...stated, osVersion });
}

const PLATFORM = v.pipe(
  v.unknown(),
  // Some tools write an empty object, which means nothing.
  v.transform((value) => JSON.stringify(value) === "{}" ? undefined : value),
  maybe(fields({ os: TEXT, architecture: TEXT, ...VARIANT })),
  v.transform((stated) => stated && platformOf(stated)),
);

const DESCRIPTOR = v.pipe(
  fields({
    mediaType: v.pipe(TEXT, v.regex(MEDIA_TYPE, "a media type")),
    digest: TEXT,
    size: SIZE_BYTES,
    data: maybe(BASE64),
    urls: maybe(listOf(TEXT)),
    annotations: maybe(v.record(v.string(), TEXT, "an object")),
    platform: maybe(PLATFORM),
    artifactType: maybe(TEXT),
  }),
  v.transform((
    { size, urls = [], annotations = {}, artifactType, data, platform, ...rest },
  ): Descriptor => ({
    ...rest,
    sizeBytes: size,
    data,
    urls,
    annotations: new Map(Object.entries(annotations)),
    platform,
    artifactType: artifactType || undefined,
  })),
);

/** There are many ways to write an image without layers. */
const MANIFEST = fields({ config: DESCRIPTOR, layers: maybe(listOf(DESCRIPTOR)) });
const INDEX = fields({ manifests: listOf(v.unknown()) });
const INDEX_ENTRY = fields({ mediaType: TEXT });
const CONFIG = fields({
  rootfs: fields({
    type: maybe(v.literal("layers", `"layers"`)),
    diff_ids: maybe(listOf(TEXT)),
  }),
  os: maybe(TEXT),
  architecture: maybe(TEXT),
  ...VARIANT,
});
const STATED_TYPE = fields({ mediaType: maybe(TEXT) });

/** Where an image's blobs are stored: a layout, an archive, a registry. */
export interface BlobStore {
  /** The store's name in messages; safe to print. */
  readonly name: string;
  /** Reads a small blob whole; the caller verifies it. @throws {InputError} if it is missing or too big */
  read(descriptor: Descriptor): Promise<Uint8Array>;
  /** A layer's stored bytes, not yet read. @throws {InputError} if it is missing or known to have a different size */
  locate(descriptor: Descriptor): StoredBytes;
  /** Whether a blob exists, as far as can be determined without reading it. */
  has(descriptor: Descriptor): boolean;
  close(): void;
}

/** Reads a document, verifies it against its descriptor, and returns it with its name for errors. */
export async function readDocument(
  store: BlobStore,
  descriptor: Descriptor,
  kind: "index" | "manifest" | "config",
  limits: SourceLimits,
): Promise<{ readonly bytes: Uint8Array; readonly name: string }> {
  const name = `${store.name}: ${kind} ${descriptor.digest}`;
  const limit = kind === "config" ? "configBytes" : "manifestBytes";
  checkDocumentSize(name, descriptor.sizeBytes, { bytes: limits[limit], name: limit });
  const bytes = descriptor.data ?? await store.read(descriptor);
  checkSize(bytes.length, descriptor.sizeBytes, name);
  checkDigest(bytes, descriptor.digest, name);
  return { bytes, name };
}

/** A layer's stored bytes, even if they are embedded in its descriptor. */
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

export function missingBlob({ digest, urls }: Descriptor, where: string): InputError {
  const elsewhere = urls.length > 0
    ? "; its descriptor names other places for it, which are not asked"
    : "";
  return new InputError(where, `the blob ${digest} is missing${elsewhere}`, {
    code: "missingPart",
    data: { digest },
  });
}

export function checkSize(found: number, wanted: number, what: string): void {
  if (found === wanted) return;
  throw new InputError(what, `its size is ${found} bytes: wanted ${wanted}`, {
    data: { expected: wanted, actual: found },
  });
}

export function checkDigest(bytes: Uint8Array, wanted: string, what: string): void {
  const found = digestOf(bytes, parseDigest(wanted, what).algorithm);
  if (found !== wanted) throw digestFault(what, found, wanted);
}

export function digestFault(what: string, found: string, wanted: string): InputError {
  return new InputError(what, `its digest is ${found}: wanted ${wanted}`, {
    code: "digestMismatch",
    data: { expected: wanted, actual: found },
  });
}

/** Reads an index. Entries of unknown kinds are left out, as the specification requires. */
export function readIndex(
  bytes: Uint8Array,
  what: string,
  mediaType: string | undefined,
): readonly Descriptor[] {
  const location = { what, field: "" };
  const object = parseDocument(bytes, location, "index", mediaType);
  const { manifests } = checkJson(INDEX, object, location);
  return manifests.flatMap((entry, i) => {
    const at = inside(inside(location, "manifests"), i);
    const { mediaType } = checkJson(INDEX_ENTRY, entry, at);
    if (documentKind(mediaType) === "unknown") return [];
    const descriptor = checkJson(DESCRIPTOR, entry, at);
    parseDigest(descriptor.digest, what);
    return [descriptor];
  });
}

/** Reads a manifest of schema version 2. Anything unusual in it is returned as text. */
export function readManifest(
  bytes: Uint8Array,
  what: string,
  mediaType: string | undefined,
): {
  readonly json: JsonObject;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly oddity: string | undefined;
} {
  const location = { what, field: "" };
  const object = parseDocument(bytes, location, "manifest", mediaType);
  const { config, layers = [] } = checkJson(MANIFEST, object, location);
  for (const { digest } of [config, ...layers]) parseDigest(digest, what);
  const isDocker = (mediaType ?? field(object, "mediaType")) === DOCKER_MANIFEST_TYPE;
  const isUnusual = isDocker && STORAGE_TYPES.has(config.mediaType);
  const its = `its config is of type ${config.mediaType}`;
  if (!isImageConfigType(config.mediaType) && !isUnusual) {
    throw new InputError(what, `${its}: it is not a container image`, { code: "wrongKind" });
  }
  const oddity = isUnusual ? `${its}: taken for ${DOCKER_CONFIG_TYPE}` : undefined;
  return { json: object, config, layers, oddity };
}

/** Reads a config. Its diff ids are those of the uncompressed layers, bottom to top. */
export function readConfig(bytes: Uint8Array, what: string): {
  readonly json: JsonObject;
  readonly diffIds: readonly string[];
  readonly platform: Platform | undefined;
} {
  const json = parseJsonObject(bytes, what);
  const config = checkJson(CONFIG, json, { what, field: "" });
  const diffIds = config.rootfs.diff_ids ?? [];
  for (const diffId of diffIds) parseDigest(diffId, what);
  const { os, architecture } = config;
  const platform = os && architecture ? platformOf({ ...config, os, architecture }) : undefined;
  return { json, diffIds, platform };
}

/** Makes a descriptor for an index or manifest that has none. The type is as stated in the document, or inferred. */
export function describeDocument(bytes: Uint8Array, what: string): Descriptor {
  const object = parseJsonObject(bytes, what);
  const { mediaType } = checkJson(STATED_TYPE, object, { what, field: "" });
  const looksLike = field(object, "manifests") === undefined ? OCI_MANIFEST_TYPE : OCI_INDEX_TYPE;
  return {
    mediaType: mediaType || looksLike,
    digest: digestOf(bytes),
    sizeBytes: bytes.length,
    data: bytes,
    urls: [],
    annotations: new Map(),
    platform: undefined,
    artifactType: undefined,
  };
}

export const OLD_MANIFEST = "a manifest of schema version 1, which is not supported";
const FOREIGN_FIELDS = {
  index: ["layers", "config", "fsLayers"],
  manifest: ["manifests", "fsLayers"],
} as const;

/**
 * A document must have the type its descriptor states, or two tools would see two different images in it (CVE-2021-41190).
 */
function parseDocument(
  bytes: Uint8Array,
  location: JsonLocation,
  kind: "index" | "manifest",
  wanted: string | undefined,
): JsonObject {
  const { what } = location;
  const object = parseJsonObject(bytes, what);
  const version = field(object, "schemaVersion");
  if (version === 1) {
    throw new InputError(what, `is ${OLD_MANIFEST}`, {
      code: "unsupported",
      hint: "make the image again with a current tool, for example skopeo copy",
    });
  }
  if (version !== 2) throw jsonFault(inside(location, "schemaVersion"), version, "2");
  const { mediaType: stated } = checkJson(STATED_TYPE, object, location);
  const article = kind === "index" ? "an index" : "a manifest";
  if (stated && wanted !== undefined && stated !== wanted) {
    throw jsonFault(inside(location, "mediaType"), stated, `"${wanted}", as it was announced`);
  }
  if (stated && documentKind(stated) !== kind) {
    throw jsonFault(inside(location, "mediaType"), stated, `the type of ${article}`);
  }
  for (const key of FOREIGN_FIELDS[kind]) {
    if (field(object, key) === undefined) continue;
    throw new InputError(what, `is ${article} and yet has "${key}": wanted only one of the two`);
  }
  return object;
}
