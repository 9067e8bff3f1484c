/**
 * Sources: turns a user's input, or bytes, into an image whose layers can be loaded. If the kind is not given, as for a
 * bare path or standard input, it is recognised from the content.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { InputError, throwIfAborted } from "../errors.ts";
import { statIfThere } from "../io/paths.ts";
import { missingInput } from "../io/random_reader.ts";
import { type BytesSource, byteStream } from "../io/streams.ts";
import { payloadStream, readPayload } from "../model/node.ts";
import type { TarEntry } from "../tar/entry.ts";
import type { WarnCallback } from "../tar/pax.ts";
import { checkIdMaps, hasIdMaps } from "../tree/owners.ts";
import { withAdditions } from "./additions.ts";
import { Archive, openArchive } from "./archive.ts";
import { openStoredImage } from "./containers_storage.ts";
import { archiveOpener, openDockerArchive } from "./docker_archive.ts";
import { openExt4Source } from "./ext4_image.ts";
import { isImageContainer } from "./image_file.ts";
import { displayText } from "./json.ts";
import { loadAlone, loadedLayer, loadLayers, reportWarnings } from "./layers/load_layers.ts";
import {
  isDirTransport,
  LAYOUT_MARKER,
  openDirTransport,
  openOciArchive,
  openOciDirectory,
} from "./layout.ts";
import { warnOfUnknownPlatform } from "./manifest.ts";
import { wantedPlatform } from "./platform.ts";
import { openRootfsDirectory } from "./rootfs.ts";
import {
  contentFault,
  inflatedHead,
  isCompressed,
  isExt4,
  isTarHeader,
  isZeroLed,
  openSourceFile,
  recogniseContent,
  type SourceFile,
  spoolStream,
} from "./source_file.ts";
import {
  likelySource,
  parseSourceName,
  type ReferencedName,
  type SourceName,
} from "./source_name.ts";
import { loadedTree, openTarFile } from "./tree_image.ts";
import {
  type LoadedLayer,
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
  SourceLimits,
  SourceOptions,
  StoredBytes,
} from "./types.ts";
export { DEFAULT_SOURCE_LIMITS, resolveOptions } from "./types.ts";
export { closeLayers, loadLayers } from "./layers/load_layers.ts";

/**
 * Opens an image: its manifest and config are read and checked, its layers only located.
 *
 * @param source as the user wrote it: `oci:DIR[:REF]`, `tar:FILE`, ...; or the bytes of an archive, a tar or an ext4
 * image, in memory, in a stream or behind a reader, which are copied to a temporary file
 * @throws {UsageError} if the source's name is invalid
 * @throws {InputError} if the image does not exist, is damaged or is unsupported
 * @throws {IoError} if it cannot be read, or its registry cannot be reached
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
    // Recognised in the same way as standard input.
    : await openAnyFile(
      "-",
      await spoolStream("the given bytes", byteStream(source), options),
      options,
    );
  const opened = await withAdditions(bare, options);
  const image = hasIdMaps(options) ? { ...opened, idMaps: options } : opened;
  return Object.assign(image, { [Symbol.dispose]: () => image.close() });
}

/** Opens an image without its additions. */
async function openBare(source: string, options: ResolvedOptions): Promise<OpenedImage> {
  const wanted = wantedPlatform(options);
  const name = parseSourceName(source, existsSync);
  const image = await open(source, name, options);
  // The caller could not know the kind of a recognised source, so a platform is allowed even for a tree.
  const isRecognised = name.kind === "path" || name.kind === "stdin";
  const isTree = ["tar", "rootfs", "ext4"].includes(image.kind);
  if (wanted === undefined || wanted === "any" || !isRecognised || !isTree) return image;
  try {
    warnOfUnknownPlatform(displayText(source), wanted, options.warnings);
    return image;
  } catch (error) {
    image.close();
    throw error;
  }
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
    case "docker-archive":
      return await openArchiveFile(source, name, options);
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
    case "ext4": {
      const file = await openSourceFile(name.path, "an ext4 image", options);
      return await openExt4Source(source, file, options, name.partition);
    }
    case "docker": {
      const { openRegistryImage } = await import("./registry/image.ts");
      return await openRegistryImage(source, name.reference, options);
    }
    case "docker-daemon": {
      const { openDaemonImage } = await import("./docker_daemon.ts");
      return await openDaemonImage(source, name.reference, options);
    }
    case "containers-storage":
      return await openStoredImage(source, name.reference, options);
  }
}

async function openArchiveFile(
  source: string,
  { kind, path, reference }: ReferencedName,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const opener = kind === "docker-archive" ? openDockerArchive : openOciArchive;
  const file = await openSourceFile(path, "an image archive", options);
  return await openArchive(file, options, (archive) => opener(source, archive, reference, options));
}

async function openPath(
  source: string,
  path: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const found = statIfThere(path);
  if (found?.isDirectory()) {
    const name = { kind: directoryKind(path), path, reference: undefined };
    return await open(source, name, options);
  }
  if (found === undefined) {
    const hint = likelySource(path, existsSync);
    throw missingInput(path, "an image, a tar or a directory", { hint });
  }
  const file = await openSourceFile(path, "an image, a tar or a directory", options);
  return await openAnyFile(source, file, options);
}

/** What a directory is if its kind is not given: a layout, skopeo's output, or else a tree. */
function directoryKind(directory: string): "oci" | "dir" | "rootfs" {
  if (statIfThere(join(directory, LAYOUT_MARKER))?.isFile()) return "oci";
  return isDirTransport(directory) ? "dir" : "rootfs";
}

/** Whether a directory whose kind is not given is treated as a tree. */
export function isTreeDirectory(directory: string): boolean {
  return directoryKind(directory) === "rootfs";
}

/** Whether a file contains a tar, compressed or not: an archive of images, or a tree. */
export async function holdsTar(path: string, options: ResolvedOptions): Promise<boolean> {
  const file = await openSourceFile(path, "an image", options);
  try {
    return isTarHeader(await inflatedHead(file));
  } finally {
    file.file.release();
  }
}

/** Opens a file by its content. Takes ownership of the file, even on failure. */
async function openAnyFile(
  source: string,
  file: SourceFile,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  let isTaken = false;
  try {
    const head = await inflatedHead(file);
    if (isExt4(head) || isImageContainer(head)) {
      isTaken = true;
      return await openExt4Source(source, file, options);
    }
    if (isCompressed(file)) return await openCompressed(source, file, head, options);
    checkIsTar(file.name, head);
    return await openIfArchive(source, file, options) ?? openTarFile(source, file);
  } catch (error) {
    if (!isTaken) file.file.release();
    throw error;
  }
}

function checkIsTar(name: string, head: Uint8Array): void {
  if (isTarHeader(head) || (isZeroLed(head) && !recogniseContent(head))) return;
  throw contentFault(name, head, "a tar or an image");
}

/** Inflates a file to recognise it. If it is a tree's tar, its only layer has then been loaded. */
async function openCompressed(
  source: string,
  file: SourceFile,
  head: Uint8Array,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const { name } = file;
  // A damaged file may have no readable start; reading all of it reports why.
  if (head.length > 0) checkIsTar(name, head);
  const tree = openTarFile(source, file);
  const layer = tree.layers[0]!;
  const read = await loadAlone(layer, options);
  const inflated: SourceFile = { name, file: read.file, sizeBytes: read.facts.uncompressedBytes };
  try {
    const image = await openIfArchive(source, inflated, options);
    if (image) {
      tree.close();
      return image;
    }
    // It is a tree, so its reader's warnings count.
    reportWarnings(read, options.warnings);
  } catch (error) {
    read.file.release();
    throw error;
  }
  const loaded = loadedLayer(layer, read);
  read.file.release();
  tree.close();
  return loadedTree({ source, kind: "tar", name, layer: loaded });
}

/** Opens the image in a file that is an archive of images; undefined if it is a tree's tar. */
async function openIfArchive(
  source: string,
  file: SourceFile,
  options: ResolvedOptions,
): Promise<OpenedImage | undefined> {
  const found: Parameters<WarnCallback>[] = [];
  const archive = new Archive(file, options, (...warning) => found.push(warning));
  const opener = archiveOpener(archive);
  // Loading a tree gives the same warnings.
  if (opener) found.forEach((warning) => options.warnings.add(...warning));
  return await opener?.(source, archive, undefined, options);
}

/** An open tar. */
export interface OpenedTar extends Disposable {
  /** In tar order. */
  readonly entries: readonly TarEntry[];
  /** A file's bytes, with zeros for holes; empty for anything that is not a file. The tar must stay open meanwhile. */
  stream(entry: TarEntry): ReadableStream<Uint8Array<ArrayBuffer>>;
  /** The same all at once, for small files. */
  bytes(entry: TarEntry): Uint8Array<ArrayBuffer>;
  /** Closes everything it holds open. */
  close(): void;
}

/**
 * Opens a tar, plain or compressed with gzip, zstd or xz: a file, memory, or a stream. It is read once, and kept in a
 * temporary file unless it is a plain file.
 *
 * @throws {InputError} if it is not a tar, or is damaged
 * @throws {IoError} if it cannot be read, or the temporary file cannot be written
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openTar } from "@blessfs/blessfs";
 *
 * using tar = await openTar("fixtures/tar/gnu-v7.tar");
 * const file = tar.entries.find(({ path }) => path === "simple/dir/file")!;
 * assertEquals(await new Response(tar.stream(file)).text(), "a file in a directory\n");
 * ```
 */
export async function openTar(
  source: BytesSource,
  options: SourceOptions = {},
): Promise<OpenedTar> {
  const { entries, store } = await loadTar(source, options);
  const payloadOf = ({ payload }: TarEntry) => ({ ...NOTHING, ...payload, store });
  return {
    entries,
    stream: (entry) => payloadStream(payloadOf(entry)),
    bytes(entry) {
      const payload = payloadOf(entry);
      const bytes = new Uint8Array(payload.sizeBytes);
      readPayload(payload, bytes, 0);
      return bytes;
    },
    close: () => store.close(),
    [Symbol.dispose]: () => store.close(),
  };
}

/** Its only layer. Node 22 does not support `using`. */
async function loadTar(source: BytesSource, options: SourceOptions): Promise<LoadedLayer> {
  const image = await openImage(typeof source === "string" ? `tar:${source}` : source, options);
  try {
    if (image.kind !== "tar") {
      throw new InputError("the given bytes", `are ${image.kind}: wanted a tar`, {
        code: "wrongKind",
      });
    }
    const [layer] = await loadLayers(image, options);
    return layer!;
  } finally {
    image.close();
  }
}

const NOTHING = { sizeBytes: 0, segments: [], dataRuns: [], contentHash: 0 };
