/**
 * Whole files as units: what a store of files would share, without any metadata. Two names of an inode are one file.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { FileTree } from "../../lib/model/node.ts";
import { walkTree } from "../../lib/model/node.ts";
import type { Payload } from "../../lib/model/payload.ts";
import { BLOCK_SIZE_BYTES, readPayload } from "../../lib/model/payload.ts";
import type { Progress } from "../../lib/progress.ts";
import { contentId, type ContentTable, type ImageCollector } from "./store.ts";
import type { StoredSizes } from "./stored_sizes.ts";
import { pause } from "./stored_sizes.ts";

const PIECE_BYTES = 4 * 1024 * 1024;
const PAUSE_AFTER_BYTES = 16 * 1024 * 1024;

/** What counting files needs. */
export interface FileUnitsContext {
  readonly table: ContentTable;
  readonly sizes: StoredSizes | undefined;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
}

/** Adds the files of a tree; returns the content of each payload that holds anything but zeros. */
export async function addFileUnits(
  tree: FileTree,
  collector: ImageCollector,
  context: FileUnitsContext,
): Promise<Map<Payload, number>> {
  const contents = new Map<Payload, number>();
  const reader = new PayloadReader(context);
  const task = context.progress.begin("files");
  for (const { node } of walkTree(tree)) {
    if (node.kind !== "file" || contents.has(node.payload)) continue;
    const { payload } = node;
    collector.addSize(payload.sizeBytes, 0);
    const rawBytes = dataBytes(payload);
    if (rawBytes === 0) continue;
    const content = await reader.contentOf(payload);
    contents.set(payload, content);
    collector.add(content, rawBytes);
    task.advance(rawBytes);
  }
  task.end();
  return contents;
}

class PayloadReader {
  readonly #context: FileUnitsContext;
  readonly #buffer = new Uint8Array(PIECE_BYTES);
  #sincePause = 0;

  constructor(context: FileUnitsContext) {
    this.#context = context;
  }

  /** The identity of a file is its size, where its data lies, and the data: holes are not read. */
  async contentOf(payload: Payload): Promise<number> {
    const { table, sizes } = this.#context;
    this.#sincePause += BLOCK_SIZE_BYTES;
    const hash = createHash("sha256");
    const runs = payload.dataRuns.map((run) => `${run.startBlock}+${run.blockCount}`).join();
    hash.update(`file ${payload.sizeBytes} ${runs}\n`);
    for (const piece of this.#pieces(payload)) {
      hash.update(piece);
      await this.#pauseSometimes(piece.length);
    }
    const id = contentId(hash);
    const known = table.find(id);
    if (known !== undefined) return known;
    let takeStored = (_storedBytes: number) => {};
    const content = table.indexOf(id, payload.sizeBytes, (take) => takeStored = take);
    if (sizes === undefined) return content;
    for (const piece of this.#pieces(payload)) {
      sizes.measure(piece, takeStored);
      await this.#pauseSometimes(piece.length);
    }
    return content;
  }

  async #pauseSometimes(doneBytes: number): Promise<void> {
    this.#sincePause += doneBytes;
    if (this.#sincePause < PAUSE_AFTER_BYTES) return;
    this.#sincePause = 0;
    await pause(this.#context.sizes, this.#context.signal);
  }

  *#pieces(payload: Payload): Generator<Uint8Array> {
    for (const { startBlock, blockCount } of payload.dataRuns) {
      const end = Math.min((startBlock + blockCount) * BLOCK_SIZE_BYTES, payload.sizeBytes);
      for (let at = startBlock * BLOCK_SIZE_BYTES; at < end; at += PIECE_BYTES) {
        const piece = this.#buffer.subarray(0, Math.min(PIECE_BYTES, end - at));
        readPayload(payload, piece, at);
        yield piece;
      }
    }
  }
}

/** Bytes of a file in blocks that are not all zeros. */
function dataBytes(payload: Payload): number {
  let count = 0;
  for (const { startBlock, blockCount } of payload.dataRuns) {
    const start = startBlock * BLOCK_SIZE_BYTES;
    count += Math.min(blockCount * BLOCK_SIZE_BYTES, payload.sizeBytes - start);
  }
  return count;
}
