/**
 * Sources: from what a user writes to an image whose layers can be loaded.
 *
 * @module
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { throwIfAborted } from "../errors.ts";
import { choiceRequest } from "./choose.ts";
import { withAdditions } from "./additions.ts";
import { openArchive } from "./archive.ts";
import { openStoredImage } from "./containers_storage.ts";
import { openDirTransport } from "./directory_transport.ts";
import { openDockerArchive } from "./docker_archive.ts";
import { openDaemonImage } from "./docker_daemon.ts";
import { openExt4Source } from "./ext4_image.ts";
import { displayText } from "./json.ts";
import { openOciArchive, openOciDirectory } from "./layout.ts";
import { warnOfUnknownPlatform } from "./manifest.ts";
import { openAnyDirectory, openAnyFile } from "./recognise.ts";
import { openRegistryImage } from "./registry/image.ts";
import { openRootfsDirectory } from "./rootfs.ts";
import { openSourceFile, spoolStream } from "./source_file.ts";
import { statIfThere } from "../io/paths.ts";
import { type BytesSource, byteStream } from "../io/streams.ts";
import { missingInput } from "../io/random_reader.ts";
import {
  likelySource,
  parseSourceName,
  type ReferencedName,
  type SourceName,
} from "./source_name.ts";
import { checkIdMaps, hasIdMaps } from "../tree/owners.ts";
import { openTarFile } from "./tree_image.ts";
import {
  type OpenedImage,
  type ResolvedOptions,
  resolveOptions,
  type SourceOptions,
} from "./types.ts";

export type {
  Addition,
  AdditionsReport,
  LayerSource,
  LoadedLayer,
  OpenedImage,
  ResolvedOptions,
  SourceKind,
  SourceOptions,
  StoredBytes,
} from "./types.ts";
export type { SourceLimits } from "./limits.ts";
export { DEFAULT_SOURCE_LIMITS } from "./limits.ts";
export { resolveOptions } from "./types.ts";
export { closeLayers, loadLayers } from "./layers/load_layers.ts";

/**
 * Opens an image: its manifest and config are read and checked, its layers are only located.
 *
 * @param source as the user wrote it: `oci:DIR[:REF]`, `tar:FILE`, ...; or the bytes of an archive, a tar or an ext4 image, in
 * memory, in a stream or behind a reader, which are copied into a temporary file
 * @throws {UsageError} when the source's name is invalid
 * @throws {InputError} when there is no such image, or it is damaged or unsupported
 * @throws {IoError} when it cannot be read, or its registry cannot be asked
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadLayers, openImage } from "@blessfs/blessfs";
 * const emptyTar = new Uint8Array(1024);
 * using image = await openImage(new Blob([emptyTar]).stream());
 * using layers = await loadLayers(image);
 * assertEquals(layers.map((layer) => layer.entries), [[]]);
 * ```
 */
export async function openImage(
  source: BytesSource,
  given: SourceOptions = {},
): Promise<OpenedImage & Disposable> {
  const options = resolveOptions(given);
  throwIfAborted(options.signal);
  checkIdMaps(options);
  const bare = typeof source === "string"
    ? await openBare(source, options)
    : await openBytes(source, options);
  const opened = await withAdditions(bare, options);
  const image = hasIdMaps(options) ? { ...opened, idMaps: options } : opened;
  return Object.assign(image, { [Symbol.dispose]: () => image.close() });
}

/** Opens what is not named but given: it is recognised as what comes from standard input. */
async function openBytes(
  source: Exclude<BytesSource, string>,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const file = await spoolStream("the given bytes", byteStream(source), options);
  return await openAnyFile("-", file, options);
}

/** Opens an image without what is put on top of it. */
async function openBare(source: string, options: ResolvedOptions): Promise<OpenedImage> {
  const { platform: wanted } = choiceRequest(options);
  const name = parseSourceName(source, existsSync);
  const image = await open(source, name, options);
  // Who names a tree as one knows that it has no platform; of a path, nobody could know before it was opened.
  const isRecognised = name.kind === "path" || name.kind === "stdin";
  if (wanted === undefined || wanted === "any" || !isRecognised || !isTree(image)) return image;
  try {
    warnOfUnknownPlatform(displayText(source), wanted, options.warnings);
    return image;
  } catch (error) {
    image.close();
    throw error;
  }
}

function isTree({ kind }: OpenedImage): boolean {
  return kind === "tar" || kind === "rootfs" || kind === "ext4";
}

async function open(
  source: string,
  name: SourceName,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  switch (name.kind) {
    case "oci":
      return await openOciDirectory(source, name.path, name.reference, options);
    case "oci-archive":
      return await openArchiveFile(source, name, options, openOciArchive);
    case "docker-archive":
      return await openArchiveFile(source, name, options, openDockerArchive);
    case "dir":
      return await openDirTransport(source, name.path, options);
    case "tar":
      return openTarFile(source, await openSourceFile(name.path, "a tar", options));
    case "rootfs":
      return openRootfsDirectory(source, name.path, options);
    case "path":
      return await openPath(source, name.path, options);
    case "stdin": {
      const file = await spoolStream("standard input", options.stdin ?? process.stdin, options);
      return await openAnyFile(source, file, options);
    }
    case "ext4":
      return await openExt4Source(
        source,
        await openSourceFile(name.path, "an ext4 image", options),
        options,
        name.partition,
      );
    case "docker":
      return await openRegistryImage(source, name.reference, options);
    case "docker-daemon":
      return await openDaemonImage(source, name.reference, options);
    case "containers-storage":
      return await openStoredImage(source, name.reference, options);
  }
}

async function openArchiveFile(
  source: string,
  name: ReferencedName,
  options: ResolvedOptions,
  opener: typeof openOciArchive,
): Promise<OpenedImage> {
  const file = await openSourceFile(name.path, "an image archive", options);
  const archive = await openArchive(file, options);
  try {
    return await opener(source, archive, name.reference, options);
  } catch (error) {
    archive.close();
    throw error;
  }
}

async function openPath(
  source: string,
  path: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const found = statIfThere(path);
  if (found?.isDirectory()) return await openAnyDirectory(source, path, options);
  if (found === undefined) {
    const hint = likelySource(path, existsSync);
    throw missingInput(path, "an image, a tar or a directory", hint === undefined ? {} : { hint });
  }
  const file = await openSourceFile(path, "an image, a tar or a directory", options);
  return await openAnyFile(source, file, options);
}
