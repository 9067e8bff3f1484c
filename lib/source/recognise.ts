/**
 * Bare paths and stdin: what a source is, told by its content.
 *
 * @module
 */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSET_BYTES } from "../ext4/format/constants.ts";
import { checkHeaderSum, isZeroBlock, TAR_BLOCK_SIZE_BYTES } from "../tar/header.ts";
import { type Archive, isCompressed, scanned } from "./archive.ts";
import { isDirTransport, openDirTransport } from "./directory_transport.ts";
import { DOCKER_MARKER, isDockerManifest, openDockerArchive } from "./docker_archive.ts";
import { openExt4Source } from "./ext4_image.ts";
import { loadAlone, loadedLayer, reportWarnings } from "./layers/load_layers.ts";
import { LAYOUT_MARKER, openOciArchive, openOciDirectory } from "./layout.ts";
import { DEFAULT_SOURCE_LIMITS } from "./limits.ts";
import { openRootfsDirectory } from "./rootfs.ts";
import { readSmallPart, type SourceFile } from "./source_file.ts";
import { statIfThere } from "../io/paths.ts";
import { openTarFile, treeImage } from "./tree_image.ts";
import type { LoadedLayer, OpenedImage, SourceOptions } from "./types.ts";

/** Where s_magic lies in a superblock. */
const MAGIC_OFFSET_BYTES = SUPERBLOCK_OFFSET_BYTES + 0x38;

/** Opens a directory as what is in it says: a layout, what skopeo wrote, or else a tree. */
export async function openAnyDirectory(
  source: string,
  directory: string,
  options: SourceOptions,
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

/** Opens a file as what is in it says. Takes over the file, also when that fails. */
export async function openAnyFile(
  source: string,
  file: SourceFile,
  options: SourceOptions,
): Promise<OpenedImage> {
  let isTaken = false;
  try {
    isTaken = isExt4(file);
    if (isTaken) return await openExt4Source(source, file, options);
    if (isCompressed(file)) return await openCompressed(source, file, options);
    if (!startsLikeTar(file)) {
      throw new InputError(file.name, "is not recognised: wanted a tar or an image archive", {
        hint: "say what it is, such as tar:FILE or docker-archive:FILE",
      });
    }
    const archive = scanned(file, options);
    const opener = archiveOpener(archive);
    if (!opener) return openTarFile(source, file);
    return await opener(source, archive, undefined, options);
  } catch (error) {
    if (!isTaken) file.file.release();
    throw error;
  }
}

/**
 * Inflates a file to see what it is. If it is a tar of a tree, that was all the work there is to its only layer.
 */
async function openCompressed(
  source: string,
  file: SourceFile,
  options: SourceOptions,
): Promise<OpenedImage> {
  const { name } = file;
  const tree = openTarFile(source, file);
  const layer = tree.layers[0]!;
  const read = await loadAlone(layer, options);
  const inflated: SourceFile = { name, file: read.file, sizeBytes: read.facts.uncompressedBytes };
  try {
    const archive = scanned(inflated, options);
    const opener = archiveOpener(archive);
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
  return loadedTree(source, loaded);
}

/** An image of one layer that was loaded already. Unless somebody takes the layer, the image closes it. */
function loadedTree(source: string, layer: LoadedLayer): OpenedImage {
  let taken = false;
  const take = () => {
    taken = true;
    return layer;
  };
  return treeImage({
    source,
    kind: "tar",
    name: layer.name,
    stored: { kind: "loaded", take },
    sizeBytes: layer.sizeBytes,
    close: () => {
      if (!taken) layer.store.close();
    },
  });
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

function startsLikeTar(file: SourceFile): boolean {
  if (file.sizeBytes < TAR_BLOCK_SIZE_BYTES) return false;
  const block = readSmallPart(file, 0, TAR_BLOCK_SIZE_BYTES, TAR_BLOCK_SIZE_BYTES);
  if (isZeroBlock(block, 0)) return true;
  try {
    checkHeaderSum(block, 0, { tarName: file.name, headerOffset: 0, path: "" });
    return true;
  } catch {
    return false;
  }
}

function isExt4(file: SourceFile): boolean {
  if (file.sizeBytes < MAGIC_OFFSET_BYTES + 2) return false;
  const magic = readSmallPart(file, MAGIC_OFFSET_BYTES, 2, 2);
  if (magic[0]! + magic[1]! * 256 !== SUPERBLOCK_MAGIC) return false;
  // Those two bytes may stand in a tar, too; but in front of a superblock is nothing like a header.
  const block = readSmallPart(file, 0, TAR_BLOCK_SIZE_BYTES, TAR_BLOCK_SIZE_BYTES);
  return isZeroBlock(block, 0) || !startsLikeTar(file);
}
