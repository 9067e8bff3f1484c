/**
 * What a source is, without reading its layers; and what an image's config says of the container: the program to run, and
 * what is around it. OCI image specification, config.md, "Properties".
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { displayText, field, type JsonObject } from "./json.ts";
import { openImage } from "./source.ts";
import type { OpenedImage, SourceKind, SourceOptions } from "./types.ts";

/** A layer as the manifest and the config describe it. */
export interface InspectedLayer {
  /** Of the stored bytes; null where nothing states it. */
  readonly digest: string | null;
  /** Of the uncompressed tar; null where nothing states it. */
  readonly diffId: string | null;
  /** Null where there is no manifest. */
  readonly mediaType: string | null;
  /** Of the stored bytes; null if it is not known before they are read. */
  readonly sizeBytes: number | null;
}

/** What is known of a source before its layers are read. */
export interface SourceInspection extends StatedPlatform {
  /** As it was given. */
  readonly source: string;
  /** What kind of source it is. */
  readonly kind: SourceKind;
  /** `sha256:...`; null where there is no manifest. */
  readonly manifestDigest: string | null;
  /** `sha256:...`; null where there is no config. */
  readonly configDigest: string | null;
  /** The document; null where there is none. */
  readonly manifest: unknown;
  /** The document; null where there is none. */
  readonly config: unknown;
  /** Bottom to top. */
  readonly layers: readonly InspectedLayer[];
  /** What the layers take as they are stored; null if that of one is not known. */
  readonly sizeBytes: number | null;
}

/**
 * Looks at a source: its manifest, its config and its layers' sizes. No layer is read, except that of a compressed file whose
 * kind is not given, because only its content tells that.
 *
 * Throws what openImage() throws.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { inspectSource } from "@blessfs/blessfs";
 * const { kind, os, layers } = await inspectSource("oci:fixtures/oci-tiny", {});
 * assertEquals([kind, os, layers.length > 0], ["oci", "linux", true]);
 * ```
 */
export async function inspectSource(
  source: string,
  options: SourceOptions,
): Promise<SourceInspection> {
  const image = await openImage(source, options);
  try {
    return inspectionOf(image);
  } finally {
    image.close();
  }
}

function inspectionOf(image: OpenedImage): SourceInspection {
  const layers = image.layers.map(({ digest, diffId, mediaType, sizeBytes }) => ({
    digest: digest ?? null,
    diffId: diffId ?? null,
    mediaType: mediaType ?? null,
    sizeBytes: sizeBytes ?? null,
  }));
  const isKnown = layers.every(({ sizeBytes }) => sizeBytes !== null);
  return {
    source: image.source,
    kind: image.kind,
    manifestDigest: image.manifestDigest ?? null,
    configDigest: image.configDigest ?? null,
    ...statedPlatform(image.config),
    manifest: image.manifest ?? null,
    config: image.config ?? null,
    layers,
    sizeBytes: isKnown ? layers.reduce((sum, layer) => sum + layer.sizeBytes!, 0) : null,
  };
}

/** The fields of a container's config, as the image has them. */
export const CONTAINER_FIELDS = [
  "Entrypoint",
  "Cmd",
  "Env",
  "WorkingDir",
  "User",
  "ExposedPorts",
  "Volumes",
  "StopSignal",
  "Labels",
] as const;

/** What a container runs, and how: the values of the image, unchanged; null for what it does not have. */
export type ContainerConfig = Readonly<Record<typeof CONTAINER_FIELDS[number], unknown>>;

/**
 * The part of a config that a runtime needs; null for a source without a config.
 *
 * @param config the document
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { containerConfig } from "./inspect.ts";
 * const config = containerConfig({ config: { Cmd: ["sh"] } });
 * assertEquals([config?.Cmd, config?.Entrypoint], [["sh"], null]);
 * ```
 */
export function containerConfig(config: unknown): ContainerConfig | null {
  if (typeof config !== "object" || config === null) return null;
  const container = fieldOf(config, "config");
  const entries = CONTAINER_FIELDS.map((name) => [name, fieldOf(container, name) ?? null]);
  return Object.fromEntries(entries) as ContainerConfig;
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? field(value as JsonObject, key) : undefined;
}

/** What a config says of the platform, unchanged; null for what it does not say. */
export interface StatedPlatform {
  /** Such as `amd64`. */
  readonly architecture: string | null;
  /** Such as `linux`. */
  readonly os: string | null;
  /** Such as `v8`. */
  readonly variant: string | null;
}

/**
 * The platform as a config states it.
 *
 * @param config the document
 */
export function statedPlatform(config: unknown): StatedPlatform {
  const textOf = (key: string) => {
    const value = fieldOf(config, key);
    return typeof value === "string" && value !== "" ? value : null;
  };
  return {
    architecture: textOf("architecture"),
    os: textOf("os"),
    variant: textOf("variant"),
  };
}

/**
 * The config of an image as it is stored, byte for byte.
 *
 * @throws {InputError} for a source without one
 */
export function storedConfig({ source, configBytes }: OpenedImage): Uint8Array {
  if (configBytes !== undefined) return configBytes;
  const why = "has no config: only images have one, trees have none";
  throw new InputError(displayText(source), why, { code: "missingPart" });
}
