/**
 * Sources: from what a user writes to an image whose layers can be loaded.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { InputError, throwIfAborted } from "../errors.ts";
import { openOciDirectory } from "./oci_layout.ts";
import { parseSourceName, type SourceName } from "./source_name.ts";
import { openTarFile } from "./tar_file.ts";
import type { OpenedImage, SourceOptions } from "./types.ts";

export type {
  LayerSource,
  LoadedLayer,
  OpenedImage,
  SourceKind,
  SourceOptions,
  StoredBytes,
} from "./types.ts";
export type { SourceLimits } from "./limits.ts";
export { DEFAULT_SOURCE_LIMITS } from "./limits.ts";
export { closeLayers, loadLayers } from "./load_layers.ts";

/**
 * Opens an image: its manifest and config are read and checked, its layers are only located.
 *
 * @param source as the user wrote it: `oci:DIR[:REF]`, `tar:FILE`, ...
 * @throws {UsageError} when the source cannot be meant
 * @throws {InputError} when there is no such image, or it is damaged or unsupported
 * @throws {IoError} when it cannot be read
 */
export async function openImage(source: string, options: SourceOptions): Promise<OpenedImage> {
  throwIfAborted(options.signal);
  return await open(source, parseSourceName(source, existsSync), options);
}

async function open(
  source: string,
  name: SourceName,
  options: SourceOptions,
): Promise<OpenedImage> {
  switch (name.kind) {
    case "oci":
      return await openOciDirectory(source, name.path, name.reference, options);
    case "tar":
      return openTarFile(source, name.path);
    default:
      throw new InputError(source, "this kind of source cannot be opened");
  }
}
