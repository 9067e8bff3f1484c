/**
 * Which image of several is meant: by its name in a layout's index.json, and by its platform in an index.
 *
 * @module
 */
import { InputError, limitError, UsageError } from "../errors.ts";
import { type BlobStore, readDocument } from "./blobs.ts";
import {
  type Descriptor,
  documentKind,
  isImageConfigType,
  readConfig,
  readIndex,
  readManifest,
} from "./documents.ts";
import { displayText } from "./json.ts";
import type { SourceLimits } from "./limits.ts";
import { choosePlatform, formatPlatform, hostPlatform, type Platform } from "./platform.ts";
import { sameReference } from "./reference.ts";

const REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name";
/** containerd and docker write the whole name here, and only the tag above. */
const FULL_NAME_ANNOTATION = "io.containerd.image.name";

/** No entry has the name that was asked for. */
export class UnknownReferenceError extends InputError {}

/**
 * The entries that a reference names: by its name (in full or as docker would complete it), by `@DIGEST`, or by `@N`,
 * counted from 0. Without a reference, all of them when they are one image (for several platforms, perhaps).
 *
 * @param what the layout's name in errors
 * @throws {InputError} when there is no such entry, or when several could be meant
 */
export function chooseReference(
  entries: readonly Descriptor[],
  reference: string | undefined,
  what: string,
): readonly Descriptor[] {
  const images = entries.filter(mayBeImage);
  if (reference === undefined) return onlyImage(images, entries, what);
  if (reference.startsWith("@")) return byPosition(images, reference.slice(1), what);
  for (const annotation of [REFERENCE_ANNOTATION, FULL_NAME_ANNOTATION]) {
    const named = images.filter(({ annotations }) => annotations.get(annotation) === reference);
    if (named.length > 0) return named;
  }
  const meant = images.filter(({ annotations }) => {
    const name = annotations.get(FULL_NAME_ANNOTATION);
    return name !== undefined && sameReference(name, reference);
  });
  if (meant.length > 0) return meant;
  throw new UnknownReferenceError(what, `has no image named "${displayText(reference)}"`, {
    hint: images.length === 0 ? "the layout holds no image" : listHint(images),
  });
}

function onlyImage(
  images: readonly Descriptor[],
  entries: readonly Descriptor[],
  what: string,
): readonly Descriptor[] {
  // Nothing that may be an image: whoever chooses the manifest says why.
  if (images.length === 0) return entries;
  const names = new Set(images.map((image) => image.annotations.get(REFERENCE_ANNOTATION)));
  const digests = new Set(images.map((image) => image.digest));
  if (digests.size === 1) return images;
  const platforms = new Set(images.map((i) => i.platform && formatPlatform(i.platform)));
  const onePlatformEach = platforms.size === digests.size && !platforms.has(undefined);
  if (names.size === 1 && (onePlatformEach || !names.has(undefined))) return images;
  throw new InputError(what, `holds ${images.length} images, and none is named`, {
    hint: listHint(images),
  });
}

function byPosition(
  images: readonly Descriptor[],
  position: string,
  what: string,
): readonly Descriptor[] {
  if (position.includes(":")) {
    const image = images.find(({ digest }) => digest === position);
    if (image) return [image];
    throw new InputError(what, `has no image with the digest ${displayText(position)}`, {
      hint: listHint(images),
    });
  }
  if (!/^[0-9]{1,9}$/.test(position)) {
    throw new UsageError(`reference "@${displayText(position)}"`, "is neither @N nor @DIGEST");
  }
  const image = images[Number(position)];
  if (image) return [image];
  throw new InputError(what, `has no image number ${position}: it holds ${images.length}`, {
    hint: listHint(images),
  });
}

/** At most this many are listed. */
const LISTED_IMAGES = 20;

function listHint(images: readonly Descriptor[]): string {
  const shown = images.slice(0, LISTED_IMAGES).map(({ annotations, platform }, i) => {
    const name = annotations.get(REFERENCE_ANNOTATION) ?? annotations.get(FULL_NAME_ANNOTATION);
    const suffix = platform ? ` (${formatPlatform(platform)})` : "";
    return (name === undefined ? `@${i}` : displayText(name)) + suffix;
  });
  const more = images.length - shown.length;
  return `name one of: ${shown.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

/** What is looked for, and how far. */
export interface ChoiceRequest {
  /** Undefined when nobody asked: then this machine's, or the only one there is. */
  readonly platform: Platform | undefined;
  readonly limits: SourceLimits;
}

interface Candidate {
  readonly descriptor: Descriptor;
  readonly platform: Platform | undefined;
}

const ATTESTATION_ANNOTATION = "vnd.docker.reference.type";

/** Whether a descriptor of an index may point at an image, or at an index of images. */
export function mayBeImage(descriptor: Descriptor): boolean {
  const kind = documentKind(descriptor.mediaType);
  if (kind !== "index" && kind !== "manifest") return false;
  if (descriptor.annotations.get(ATTESTATION_ANNOTATION) === "attestation-manifest") return false;
  if (descriptor.platform?.os === "unknown") return false;
  const { artifactType } = descriptor;
  return artifactType === undefined || isImageConfigType(artifactType);
}

/**
 * Finds the manifest for the wanted platform.
 *
 * @param descriptors what the choice is among: manifests and indexes
 * @param what the place that they were found in, for errors
 * @throws {InputError} when there is none, naming what there is
 */
export async function chooseManifest(
  store: BlobStore,
  descriptors: readonly Descriptor[],
  what: string,
  request: ChoiceRequest,
): Promise<Descriptor> {
  const manifests = await expandIndexes(store, descriptors, what, request.limits);
  if (manifests.length === 0) throw noImage(descriptors, what);
  if (manifests.length === 1) return manifests[0]!;
  const candidates: Candidate[] = [];
  for (const descriptor of manifests) {
    const platform = descriptor.platform ??
      await platformByConfig(store, descriptor, request.limits);
    // What has no platform even in its config is an artifact, or cannot be chosen by one.
    if (platform) candidates.push({ descriptor, platform });
  }
  const wanted = request.platform ?? hostPlatform();
  const chosen = choosePlatform(wanted, candidates, (candidate) => candidate.platform);
  if (chosen) return chosen.descriptor;
  const found = candidates.map(({ platform }) => formatPlatform(platform!));
  throw new InputError(
    what,
    `has no image for ${formatPlatform(wanted)}: found ${[...new Set(found)].join(", ") || "none"}`,
    found.length > 0 ? { remedies: [{ option: "platform", change: "set", value: found[0]! }] } : {},
  );
}

/** Every manifest, in order; what an index holds takes the index's place. */
async function expandIndexes(
  store: BlobStore,
  descriptors: readonly Descriptor[],
  what: string,
  limits: SourceLimits,
): Promise<Descriptor[]> {
  const manifests: Descriptor[] = [];
  const seen = new Set<string>();
  const pending = descriptors.map((descriptor) => ({ descriptor, depth: 0 })).reverse();
  let entryCount = 0;
  for (let item = pending.pop(); item; item = pending.pop()) {
    const { descriptor, depth } = item;
    if (++entryCount > limits.indexEntries) {
      throw limitError(what, `has more than ${limits.indexEntries} entries in its indexes`, {
        name: "indexEntries",
        expected: limits.indexEntries,
      });
    }
    if (!mayBeImage(descriptor) || seen.has(descriptor.digest)) continue;
    seen.add(descriptor.digest);
    if (documentKind(descriptor.mediaType) === "manifest") {
      manifests.push(descriptor);
      continue;
    }
    const name = `${store.name}: index ${descriptor.digest}`;
    if (depth >= limits.indexDepth) {
      throw limitError(name, `is nested more than ${limits.indexDepth} indexes deep`, {
        name: "indexDepth",
        expected: limits.indexDepth,
      });
    }
    const bytes = await readDocument(store, descriptor, name, limits, "manifestBytes");
    const entries = readIndex(bytes, name, descriptor.mediaType);
    for (let i = entries.length - 1; i >= 0; i--) {
      pending.push({ descriptor: entries[i]!, depth: depth + 1 });
    }
  }
  return manifests;
}

/** The platform that a manifest's config states; undefined when its config is not that of an image. */
async function platformByConfig(
  store: BlobStore,
  descriptor: Descriptor,
  limits: SourceLimits,
): Promise<Platform | undefined> {
  const name = `${store.name}: manifest ${descriptor.digest}`;
  const bytes = await readDocument(store, descriptor, name, limits, "manifestBytes");
  let config: Descriptor;
  try {
    config = readManifest(bytes, name, descriptor.mediaType).config;
  } catch (error) {
    // A signature or another artifact beside the images; it is no fault that it is there.
    if (error instanceof InputError) return undefined;
    throw error;
  }
  const configName = `${store.name}: config ${config.digest}`;
  const json = await readDocument(store, config, configName, limits, "configBytes");
  return readConfig(json, configName).platform;
}

function noImage(descriptors: readonly Descriptor[], what: string): InputError {
  if (descriptors.some(({ mediaType }) => documentKind(mediaType) === "schema1")) {
    return new InputError(what, "holds a manifest of schema version 1, which is not supported");
  }
  return new InputError(what, "holds no container image");
}
