/**
 * What a source is, without reading its layers.
 *
 * @module
 */
import { type StatedPlatform, statedPlatform } from "./config.ts";
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
 * import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { NO_PROGRESS } from "../progress.ts";
 * import { Warnings } from "../warnings.ts";
 * import { inspectSource } from "./inspect.ts";
 * const directory = mkdtempSync(join(tmpdir(), "inspect-"));
 * const tar = join(directory, "empty.tar");
 * writeFileSync(tar, new Uint8Array(1024));
 * const options = { progress: NO_PROGRESS, warnings: new Warnings() };
 * const { kind, sizeBytes } = await inspectSource(`tar:${tar}`, options);
 * rmSync(directory, { recursive: true });
 * assertEquals([kind, sizeBytes], ["tar", 1024]);
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
