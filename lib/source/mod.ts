/**
 * Sources: images, their layers, and their limits.
 *
 * @example Look at the layers of an image
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadLayers, openImage } from "@blessfs/blessfs/source";
 *
 * using image = await openImage("oci:fixtures/oci-tiny");
 * using layers = await loadLayers(image);
 * assertEquals(layers.map(({ diffId }) => diffId.slice(0, 7)), layers.map(() => "sha256:"));
 * ```
 *
 * @module
 */
export { openTar } from "./source.ts";
export type { OpenedTar } from "./source.ts";
export type { RegistryTiming } from "./registry/http.ts";
export { CONTAINER_FIELDS, containerConfig, inspectSource, statedPlatform } from "./inspect.ts";
export type {
  ContainerConfig,
  InspectedLayer,
  SourceInspection,
  StatedPlatform,
} from "./inspect.ts";
export { closeLayers, DEFAULT_SOURCE_LIMITS, loadLayers, openImage } from "./source.ts";
export type {
  Addition,
  AdditionsReport,
  LayerSource,
  LoadedLayer,
  OpenedImage,
  ResolvedOptions,
  SourceKind,
  SourceLimits,
  SourceOptions,
  StoredBytes,
} from "./source.ts";
export { createLayerCache } from "./layers/load_layers.ts";
export type { LayerCache } from "./types.ts";
export type { AddedReport, AddPath, AddTar, Exclude, RegistryOptions } from "./types.ts";
export type { IdMaps, IdRange } from "../tree/owners.ts";
export type {
  StoredFile,
  StoredInPlace,
  StoredLoaded,
  StoredOutput,
  StoredStream,
} from "./types.ts";
export type { AddedEntries } from "../tree/layer.ts";
export type { Platform } from "./platform.ts";
