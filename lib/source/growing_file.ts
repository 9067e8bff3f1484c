/**
 * Reading a file while another program writes it.
 *
 * @module
 */
import { setTimeout } from "node:timers/promises";
import { PIECE_BYTES } from "./layer_job.ts";

/** How long to wait for more: in that time a program writes about one piece. */
const WAIT_MILLISECONDS = 4;

/**
 * What a file holds, from its start, in full pieces of PIECE_BYTES and a last one, all through one buffer. Where the file
 * ends before it is complete, it is looked at again a little later.
 *
 * @param readAt fills `target` as far as the file goes now, and returns how far that is
 * @param isComplete whether nothing more will be written; may throw to give up
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader } from "../io/random_reader.ts";
 * import { growingPieces } from "./growing_file.ts";
 * const file = memoryReader(Uint8Array.of(1, 2, 3));
 * for await (const piece of growingPieces(file.readAt, () => true)) {
 *   assertEquals([...piece], [1, 2, 3]);
 * }
 * ```
 */
export async function* growingPieces(
  readAt: (target: Uint8Array, position: number) => number,
  isComplete: () => boolean,
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(PIECE_BYTES);
  let position = 0;
  let filledBytes = 0;
  for (;;) {
    // Asked before reading: what is written between the two would be missed otherwise.
    const isLast = isComplete();
    const count = readAt(buffer.subarray(filledBytes), position);
    position += count;
    filledBytes += count;
    if (filledBytes === buffer.length) {
      yield buffer;
      filledBytes = 0;
    } else if (isLast) {
      if (filledBytes > 0) yield buffer.subarray(0, filledBytes);
      return;
    } else await setTimeout(WAIT_MILLISECONDS);
  }
}
