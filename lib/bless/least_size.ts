/**
 * What is known of the size of an image before its layers are read, so that a size that can never do is refused at once and
 * not after a long download.
 *
 * @module
 */
import { exactSize } from "../bytes/size_text.ts";
import { InputError } from "../errors.ts";
import type { LayoutOptions } from "../ext4/plan/settings.ts";
import type { OpenedImage } from "../source/source.ts";
import { buildTree } from "../tree/build.ts";
import { Warnings } from "../warnings.ts";
import { planImage } from "./plan_image.ts";

/**
 * Nothing removes what the topmost layer has, and ext4 compresses nothing. Its files take less room than the layer only
 * where it is not compressed and has very many that are empty: a tar has up to 2 KiB for each, ext4 an inode and a name.
 */
const LAYER_SHARE = 1 / 8;

/**
 * Checks a size that is given against what an image needs at the very least.
 *
 * @param layout of the file system itself
 * @throws {InputError} when it is less
 */
export function checkLeastSize(
  image: Pick<OpenedImage, "layers" | "manifestDigest" | "additions">,
  layout: LayoutOptions,
  timestamp: number,
): void {
  const { size } = layout;
  if (size.kind !== "total") return;
  checkEmpty(layout, timestamp);
  // Additions may take away what the image has.
  const isKnown = image.manifestDigest !== undefined && image.additions === undefined;
  const storedBytes = isKnown ? image.layers.at(-1)?.sizeBytes ?? 0 : 0;
  if (size.sizeBytes >= storedBytes * LAYER_SHARE) return;
  throw new InputError(
    "size",
    `${exactSize(size.sizeBytes)} are too few: the topmost layer alone has ` +
      `${exactSize(storedBytes)} before it is unpacked`,
    { code: "doesNotFit", option: "size", hint: "give more, or leave the size out" },
  );
}

/** Journal, inode tables and bitmaps take room, too. */
function checkEmpty(layout: LayoutOptions, timestamp: number): void {
  const warnings = new Warnings();
  const tree = buildTree([], { warnings, defaultTime: { seconds: timestamp, nanoseconds: 0 } });
  planImage(tree, { layout, contentDigest: "empty", timestamp, warnings });
}
