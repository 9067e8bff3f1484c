/**
 * The media types of images, and what they say. OCI image specification, media-types.md; the older ones are Docker's.
 *
 * @module
 */
import type { Compression } from "../io/inflate.ts";

/** What a manifest or index descriptor can point at. */
export type DocumentKind = "index" | "manifest" | "schema1" | "unknown";

const OCI = "application/vnd.oci.image.";
const DOCKER = "application/vnd.docker.";

/** An OCI index. */
export const OCI_INDEX_TYPE = `${OCI}index.v1+json`;
/** An OCI manifest. */
export const OCI_MANIFEST_TYPE = `${OCI}manifest.v1+json`;
/** The config of an image in an OCI manifest. */
export const OCI_CONFIG_TYPE = `${OCI}config.v1+json`;
/** An uncompressed layer; `+gzip` or `+zstd` behind it say more. */
export const OCI_LAYER_TYPE = `${OCI}layer.v1.tar`;
/** Docker's index, called a manifest list. */
export const DOCKER_INDEX_TYPE = `${DOCKER}distribution.manifest.list.v2+json`;
/** Docker's manifest of schema version 2. */
export const DOCKER_MANIFEST_TYPE = `${DOCKER}distribution.manifest.v2+json`;
/** The config of an image in Docker's manifest. */
export const DOCKER_CONFIG_TYPE = `${DOCKER}container.image.v1+json`;

const DOCUMENT_KINDS: ReadonlyMap<string, DocumentKind> = new Map([
  [OCI_INDEX_TYPE, "index"],
  [DOCKER_INDEX_TYPE, "index"],
  [OCI_MANIFEST_TYPE, "manifest"],
  [DOCKER_MANIFEST_TYPE, "manifest"],
  [`${DOCKER}distribution.manifest.v1+json`, "schema1"],
  [`${DOCKER}distribution.manifest.v1+prettyjws`, "schema1"],
]);

/** Media types that a registry must be asked for: those that are read here. */
export const ACCEPTED_DOCUMENT_TYPES: readonly string[] = [
  OCI_INDEX_TYPE,
  DOCKER_INDEX_TYPE,
  OCI_MANIFEST_TYPE,
  DOCKER_MANIFEST_TYPE,
];

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

/** What kind of document a descriptor of this media type points at. */
export function documentKind(mediaType: string): DocumentKind {
  return DOCUMENT_KINDS.get(mediaType) ?? "unknown";
}

/** Whether a config of this media type is that of a container image. */
export function isImageConfigType(mediaType: string): boolean {
  return mediaType === OCI_CONFIG_TYPE || mediaType === DOCKER_CONFIG_TYPE;
}

/** The compression that a layer's media type states; undefined when it is no layer that can be read here. */
export function layerCompression(mediaType: string): Compression | undefined {
  return LAYER_COMPRESSIONS.get(mediaType);
}

/** Why a layer of this media type cannot be read, in words. */
export function whyNoLayer(mediaType: string): string {
  if (/[+.]encrypted(?:$|\+)/.test(mediaType)) return "the layer is encrypted";
  if (mediaType.startsWith("application/vnd.in-toto")) {
    return "it is an attestation about an image, not a layer of one";
  }
  return "it is no layer of a container image";
}
