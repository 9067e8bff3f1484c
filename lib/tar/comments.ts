/**
 * What a tar says of the image that it was exported from, in PAX `comment` records: every tool reads over them, as over
 * those of git-archive.
 *
 * @module
 */
import type { ByteString } from "../bytes/byte_string.ts";

const UUID = /^blessfs uuid ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;
const FIRST_LAYER = /^blessfs first-layer ([1-9][0-9]{0,5})$/;

/** Longer comments are not looked at. */
export const COMMENT_BYTES_MAX = 256;

/** The comment on the first entry that names the UUID of the image. */
export function uuidComment(uuid: string): ByteString {
  return `blessfs uuid ${uuid}`;
}

/** The UUID that a comment names, in small letters; undefined for any other comment. */
export function uuidOfComment(comment: ByteString | undefined): string | undefined {
  return UUID.exec(comment ?? "")?.[1];
}

/** The comment of an entry whose payload lies behind that of other entries that come later in the order of paths. */
export function firstLayerComment(firstLayer: number): ByteString {
  return `blessfs first-layer ${firstLayer}`;
}

/** The number that an entry's comment names; undefined for any other comment. */
export function firstLayerOfComment(comment: ByteString | undefined): number | undefined {
  if (comment === undefined) return undefined;
  const digits = FIRST_LAYER.exec(comment)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
