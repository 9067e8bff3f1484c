/**
 * Describes a source without reading its layers; and extracts what an image's config says about the container: the program
 * to run and its environment. OCI image specification, config.md, "Properties".
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { displayText, field, type JsonObject } from "./json.ts";
import { openImage } from "./source.ts";
import type { OpenedImage, SourceKind, SourceOptions } from "./types.ts";

/** A layer as described by the manifest and the config. */
export interface InspectedLayer {
  /** Digest of the stored bytes; null if not stated. */
  readonly digest: string | null;
  /** Digest of the uncompressed tar; null if not stated. */
  readonly diffId: string | null;
  /** Null if there is no manifest. */
  readonly mediaType: string | null;
  /** Size of the stored bytes; null if it is not known before reading them. */
  readonly sizeBytes: number | null;
}

/** The information available about a source before its layers are read. */
export interface SourceInspection extends StatedPlatform {
  /** As given. */
  readonly source: string;
  /** The kind of source. */
  readonly kind: SourceKind;
  /** `sha256:...`; null if there is no manifest. */
  readonly manifestDigest: string | null;
  /** `sha256:...`; null if there is no config. */
  readonly configDigest: string | null;
  /** The document; null if there is none. */
  readonly manifest: unknown;
  /** The document; null if there is none. */
  readonly config: unknown;
  /** Bottom to top. */
  readonly layers: readonly InspectedLayer[];
  /** The total stored size of the layers; null if the size of any is unknown. */
  readonly sizeBytes: number | null;
}

/**
 * Examines a source: its manifest, its config and its layers' sizes. No layer is read, except in a compressed file whose
 * kind is not given, because only its content reveals the kind.
 *
 * Throws the same errors as openImage().
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

/** The fields of a container's config, with the same names as in the image. */
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

/** What a container runs, and how: the image's values, unchanged; null for missing ones. */
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

/** The platform as a config states it, unchanged; null for missing values. */
export interface StatedPlatform {
  /** For example `amd64`. */
  readonly architecture: string | null;
  /** For example `linux`. */
  readonly os: string | null;
  /** For example `v8`. */
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
 * An image's config exactly as stored, byte for byte.
 *
 * @throws {InputError} if the source has none
 */
export function storedConfig({ source, configBytes }: OpenedImage): Uint8Array {
  if (configBytes !== undefined) return configBytes;
  const why = "has no config: only images have one, trees have none";
  throw new InputError(displayText(source), why, { code: "missingPart" });
}
