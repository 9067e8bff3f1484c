/**
 * Sources: images, their layers, and what they may ask for.
 *
 * @module
 */
export type { RegistryOptions } from "./registry/endpoint.ts";
export type { RegistryTiming } from "./registry/http.ts";
export { CONTAINER_FIELDS, containerConfig, statedPlatform } from "./config.ts";
export type { ContainerConfig, StatedPlatform } from "./config.ts";
export { inspectSource } from "./inspect.ts";
export type { InspectedLayer, SourceInspection } from "./inspect.ts";
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
export { createLayerCache } from "./layers/layer_cache.ts";
export type { LayerCache } from "./types.ts";
export type { AddedReport, AddPath, AddTar, Exclude } from "./types.ts";
export type { IdMaps, IdRange } from "../tree/owners.ts";
export type { StoredFile, StoredLoaded, StoredOutput, StoredStream } from "./types.ts";
export type { AddedEntries } from "../tree/layer.ts";
export type { Platform } from "./platform.ts";
