/**
 * Sets of images that can be measured, but are hardly what was meant.
 *
 * @module
 */
import type { Warnings } from "../lib/warnings.ts";
import type { ImageFacts } from "./image_parts.ts";

/** Warns of an image that is alone or given twice, and of several platforms. */
export function warnOfDoubtfulSets(images: readonly ImageFacts[], warnings: Warnings): void {
  const names = new Set<string>();
  for (const { source } of images) {
    if (names.has(source)) warnings.add("repeatedSource", source, "is given more than once");
    names.add(source);
  }
  if (images.length === 1) {
    warnings.add("singleSource", images[0]!.source, "is the only image, so nothing can be shared");
  }
  const platforms = new Set(images.flatMap(({ platform }) => platform ?? []));
  if (platforms.size > 1) {
    const list = [...platforms].join(", ");
    warnings.add("mixedPlatforms", list, "images of different platforms share few programs");
  }
}
