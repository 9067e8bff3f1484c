/**
 * Which image a fault is in. What reads one names blocks and inodes; whoever reads several must say of which.
 *
 * @module
 */
import { InputError } from "../../errors.ts";

/**
 * What was thrown while an image was read, as it is to be thrown on: an InputError that does not begin with the name of
 * the image gets it in front. Everything else is given back as it is.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { InputError } from "../../errors.ts";
 * import { faultInImage } from "./image_fault.ts";
 * const fault = faultInImage("a.ext4", new InputError("inode 7", "its checksum is wrong"));
 * assertEquals((fault as Error).message, "a.ext4: inode 7: its checksum is wrong");
 * assertEquals(faultInImage("a.ext4", fault), fault);
 * ```
 */
export function faultInImage(imageName: string, error: unknown): unknown {
  if (!(error instanceof InputError) || error.what === imageName) return error;
  const { message, hint, remedies, data, cause } = error;
  return new InputError(imageName, message, {
    ...hint === undefined ? {} : { hint },
    remedies,
    data,
    cause: cause ?? error,
  });
}
