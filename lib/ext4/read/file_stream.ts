/**
 * A file of an image as a stream.
 *
 * @module
 */
import { byteStringFromText } from "../../bytes/byte_string.ts";
import { payloadStream } from "../../model/payload.ts";
import { filePayload } from "./content.ts";
import { findInode } from "./directory.ts";
import type { Ext4Image } from "./image.ts";

/**
 * The bytes of a regular file, zeros for holes. Symlinks are followed inside the image, which must stay open until the stream
 * has ended or was cancelled.
 *
 * @param path text; a name that is not UTF-8 is found by findInode() and read by payloadStream()
 * @throws {InputError} when nothing is there (code `notFound`), for what is not a regular file, and for damage
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged, fileStream, MemorySink, openExt4Image } from "@blessfs/blessfs";
 *
 * const sink = new MemorySink();
 * await blessMerged({ source: "oci:fixtures/oci-tiny", sink });
 * using image = openExt4Image(sink.bytes);
 * const text = await new Response(fileStream(image, "/etc/motd")).text();
 * assertEquals(text, "Welcome again.\n");
 * ```
 */
export function fileStream(
  image: Ext4Image,
  path: string,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const { inode } = findInode(image, byteStringFromText(path), { followsLast: true });
  return payloadStream(filePayload(image, inode));
}
