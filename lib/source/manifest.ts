/**
 * Turns the content of an index or a layout into one opened image. The image is chosen by name and platform; if several
 * remain, none is chosen and the error lists them. Then manifest and config are read and compared, and the layers are
 * located but not read.
 *
 * @module
 */
import { type ErrorCode, InputError, limitError, type Remedy, UsageError } from "../errors.ts";
import type { Warnings } from "../warnings.ts";
import {
  type BlobStore,
  type Descriptor,
  documentKind,
  isImageConfigType,
  layerCompression,
  locateLayer,
  missingBlob,
  OLD_MANIFEST,
  readConfig,
  readDocument,
  readIndex,
  readManifest,
  whyNoLayer,
} from "./documents.ts";
import { displayText } from "./json.ts";
import {
  bestPlatforms,
  formatPlatform,
  hostPlatform,
  type Platform,
  platformRank,
  type WantedPlatform,
  wantedPlatform,
} from "./platform.ts";
import { sameReference } from "./source_name.ts";
import {
  type LayerSource,
  type OpenedImage,
  type ResolvedOptions,
  type SourceLimits,
  sourceLimits,
} from "./types.ts";

const REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name";
/** containerd and docker put the full name here, and only the tag in the annotation above. */
const FULL_NAME_ANNOTATION = "io.containerd.image.name";
const ATTESTATION_ANNOTATION = "vnd.docker.reference.type";
/** podman uses it to mark the second of two forms of one image, which differ only in layer compression. */
const ZSTD_ANNOTATION = "io.github.containers.compression.zstd";
const LISTED_IMAGES = 20;

export class UnknownReferenceError extends InputError {}

/** Lists image names for a hint; safe to print. */
export function listImages(names: readonly string[]): string {
  const more = names.length - LISTED_IMAGES;
  const shown = names.slice(0, LISTED_IMAGES).map(displayText).join(", ");
  return `name one of: ${shown}${more > 0 ? ` and ${more} more` : ""}`;
}

/**
 * The entries that a reference names: by name (in full or as docker would complete it), or by `@N`, counted from 0. Without
 * a reference, all of them if they are one image (possibly for several platforms).
 */
export function chooseReference(
  entries: readonly Descriptor[],
  reference: string | undefined,
  what: string,
): readonly Descriptor[] {
  const images = entries.filter(mayBeImage);
  if (reference === undefined) return onlyImage(images, entries, what);
  const hint = listHint(images);
  if (reference.startsWith("@")) {
    return [imageAt(images, reference, { what, hint, otherwise: "is neither @N nor @DIGEST" })];
  }
  const fullName = ({ annotations }: Descriptor) => annotations.get(FULL_NAME_ANNOTATION);
  const tests: readonly ((image: Descriptor) => boolean)[] = [
    ({ annotations }) => annotations.get(REFERENCE_ANNOTATION) === reference,
    (image) => fullName(image) === reference,
    (image) => sameReference(fullName(image) ?? "", reference),
  ];
  for (const test of tests) {
    const named = images.filter(test);
    if (new Set(named.map(nameOf)).size > 1) {
      throw severalNamed(what, reference, named.length, listHint(named));
    }
    if (named.length > 0) return named;
  }
  throw noneNamed(what, reference, images.length === 0 ? "the layout holds no image" : hint);
}

/** The errors for references that name no image or several, and for images of which one should be named. */
export function noneNamed(what: string, reference: string, hint: string): InputError {
  const why = `has no image named "${displayText(reference)}"`;
  return new UnknownReferenceError(what, why, { code: "notFound", hint });
}

export function severalNamed(
  what: string,
  reference: string,
  count: number,
  hint: string,
): InputError {
  const why = `holds ${count} images named "${displayText(reference)}"`;
  return new InputError(what, why, { code: "ambiguous", hint });
}

export function unnamed(what: string, count: number, hint: string): InputError {
  const why = `holds ${count} images: wanted the name of one`;
  return new InputError(what, why, { code: "ambiguous", hint });
}

/** The image that `@N` names. @param otherwise what is wrong with a reference of another form */
export function imageAt<T>(
  images: readonly T[],
  reference: string,
  { what, hint, otherwise }: {
    readonly what: string;
    readonly hint: string;
    readonly otherwise: string;
  },
): T {
  const position = reference.slice(1);
  if (!/^[0-9]{1,9}$/.test(position)) {
    throw new UsageError(`reference "${displayText(reference)}"`, otherwise);
  }
  const image = images[Number(position)];
  if (image) return image;
  throw new InputError(what, `has no image number ${position}: it holds ${images.length}`, {
    code: "notFound",
    hint,
  });
}

/** Whether an index's descriptor may refer to an image, or to an index of images. */
function mayBeImage(descriptor: Descriptor): boolean {
  const kind = documentKind(descriptor.mediaType);
  if (kind !== "index" && kind !== "manifest") return false;
  if (descriptor.annotations.get(ATTESTATION_ANNOTATION) === "attestation-manifest") return false;
  if (descriptor.platform?.os === "unknown") return false;
  const { artifactType } = descriptor;
  return artifactType === undefined || isImageConfigType(artifactType);
}

function nameOf({ annotations }: Descriptor): string | undefined {
  return annotations.get(FULL_NAME_ANNOTATION) ?? annotations.get(REFERENCE_ANNOTATION);
}

function onlyImage(
  images: readonly Descriptor[],
  entries: readonly Descriptor[],
  what: string,
): readonly Descriptor[] {
  // If there are no images, choosing the manifest fails with an explanation.
  if (images.length === 0) return entries;
  const digests = new Set(images.map(({ digest }) => digest));
  if (digests.size === 1) return images;
  const names = new Set(images.map(nameOf));
  const platforms = new Set(images.map(({ platform }) => platform && formatPlatform(platform)));
  const onePlatformEach = platforms.size === digests.size && !platforms.has(undefined);
  if (names.size === 1 && (onePlatformEach || !names.has(undefined))) return images;
  throw unnamed(what, images.length, listHint(images));
}

function listHint(images: readonly Descriptor[]): string {
  return listImages(images.map((image, i) => {
    const suffix = image.platform ? ` (${formatPlatform(image.platform)})` : "";
    return (nameOf(image) ?? `@${i}`) + suffix;
  }));
}

/** The origin recorded in the opened image. */
export type ImageOrigin = Pick<OpenedImage, "source" | "kind">;

/** Opens the image in a layout that a reference names. */
export async function openReferenced(
  store: BlobStore,
  entries: readonly Descriptor[],
  reference: string | undefined,
  origin: ImageOrigin,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const chosen = reference?.startsWith("@") && reference.includes(":")
    ? [await byDigest(store, entries.filter(mayBeImage), reference.slice(1), options)]
    : chooseReference(entries, reference, store.name);
  return await openOneOf(store, chosen, store.name, origin, options);
}

async function byDigest(
  store: BlobStore,
  images: readonly Descriptor[],
  digest: string,
  options: ResolvedOptions,
): Promise<Descriptor> {
  const isMeant = (image: Descriptor) => image.digest === digest;
  const found = images.find(isMeant) ??
    (await expandIndexes(store, images, store.name, sourceLimits(options))).manifests.find(isMeant);
  if (found) return found;
  const why = `has no image with the digest ${displayText(digest)}`;
  throw new InputError(store.name, why, { code: "notFound", hint: listHint(images) });
}

interface Candidate {
  readonly descriptor: Descriptor;
  readonly platform: Platform;
  readonly isThere: boolean;
}

/** Opens the image for the wanted platform among manifests and indexes. @param what names their location in errors */
export async function openOneOf(
  store: BlobStore,
  descriptors: readonly Descriptor[],
  what: string,
  origin: ImageOrigin,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const wanted = wantedPlatform(options) ?? hostPlatform();
  const manifest = await chooseManifest(store, descriptors, what, wanted, sourceLimits(options));
  return await openManifest(store, manifest, origin, options);
}

async function chooseManifest(
  store: BlobStore,
  descriptors: readonly Descriptor[],
  what: string,
  wanted: WantedPlatform,
  limits: SourceLimits,
): Promise<Descriptor> {
  const { manifests, missing } = await expandIndexes(store, descriptors, what, limits);
  if (manifests.length === 0) {
    if (missing) throw missingBlob(missing, what);
    const isOld = descriptors.some(({ mediaType }) => documentKind(mediaType) === "schema1");
    throw isOld
      ? new InputError(what, `holds ${OLD_MANIFEST}`, { code: "unsupported" })
      : new InputError(what, "holds no container image", { code: "wrongKind" });
  }
  if (manifests.length === 1 && !missing) return manifests[0]!;
  const candidates: Candidate[] = [];
  for (const descriptor of manifests) {
    const isThere = store.has(descriptor);
    const platform = descriptor.platform ??
      (isThere ? await platformByConfig(store, descriptor, limits) : undefined);
    // If even its config has no platform, it is an artifact, or cannot be chosen by platform.
    if (platform) candidates.push({ descriptor, platform, isThere });
  }
  const suitable = wanted === "any"
    ? candidates.filter(({ isThere }) => isThere)
    : bestPlatforms(wanted, candidates);
  const [chosen, ...others] = withoutTwins(suitable);
  const there = candidates.filter(({ isThere }) => isThere);
  if (!chosen) {
    const why = `has no image for ${wantedText(wanted)}: found ${foundText(candidates)}`;
    throw platformFault(what, why, there);
  }
  if (others.length > 0) throw severalImages(what, [chosen, ...others], wanted);
  if (chosen.isThere) return chosen.descriptor;
  const why = `names an image for ${formatPlatform(chosen.platform)}, but its manifest ` +
    `${chosen.descriptor.digest} is missing: found ${foundText(there)}`;
  throw platformFault(what, why, there, "missingPart");
}

/** Drops the zstd-compressed one of two forms of an image. */
function withoutTwins(candidates: readonly Candidate[]): readonly Candidate[] {
  const plain = candidates.filter(({ descriptor }) =>
    descriptor.annotations.get(ZSTD_ANNOTATION) !== "true"
  );
  return plain.length > 0 ? plain : candidates;
}

function platformsOf(candidates: readonly Candidate[]): string[] {
  return [...new Set(candidates.map(({ platform }) => formatPlatform(platform)))];
}

function foundText(candidates: readonly Candidate[]): string {
  return platformsOf(candidates).join(", ") || "none";
}

function wantedText(wanted: WantedPlatform): string {
  return wanted === "any" ? "any platform" : formatPlatform(wanted);
}

function platformFault(
  what: string,
  why: string,
  there: readonly Candidate[],
  code: ErrorCode = "platformMismatch",
): InputError {
  const remedies = platformsOf(there).slice(0, 1)
    .map((value): Remedy => ({ option: "platform", change: "set", value }));
  return new InputError(what, why, { code, remedies });
}

function severalImages(
  what: string,
  candidates: readonly Candidate[],
  wanted: WantedPlatform,
): InputError {
  if (wanted === "any" && platformsOf(candidates).length === candidates.length) {
    const why = `holds ${candidates.length} images: ${foundText(candidates)}`;
    return platformFault(what, why, candidates, "ambiguous");
  }
  const names = candidates.map(({ descriptor, platform }) =>
    `@${descriptor.digest} (${formatPlatform(platform)})`
  );
  const why = `holds ${candidates.length} images for ${wantedText(wanted)}`;
  return new InputError(what, why, { code: "ambiguous", hint: listImages(names) });
}

/** All manifests in order, with each index replaced by its manifests; and the first index that is missing. */
async function expandIndexes(
  store: BlobStore,
  descriptors: readonly Descriptor[],
  what: string,
  limits: SourceLimits,
): Promise<{ readonly manifests: readonly Descriptor[]; readonly missing?: Descriptor }> {
  const manifests: Descriptor[] = [];
  let missing: Descriptor | undefined;
  const seen = new Set<string>();
  const pending = descriptors.map((descriptor) => ({ descriptor, depth: 0 })).reverse();
  let entryCount = 0;
  for (let item = pending.pop(); item; item = pending.pop()) {
    const { descriptor, depth } = item;
    if (++entryCount > limits.indexEntries) {
      const expected = limits.indexEntries;
      const why = `has more than ${expected} entries in its indexes`;
      throw limitError(what, why, { name: "indexEntries", expected });
    }
    if (!mayBeImage(descriptor) || seen.has(descriptor.digest)) continue;
    seen.add(descriptor.digest);
    if (documentKind(descriptor.mediaType) === "manifest") {
      manifests.push(descriptor);
      continue;
    }
    if (depth >= limits.indexDepth) {
      const index = `${store.name}: index ${descriptor.digest}`;
      const why = `is nested more than ${limits.indexDepth} indexes deep`;
      throw limitError(index, why, { name: "indexDepth", expected: limits.indexDepth });
    }
    if (!store.has(descriptor)) {
      missing ??= descriptor;
      continue;
    }
    const { bytes, name } = await readDocument(store, descriptor, "index", limits);
    for (const entry of readIndex(bytes, name, descriptor.mediaType).toReversed()) {
      pending.push({ descriptor: entry, depth: depth + 1 });
    }
  }
  return { manifests, ...missing ? { missing } : {} };
}

/** The platform that a manifest's config states; undefined if the config is not an image's. */
async function platformByConfig(
  store: BlobStore,
  descriptor: Descriptor,
  limits: SourceLimits,
): Promise<Platform | undefined> {
  const { bytes, name } = await readDocument(store, descriptor, "manifest", limits);
  let config: Descriptor;
  try {
    config = readManifest(bytes, name, descriptor.mediaType).config;
  } catch (error) {
    // A signature or another artifact next to the images, which is allowed.
    if (error instanceof InputError) return undefined;
    throw error;
  }
  const document = await readDocument(store, config, "config", limits);
  return readConfig(document.bytes, document.name).platform;
}

/** The manifest has no layers, but the config lists some: Docker 25.0.0 wrote such layouts. */
export class MissingLayersError extends InputError {}

async function openManifest(
  store: BlobStore,
  descriptor: Descriptor,
  origin: ImageOrigin,
  options: ResolvedOptions,
): Promise<OpenedImage> {
  const limits = sourceLimits(options);
  const { bytes, name } = await readDocument(store, descriptor, "manifest", limits);
  const manifest = readManifest(bytes, name, descriptor.mediaType);
  const document = await readDocument(store, manifest.config, "config", limits);
  const config = readConfig(document.bytes, document.name);
  checkLayerCount(manifest.layers.length, config.diffIds.length, name, limits.layers);
  if (manifest.oddity) options.warnings.add("mediaTypeMismatch", name, manifest.oddity);
  checkPlatform(document.name, config.platform, descriptor.platform, options);
  return {
    ...origin,
    manifestDigest: descriptor.digest,
    configDigest: manifest.config.digest,
    manifest: manifest.json,
    config: config.json,
    configBytes: document.bytes,
    platform: config.platform,
    layers: layerSources(store, manifest.layers, config.diffIds, name),
    close: () => store.close(),
  };
}

export function layerName(index: number, count: number, digest: string): string {
  return `layer ${index + 1} of ${count} (${digest})`;
}

/** @throws {InputError} if manifest and config differ in the number of layers, or there are too many */
export function checkLayerCount(
  layerCount: number,
  diffIdCount: number,
  what: string,
  limit: number,
): void {
  if (layerCount > limit) {
    throw limitError(what, `has ${layerCount} layers: at most ${limit} are read`, {
      name: "layers",
      expected: limit,
      actual: layerCount,
    });
  }
  if (layerCount === diffIdCount) return;
  const ErrorClass = layerCount === 0 ? MissingLayersError : InputError;
  const why = `has ${layerCount} layers, but its config has ${diffIdCount} diff ids`;
  throw new ErrorClass(what, why, { data: { expected: diffIdCount, actual: layerCount } });
}

/** Compares the platform that the config states with the requested one and with the one the index announced. */
export function checkPlatform(
  what: string,
  found: Platform | undefined,
  announced: Platform | undefined,
  options: ResolvedOptions,
): void {
  const { warnings } = options;
  if (found && announced && !isSameButForOmissions(announced, found)) {
    const [actual, expected] = [found, announced].map(formatPlatform);
    warnings.add("platformMismatch", what, `is for ${actual}, though the index says ${expected}`);
  }
  const request = wantedPlatform(options);
  if (request === "any") return;
  const stated = found ?? announced;
  if (!stated) return request && warnOfUnknownPlatform(what, request, warnings);
  const wanted = request ?? hostPlatform();
  const suits = (platform?: Platform) => platform && platformRank(wanted, platform) !== undefined;
  if (suits(found) || suits(announced)) return;
  const value = formatPlatform({ ...stated, osVersion: undefined });
  throw new InputError(what, `is for ${value}: wanted ${formatPlatform(wanted)}`, {
    code: "platformMismatch",
    remedies: [{ option: "platform", change: "set", value }],
    data: { expected: formatPlatform(wanted), actual: value },
  });
}

/** Warns about an image or a tree that cannot be compared with the requested platform. */
export function warnOfUnknownPlatform(what: string, wanted: Platform, warnings: Warnings): void {
  const why = `states no platform, and cannot be compared with ${formatPlatform(wanted)}`;
  warnings.add("platformUnknown", what, why);
}

/** Configs often omit the variant that an index states. */
function isSameButForOmissions(announced: Platform, found: Platform): boolean {
  return announced.os === found.os && announced.architecture === found.architecture &&
    (found.variant === undefined || found.variant === announced.variant) &&
    (found.osVersion === undefined || announced.osVersion === undefined ||
      found.osVersion === announced.osVersion);
}

function layerSources(
  store: BlobStore,
  layers: readonly Descriptor[],
  diffIds: readonly string[],
  manifestName: string,
): LayerSource[] {
  return layers.map((descriptor, i) => {
    const { mediaType, digest, sizeBytes } = descriptor;
    const name = layerName(i, layers.length, digest);
    if (layerCompression(mediaType) === undefined) {
      const why = `is of type ${mediaType}, which cannot be read: ${whyNoLayer(mediaType)}`;
      const details = { code: "unsupported", data: { digest, mediaType } } as const;
      throw new InputError(`${manifestName}: ${name}`, why, details);
    }
    const stored = locateLayer(store, descriptor, `${store.name}: ${name}`);
    return { name, digest, diffId: diffIds[i], mediaType, sizeBytes, whiteouts: true, stored };
  });
}
