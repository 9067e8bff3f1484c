/**
 * Bare paths and stdin: what a source is, told by its content.
 *
 * @module
 */
import { join } from "node:path";
import { statIfThere } from "../io/paths.ts";
import type { WarnCallback } from "../tar/pax.ts";
import { type Archive, scanned } from "./archive.ts";
import {
  contentFault,
  inflatedHead,
  isCompressed,
  isExt4,
  isTarHeader,
  isZeroLed,
  recogniseContent,
} from "./content.ts";
import { isDirTransport, openDirTransport } from "./directory_transport.ts";
import { DOCKER_MARKER, isDockerManifest, openDockerArchive } from "./docker_archive.ts";
import { openExt4Source } from "./ext4_image.ts";
import { isImageContainer } from "./image_file.ts";
import { loadAlone, loadedLayer, reportWarnings } from "./layers/load_layers.ts";
import { LAYOUT_MARKER, openOciArchive, openOciDirectory } from "./layout.ts";
import { DEFAULT_SOURCE_LIMITS } from "./limits.ts";
import { openRootfsDirectory } from "./rootfs.ts";
import { openSourceFile, type SourceFile } from "./source_file.ts";
import { loadedTree, openTarFile } from "./tree_image.ts";
import type { OpenedImage, ResolvedOptions } from "./types.ts";

/** Opens a directory as what is in it says: a layout, what skopeo wrote, or else a tree. */
export async function openAnyDirectory(
  source: string,
  directory: string,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  if (hasLayoutMarker(directory)) {
    return await openOciDirectory(source, directory, undefined, options);
  }
  if (isDirTransport(directory)) return await openDirTransport(source, directory, options);
  return openRootfsDirectory(source, directory, options);
}

/** Whether a directory, named without its kind, is taken for the tree that is in it. */
export function isTreeDirectory(directory: string): boolean {
  return !hasLayoutMarker(directory) && !isDirTransport(directory);
}

function hasLayoutMarker(directory: string): boolean {
  return statIfThere(join(directory, LAYOUT_MARKER))?.isFile() === true;
}

/** Whether a file holds a tar, compressed or not: an archive of images, or a tree. */
export async function holdsTar(path: string, options: ResolvedOptions): Promise<boolean> {
  const file = await openSourceFile(path, "an image", options);
  try {
    return isTarHeader(await inflatedHead(file));
  } finally {
    file.file.release();
  }
}

/** Opens a file as what is in it says. Takes over the file, also when that fails. */
export async function openAnyFile(
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
    const { archive, opener } = asArchive(file, options);
    if (!opener) return openTarFile(source, file);
    return await opener(source, archive, undefined, options);
  } catch (error) {
    if (!isTaken) file.file.release();
    throw error;
  }
}

/** Throws unless the bytes may be those of a tar. */
function checkIsTar(name: string, head: Uint8Array): void {
  if (isTarHeader(head) || (isZeroLed(head) && !recogniseContent(head))) return;
  throw contentFault(name, head, "a tar or an image");
}

/**
 * Inflates a file to see what it is. If it is a tar of a tree, that was all the work there is to its only layer.
 */
async function openCompressed(
  source: string,
  file: SourceFile,
  head: Uint8Array,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const { name } = file;
  // Of what is damaged there may be no head, and what reads it all says why.
  if (head.length > 0) checkIsTar(name, head);
  const tree = openTarFile(source, file);
  const layer = tree.layers[0]!;
  const read = await loadAlone(layer, options);
  const inflated: SourceFile = { name, file: read.file, sizeBytes: read.facts.uncompressedBytes };
  try {
    const { archive, opener } = asArchive(inflated, options);
    if (opener) {
      const image = await opener(source, archive, undefined, options);
      tree.close();
      return image;
    }
    // A tree after all: what its reader warned of counts.
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

/** The file as an archive, and how its image is opened if it holds one. */
function asArchive(
  file: SourceFile,
  options: ResolvedOptions,
): { readonly archive: Archive; readonly opener: typeof openOciArchive | undefined } {
  const told: Parameters<WarnCallback>[] = [];
  const archive = scanned(file, options, (...warning) => told.push(warning));
  const opener = archiveOpener(archive);
  // Of a tree, whoever loads it says the same.
  if (opener) told.forEach((warning) => options.warnings.add(...warning));
  return { archive, opener };
}

/** How an archive of images is opened; undefined when it holds none. */
function archiveOpener(archive: Archive): typeof openOciArchive | undefined {
  const { members } = archive;
  const isLayout = members.has(LAYOUT_MARKER) && members.has("index.json");
  if (members.has(DOCKER_MARKER) && hasDockerManifest(archive)) return openDockerArchive;
  return isLayout ? openOciArchive : undefined;
}

function hasDockerManifest(archive: Archive): boolean {
  const { manifestBytes } = DEFAULT_SOURCE_LIMITS;
  const member = archive.members.find(DOCKER_MARKER);
  if (!member || member.lengthBytes > manifestBytes) return false;
  const bytes = archive.readSmall(DOCKER_MARKER, manifestBytes);
  return bytes !== undefined && isDockerManifest(bytes, `${archive.name}: ${DOCKER_MARKER}`);
}
