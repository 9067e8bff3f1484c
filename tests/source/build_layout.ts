/**
 * Builds small OCI image layouts for tests: right ones by default, wrong ones where a test asks for it.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as zlib from "node:zlib";
import { digestOf } from "../../lib/bytes/digest.ts";
import {
  OCI_CONFIG_TYPE,
  OCI_INDEX_TYPE,
  OCI_LAYER_TYPE,
  OCI_MANIFEST_TYPE,
} from "../../lib/source/documents.ts";

/** How layers are stored. */
export type LayerCompression = "none" | "gzip" | "zstd";

/** What a test says of one image; every default is right. */
export interface ImageSpec {
  /** Uncompressed tars, bottom to top. */
  readonly layers: readonly Uint8Array[];
  /** For all layers, or one each. Default gzip. */
  readonly compress?: LayerCompression | readonly LayerCompression[];
  /** Default linux/amd64. */
  readonly platform?: {
    readonly os: string;
    readonly architecture: string;
    readonly variant?: string;
  };
  /** More fields of the config, such as `config: { Env: [...] }`. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Changes the manifest before it is written. */
  readonly changeManifest?: (manifest: Manifest) => unknown;
  /** Changes the config before it is written. */
  readonly changeConfig?: (config: Config) => unknown;
  /** Changes a layer's stored bytes before their digest is taken. */
  readonly changeStored?: (stored: Uint8Array, index: number) => Uint8Array;
}

/** A descriptor as it stands in JSON. */
export interface JsonDescriptor {
  mediaType: string;
  digest: string;
  size: number;
  annotations?: Record<string, string>;
  platform?: unknown;
  [key: string]: unknown;
}

/** A manifest as it stands in JSON. */
export interface Manifest {
  schemaVersion: number;
  mediaType?: string;
  config: JsonDescriptor;
  layers: JsonDescriptor[];
  [key: string]: unknown;
}

/** A config as it stands in JSON. */
export interface Config {
  os: string;
  architecture: string;
  variant?: string;
  rootfs: { type: string; diff_ids: string[] };
  [key: string]: unknown;
}

/** Blobs by digest. */
export type Blobs = Map<string, Uint8Array>;

/** An image in blobs. */
export interface BuiltImage {
  readonly manifest: JsonDescriptor;
  readonly configDigest: string;
  readonly layerDigests: readonly string[];
  readonly diffIds: readonly string[];
}

/** One image in a layout: like {@link ImageSpec}, with its name in index.json. */
export interface LayoutSpec extends ImageSpec {
  /** Default `latest`; null for no name. */
  readonly ref?: string | null;
  /** Changes index.json before it is written. */
  readonly changeIndex?: (index: { schemaVersion: number; manifests: JsonDescriptor[] }) => unknown;
}

/** Writes a layout with one image and returns what is in it. */
export function writeOciLayout(directory: string, spec: LayoutSpec): BuiltImage {
  const blobs: Blobs = new Map();
  const image = buildImage(blobs, spec);
  const ref = spec.ref === undefined ? "latest" : spec.ref;
  const index = { schemaVersion: 2, manifests: [named(image.manifest, ref)] };
  writeLayoutFiles(directory, blobs, spec.changeIndex ? spec.changeIndex(index) : index);
  return image;
}

/** Writes `oci-layout`, `index.json` and the blobs. */
export function writeLayoutFiles(directory: string, blobs: Blobs, index: unknown): void {
  for (const [path, bytes] of layoutFiles(blobs, index)) {
    mkdirSync(join(directory, path, ".."), { recursive: true });
    writeFileSync(join(directory, path), bytes);
  }
}

/** The files of a layout by path, for a directory or an archive. */
export function layoutFiles(blobs: Blobs, index: unknown): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  for (const [digest, bytes] of blobs) files.set(`blobs/${digest.replace(":", "/")}`, bytes);
  files.set("index.json", jsonBytes(index));
  files.set("oci-layout", jsonBytes({ imageLayoutVersion: "1.0.0" }));
  return files;
}

/** Builds an image and adds its blobs. */
export function buildImage(blobs: Blobs, spec: ImageSpec): BuiltImage {
  const diffIds = spec.layers.map((layer) => digestOf(layer));
  const layers = spec.layers.map((layer, i) => {
    const kind = compressionOf(spec, i);
    const stored = compressLayer(layer, kind);
    const bytes = spec.changeStored ? spec.changeStored(stored, i) : stored;
    return addBlob(blobs, OCI_LAYER_TYPE + (kind === "none" ? "" : `+${kind}`), bytes);
  });
  const config: Config = {
    ...(spec.platform ?? { os: "linux", architecture: "amd64" }),
    ...(spec.config ?? {}),
    rootfs: { type: "layers", diff_ids: diffIds },
  };
  const configBlob = addJson(blobs, OCI_CONFIG_TYPE, spec.changeConfig?.(config) ?? config);
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST_TYPE,
    config: configBlob,
    layers,
  };
  return {
    manifest: addJson(blobs, OCI_MANIFEST_TYPE, spec.changeManifest?.(manifest) ?? manifest),
    configDigest: configBlob.digest,
    layerDigests: layers.map(({ digest }) => digest),
    diffIds,
  };
}

/** Adds an index over manifests. */
export function buildIndex(blobs: Blobs, manifests: readonly JsonDescriptor[]): JsonDescriptor {
  return addJson(blobs, OCI_INDEX_TYPE, { schemaVersion: 2, mediaType: OCI_INDEX_TYPE, manifests });
}

/** A descriptor with a reference name. */
export function named(descriptor: JsonDescriptor, ref: string | null): JsonDescriptor {
  if (ref === null) return descriptor;
  const annotations = { ...descriptor.annotations, "org.opencontainers.image.ref.name": ref };
  return { ...descriptor, annotations };
}

/** Adds a blob and describes it. */
export function addBlob(blobs: Blobs, mediaType: string, bytes: Uint8Array): JsonDescriptor {
  const digest = digestOf(bytes);
  blobs.set(digest, bytes);
  return { mediaType, digest, size: bytes.length };
}

/** Adds a JSON document and describes it. */
export function addJson(blobs: Blobs, mediaType: string, value: unknown): JsonDescriptor {
  return addBlob(blobs, mediaType, jsonBytes(value));
}

export function jsonBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** A tar as a layer stores it. */
export function compressLayer(tar: Uint8Array, kind: LayerCompression): Uint8Array {
  switch (kind) {
    case "none":
      return tar;
    case "gzip":
      return bytesOf(zlib.gzipSync(tar, { level: 6 }));
    case "zstd":
      // As zstd(1) does, and unlike the function's default.
      return bytesOf(
        zlib.zstdCompressSync(tar, { params: { [zlib.constants.ZSTD_c_checksumFlag]: 1 } }),
      );
  }
}

function compressionOf(spec: ImageSpec, index: number): LayerCompression {
  const { compress = "gzip" } = spec;
  return typeof compress === "string" ? compress : compress[index]!;
}

function bytesOf(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer);
}
