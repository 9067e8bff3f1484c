/**
 * `docker-archive:FILE[:REF]`: the format of `docker save` and similar tools. The old form has a manifest.json that lists
 * the paths of the config and the layers; since Docker 25 there is also an OCI layout.
 *
 * @module
 */
import type * as v from "valibot";
import { InputError } from "../errors.ts";
import { digestOf } from "../bytes/digest.ts";
import type { Archive } from "./archive.ts";
import { digestFault, readConfig } from "./documents.ts";
import { displayText, fields, listOf, maybe, readJson, TEXT } from "./json.ts";
import { LAYOUT_MARKER, openOciArchive } from "./layout.ts";
import {
  checkLayerCount,
  checkPlatform,
  imageAt,
  layerName,
  listImages,
  MissingLayersError,
  noneNamed,
  severalNamed,
  UnknownReferenceError,
  unnamed,
} from "./manifest.ts";
import { sameReference } from "./source_name.ts";
import {
  documentLimit,
  type LayerSource,
  type OpenedImage,
  type ResolvedOptions,
  sourceLimits,
} from "./types.ts";

const DOCKER_MARKER = "manifest.json";

/** One image in manifest.json. If an image has no layers, the field is null. */
const SAVED_IMAGE = fields({
  Config: TEXT,
  RepoTags: maybe(listOf(TEXT)),
  Layers: maybe(listOf(TEXT)),
});
const SAVED_IMAGES = listOf(SAVED_IMAGE);
type SavedImage = v.InferOutput<typeof SAVED_IMAGE>;

/** Opens an image from a docker archive. The image closes the archive; if opening fails, the caller must. */
export async function openDockerArchive(
  source: string,
  archive: Archive,
  reference: string | undefined,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  if (holdsLayout(archive)) {
    try {
      return await openOciArchive(source, archive, reference, options, "docker-archive");
    } catch (error) {
      // Docker 25.0.0 wrote layouts whose manifests have no layers; and names may be only in manifest.json.
      const elsewhere = error instanceof MissingLayersError ||
        error instanceof UnknownReferenceError;
      if (!elsewhere || !archive.has(DOCKER_MARKER)) throw error;
    }
  }
  return openSavedImage(source, archive, reference, options);
}

/** The function that opens an archive of images; undefined if it contains none. */
export function archiveOpener(archive: Archive): typeof openDockerArchive | undefined {
  if (holdsSavedImages(archive)) return openDockerArchive;
  return holdsLayout(archive) ? openOciArchive : undefined;
}

function holdsLayout(archive: Archive): boolean {
  return archive.has(LAYOUT_MARKER) && archive.has("index.json");
}

/** Whether there is a docker `manifest.json`; other programs use that name, too. */
function holdsSavedImages(archive: Archive): boolean {
  const limit = documentLimit({}, "manifestBytes");
  if (!archive.has(DOCKER_MARKER)) return false;
  const member = archive.find(DOCKER_MARKER);
  if (!member || member.lengthBytes > limit.bytes) return false;
  try {
    return readJson(SAVED_IMAGES, archive.readSmall(DOCKER_MARKER, limit)!, "").length > 0;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

function openSavedImage(
  source: string,
  archive: Archive,
  reference: string | undefined,
  options: ResolvedOptions,
): OpenedImage {
  const what = `${archive.name}: ${DOCKER_MARKER}`;
  const bytes = archive.readSmall(DOCKER_MARKER, documentLimit(options, "manifestBytes"));
  if (!bytes) {
    const why = `is not a docker archive: the file ${DOCKER_MARKER} is missing`;
    throw new InputError(archive.name, why, { code: "wrongKind" });
  }
  const saved = chooseSaved(readJson(SAVED_IMAGES, bytes, what), reference, archive.name);
  const { Config: configPath, Layers: layerPaths = [] } = saved;
  const configName = `${archive.name}: ${displayText(configPath)}`;
  const configBytes = archive.readSmall(configPath, documentLimit(options, "configBytes"));
  if (!configBytes) {
    throw new InputError(configName, "is missing: wanted the image's config", {
      code: "missingPart",
    });
  }
  const configDigest = digestOf(configBytes);
  checkNamedAfterContent(configPath, configDigest, configName);
  const config = readConfig(configBytes, configName);
  checkLayerCount(layerPaths.length, config.diffIds.length, what, sourceLimits(options).layers);
  checkPlatform(configName, config.platform, undefined, options);
  return {
    source,
    kind: "docker-archive",
    manifestDigest: undefined,
    configDigest,
    config: config.json,
    configBytes,
    platform: config.platform,
    layers: savedLayers(archive, layerPaths, config.diffIds),
    close: archive.close,
  };
}

function savedLayers(
  archive: Archive,
  paths: readonly string[],
  diffIds: readonly string[],
): LayerSource[] {
  return paths.map((path, i) => {
    const stored = archive.stored(path);
    const what = `${archive.name}: ${displayText(path)}`;
    if (!stored) throw new InputError(what, "is missing: wanted a layer", { code: "missingPart" });
    const diffId = diffIds[i]!;
    const hex = hexOfBlobPath(path);
    return {
      name: layerName(i, paths.length, diffId),
      digest: hex === undefined ? undefined : `sha256:${hex}`,
      diffId,
      mediaType: undefined,
      sizeBytes: stored.lengthBytes,
      whiteouts: true,
      stored,
    };
  });
}

function chooseSaved(
  images: readonly SavedImage[],
  reference: string | undefined,
  what: string,
): SavedImage {
  const names = images.flatMap(({ RepoTags = [] }, i) =>
    RepoTags.length > 0 ? RepoTags : [`@${i}`]
  );
  const hint = images.length === 0 ? "the archive holds no image" : listImages(names);
  if (reference === undefined) {
    if (images.length === 1) return images[0]!;
    throw unnamed(what, images.length, hint);
  }
  if (reference.startsWith("@")) {
    return imageAt(images, reference, { what, hint, otherwise: "is not @N" });
  }
  const named = images.filter(({ RepoTags = [] }) =>
    RepoTags.some((tag) => sameReference(tag, reference))
  );
  const [image] = named;
  if (!image) throw noneNamed(what, reference, hint);
  if (named.every(({ Config }) => Config === image.Config)) return image;
  const numbers = named.map((image) => `@${images.indexOf(image)}`);
  throw severalNamed(what, reference, named.length, listImages(numbers));
}

/** A config's file name is the image's id, the digest of its bytes (CVE-2014-9358). */
function checkNamedAfterContent(path: string, digest: string, what: string): void {
  const hex = /^([0-9a-f]{64})\.json$/.exec(path)?.[1] ?? hexOfBlobPath(path);
  if (hex !== undefined && `sha256:${hex}` !== digest) {
    throw digestFault(what, digest, `sha256:${hex}`);
  }
}

function hexOfBlobPath(path: string): string | undefined {
  return /^(?:\.?\/)*blobs\/sha256\/([0-9a-f]{64})$/.exec(path)?.[1];
}
