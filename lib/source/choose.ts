/**
 * Which image of several is meant: by its name in a layout's index.json, and by its platform in an index. Where more than
 * one remains, nothing is chosen: the error lists them.
 *
 * @module
 */
import { type ErrorCode, InputError, limitError, type Remedy, UsageError } from "../errors.ts";
import { type BlobStore, missingBlob, readDocument } from "./blobs.ts";
import {
  type Descriptor,
  documentKind,
  isImageConfigType,
  readConfig,
  readIndex,
  readManifest,
} from "./documents.ts";
import { displayText } from "./json.ts";
import { DEFAULT_SOURCE_LIMITS, type SourceLimits } from "./limits.ts";
import {
  bestPlatforms,
  formatPlatform,
  hostPlatform,
  parseWantedPlatform,
  type Platform,
  type WantedPlatform,
} from "./platform.ts";
import { sameReference } from "./reference.ts";
import type { ResolvedOptions } from "./types.ts";

const REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name";
/** containerd and docker write the whole name here, and only the tag above. */
const FULL_NAME_ANNOTATION = "io.containerd.image.name";
const ATTESTATION_ANNOTATION = "vnd.docker.reference.type";
/** podman marks so the second of two forms of one image, whose layers differ in their compression alone. */
const ZSTD_ANNOTATION = "io.github.containers.compression.zstd";
/** At most this many images are listed. */
const LISTED_IMAGES = 20;

/** No entry has the name that was asked for. */
export class UnknownReferenceError extends InputError {}

/** What is looked for, and how far. */
export interface ChoiceRequest {
  /** Undefined when nobody asked: then this machine's. */
  readonly platform: WantedPlatform | undefined;
  readonly limits: SourceLimits;
}

/** The options as a choice among manifests needs them. */
export function choiceRequest(options: ResolvedOptions): ChoiceRequest {
  return {
    platform: options.platform === undefined ? undefined : parseWantedPlatform(options.platform),
    limits: { ...DEFAULT_SOURCE_LIMITS, ...options.limits },
  };
}

/** Names of images for a hint; safe to print. */
export function listImages(names: readonly string[]): string {
  const more = names.length - LISTED_IMAGES;
  const shown = names.slice(0, LISTED_IMAGES).map(displayText).join(", ");
  return `name one of: ${shown}${more > 0 ? ` and ${more} more` : ""}`;
}

/**
 * The entries that a reference names: by its name (in full or as docker would complete it), or by `@N`, counted from 0.
 * Without a reference, all of them when they are one image (for several platforms, perhaps).
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
  if (reference.startsWith("@")) return [byPosition(images, reference.slice(1), what)];
  const fullName = ({ annotations }: Descriptor) => annotations.get(FULL_NAME_ANNOTATION);
  const tests: readonly ((image: Descriptor) => boolean)[] = [
    ({ annotations }) => annotations.get(REFERENCE_ANNOTATION) === reference,
    (image) => fullName(image) === reference,
    (image) => sameReference(fullName(image) ?? "", reference),
  ];
  for (const test of tests) {
    const named = images.filter(test);
    if (new Set(named.map(nameOf)).size > 1) {
      const why = `holds ${named.length} images named "${displayText(reference)}"`;
      throw new InputError(what, why, { code: "ambiguous", hint: listHint(named) });
    }
    if (named.length > 0) return named;
  }
  throw new UnknownReferenceError(what, `has no image named "${displayText(reference)}"`, {
    code: "notFound",
    hint: images.length === 0 ? "the layout holds no image" : listHint(images),
  });
}

/** Whether a descriptor of an index may point at an image, or at an index of images. */
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
  // Nothing that may be an image: whoever chooses the manifest says why.
  if (images.length === 0) return entries;
  const digests = new Set(images.map(({ digest }) => digest));
  if (digests.size === 1) return images;
  const names = new Set(images.map(nameOf));
  const platforms = new Set(images.map(({ platform }) => platform && formatPlatform(platform)));
  const onePlatformEach = platforms.size === digests.size && !platforms.has(undefined);
  if (names.size === 1 && (onePlatformEach || !names.has(undefined))) return images;
  throw new InputError(what, `holds ${images.length} images: wanted the name of one`, {
    code: "ambiguous",
    hint: listHint(images),
  });
}

function byPosition(images: readonly Descriptor[], position: string, what: string): Descriptor {
  if (!/^[0-9]{1,9}$/.test(position)) {
    throw new UsageError(`reference "@${displayText(position)}"`, "is neither @N nor @DIGEST");
  }
  const image = images[Number(position)];
  if (image) return image;
  throw new InputError(what, `has no image number ${position}: it holds ${images.length}`, {
    code: "notFound",
    hint: listHint(images),
  });
}

function listHint(images: readonly Descriptor[]): string {
  return listImages(images.map((image, i) => {
    const suffix = image.platform ? ` (${formatPlatform(image.platform)})` : "";
    return (nameOf(image) ?? `@${i}`) + suffix;
  }));
}

/**
 * The image of a layout that a reference names.
 *
 * @param entries of index.json
 * @throws {InputError} when there is none, or when several could be meant
 */
export async function chooseImage(
  store: BlobStore,
  entries: readonly Descriptor[],
  reference: string | undefined,
  request: ChoiceRequest,
): Promise<Descriptor> {
  const digest = reference?.startsWith("@") && reference.includes(":")
    ? reference.slice(1)
    : undefined;
  if (digest === undefined) {
    const chosen = chooseReference(entries, reference, store.name);
    return await chooseManifest(store, chosen, store.name, request);
  }
  const images = entries.filter(mayBeImage);
  const direct = images.find((image) => image.digest === digest);
  if (direct) return await chooseManifest(store, [direct], store.name, request);
  const { manifests } = await expandIndexes(store, images, store.name, request.limits);
  const nested = manifests.find((manifest) => manifest.digest === digest);
  if (nested) return nested;
  const why = `has no image with the digest ${displayText(digest)}`;
  throw new InputError(store.name, why, { code: "notFound", hint: listHint(images) });
}

/** A manifest, and what it is for. */
interface Candidate {
  readonly descriptor: Descriptor;
  readonly platform: Platform;
  readonly isThere: boolean;
}

/**
 * Finds the manifest for the wanted platform.
 *
 * @param descriptors what the choice is among: manifests and indexes
 * @param what the place that they were found in, for errors
 * @throws {InputError} when there is none or more than one, naming what there is
 */
export async function chooseManifest(
  store: BlobStore,
  descriptors: readonly Descriptor[],
  what: string,
  request: ChoiceRequest,
): Promise<Descriptor> {
  const { manifests, missing } = await expandIndexes(store, descriptors, what, request.limits);
  if (manifests.length === 0) {
    throw missing ? missingBlob(missing, what) : noImage(descriptors, what);
  }
  if (manifests.length === 1 && !missing) return manifests[0]!;
  const candidates: Candidate[] = [];
  for (const descriptor of manifests) {
    const isThere = store.has(descriptor);
    const platform = descriptor.platform ??
      (isThere ? await platformByConfig(store, descriptor, request.limits) : undefined);
    // What has no platform even in its config is an artifact, or cannot be chosen by one.
    if (platform) candidates.push({ descriptor, platform, isThere });
  }
  const wanted = request.platform ?? hostPlatform();
  const suitable = wanted === "any"
    ? candidates.filter(({ isThere }) => isThere)
    : bestPlatforms(wanted, candidates, ({ platform }) => platform);
  const [chosen, ...others] = withoutTwins(suitable);
  const there = candidates.filter(({ isThere }) => isThere);
  if (!chosen) {
    const found = platformsOf(candidates).join(", ") || "none";
    throw platformFault(what, `has no image for ${wantedText(wanted)}: found ${found}`, there);
  }
  if (others.length > 0) throw severalImages(what, [chosen, ...others], wanted);
  if (chosen.isThere) return chosen.descriptor;
  const found = platformsOf(there).join(", ") || "none";
  const why = `names an image for ${
    formatPlatform(chosen.platform)
  }, but its manifest ${chosen.descriptor.digest} is missing: found ${found}`;
  throw platformFault(what, why, there, "missingPart");
}

/** Of two forms of one image, the first; the other is compressed with zstd. */
function withoutTwins(candidates: readonly Candidate[]): readonly Candidate[] {
  const plain = candidates.filter(({ descriptor }) =>
    descriptor.annotations.get(ZSTD_ANNOTATION) !== "true"
  );
  return plain.length > 0 ? plain : candidates;
}

function platformsOf(candidates: readonly Candidate[]): string[] {
  return [...new Set(candidates.map(({ platform }) => formatPlatform(platform)))];
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
  const [value] = platformsOf(there);
  const remedies: readonly Remedy[] = value === undefined
    ? []
    : [{ option: "platform", change: "set", value }];
  return new InputError(what, why, { code, remedies });
}

function severalImages(
  what: string,
  candidates: readonly Candidate[],
  wanted: WantedPlatform,
): InputError {
  if (wanted === "any" && platformsOf(candidates).length === candidates.length) {
    const found = platformsOf(candidates).join(", ");
    return platformFault(
      what,
      `holds ${candidates.length} images: ${found}`,
      candidates,
      "ambiguous",
    );
  }
  const names = candidates.map(({ descriptor, platform }) =>
    `@${descriptor.digest} (${formatPlatform(platform)})`
  );
  const why = `holds ${candidates.length} images for ${wantedText(wanted)}`;
  return new InputError(what, why, { code: "ambiguous", hint: listImages(names) });
}

/** What indexes lead to. */
interface Expanded {
  /** Every manifest, in order; what an index holds takes the index's place. */
  readonly manifests: readonly Descriptor[];
  /** An index that is named and not there. */
  readonly missing: Descriptor | undefined;
}

async function expandIndexes(
  store: BlobStore,
  descriptors: readonly Descriptor[],
  what: string,
  limits: SourceLimits,
): Promise<Expanded> {
  const manifests: Descriptor[] = [];
  let missing: Descriptor | undefined;
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
    if (!store.has(descriptor)) {
      missing ??= descriptor;
      continue;
    }
    const bytes = await readDocument(store, descriptor, name, limits, "manifestBytes");
    const entries = readIndex(bytes, name, descriptor.mediaType);
    for (let i = entries.length - 1; i >= 0; i--) {
      pending.push({ descriptor: entries[i]!, depth: depth + 1 });
    }
  }
  return { manifests, missing };
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
    // A signature or another artifact beside the images, which is allowed.
    if (error instanceof InputError) return undefined;
    throw error;
  }
  const configName = `${store.name}: config ${config.digest}`;
  const json = await readDocument(store, config, configName, limits, "configBytes");
  return readConfig(json, configName).platform;
}

function noImage(descriptors: readonly Descriptor[], what: string): InputError {
  if (descriptors.some(({ mediaType }) => documentKind(mediaType) === "schema1")) {
    return new InputError(what, "holds a manifest of schema version 1, which is not supported", {
      code: "unsupported",
    });
  }
  return new InputError(what, "holds no container image", { code: "wrongKind" });
}
