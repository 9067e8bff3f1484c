/**
 * Gives back what holds the payload of layers while an image is written. Where that is spools, an image then takes
 * hardly more space than the larger of the two.
 *
 * @module
 */
import type { ImagePlan, PayloadWrite } from "../ext4/plan/image_plan.ts";
import { partAt, type RandomReader, type ReaderParts } from "../io/random_reader.ts";
import { BLOCK_SIZE_BYTES, type Payload } from "../model/payload.ts";

/**
 * Closes the stores that nothing is read from, and says what to do as the others are read.
 *
 * @returns to be called after each write of the plan, in their order; frees what has been read for the last time
 */
export function releaseAsWritten(
  stores: Iterable<RandomReader>,
  { payload }: Pick<ImagePlan, "payload">,
): (write: PayloadWrite) => void {
  const lastWrites = new Map<RandomReader, (PayloadWrite | undefined)[]>();
  for (const store of stores) lastWrites.set(store, Array(store.parts?.count ?? 1).fill(undefined));
  for (const write of payload) {
    const { store } = write.payload;
    const ofParts = lastWrites.get(store);
    if (ofParts === undefined) continue;
    if (store.parts === undefined) ofParts[0] = write;
    else markParts(ofParts, write, store.parts);
  }
  const releases = new Map<PayloadWrite, (() => void)[]>();
  for (const [store, ofParts] of lastWrites) {
    ofParts.forEach((write, part) => {
      const release = () => store.parts ? store.parts.release(part) : store.close();
      if (write === undefined) return release();
      const known = releases.get(write);
      if (known) known.push(release);
      else releases.set(write, [release]);
    });
  }
  return (write) => releases.get(write)?.forEach((release) => release());
}

/** Notes a write for the parts of its store that it reads from, and those between them. */
function markParts(
  ofParts: (PayloadWrite | undefined)[],
  write: PayloadWrite,
  parts: ReaderParts,
): void {
  const { payload, logicalBlock, blockCount } = write;
  const { start, end } = payload.segments.length === 1
    ? storedRange(payload, logicalBlock * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES)
    : wholeRange(payload);
  const last = partAt(parts, Math.max(start, end - 1));
  for (let part = partAt(parts, start); part <= last; part++) ofParts[part] = write;
}

/** Where a part of a file without holes is stored. */
function storedRange({ segments }: Payload, fileOffset: number, lengthBytes: number) {
  const segment = segments[0]!;
  const start = segment.storeOffset + Math.max(0, fileOffset - segment.fileOffset);
  const end = Math.min(start + lengthBytes, segment.storeOffset + segment.lengthBytes);
  return { start, end };
}

/** The segments of a sparse file can be very many; it is enough to know where they are all together. */
function wholeRange({ segments }: Payload) {
  let [start, end] = [Infinity, 0];
  for (const { storeOffset, lengthBytes } of segments) {
    start = Math.min(start, storeOffset);
    end = Math.max(end, storeOffset + lengthBytes);
  }
  return { start: Math.min(start, end), end };
}
