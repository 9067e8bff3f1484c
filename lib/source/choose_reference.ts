/**
 * Which entry of a layout's index.json is meant. Only there do reference names count (OCI image-layout.md, "index.json").
 *
 * @module
 */
import { InputError, UsageError } from "../errors.ts";
import { mayBeImage } from "./choose_manifest.ts";
import type { Descriptor } from "./descriptor.ts";
import { displayText } from "./json.ts";
import { formatPlatform } from "./platform.ts";
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
