/**
 * Whether two nodes are the same thing.
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { Buffer } from "node:buffer";
import { throwIfAborted } from "../errors.ts";
import type { NodeAttributes, TreeNode } from "../model/node.ts";
import type { BlockRun, Payload } from "../model/payload.ts";
import { BLOCK_SIZE_BYTES, readPayload } from "../model/payload.ts";

const PIECE_BYTES = 1 << 20;
const YIELD_AFTER_PIECES = 16;

/** Whether two nodes have the same kind and attributes, times and extended attributes included. */
export function equalAttributes(a: TreeNode, b: TreeNode): boolean {
  if (a.kind !== b.kind) return false;
  const [first, second] = [a.attributes, b.attributes];
  return first.mode === second.mode && first.uid === second.uid && first.gid === second.gid &&
    first.mtimeSeconds === second.mtimeSeconds &&
    first.mtimeNanoseconds === second.mtimeNanoseconds && equalXattrs(first, second);
}

function equalXattrs(a: NodeAttributes, b: NodeAttributes): boolean {
  return a.xattrs.length === b.xattrs.length && a.xattrs.every(({ name, value }, i) => {
    const other = b.xattrs[i]!;
    return name === other.name && Buffer.compare(value, other.value) === 0;
  });
}

/**
 * Whether two nodes of a kind hold the same: a file its bytes, a symlink its target, a device its numbers. Of directories
 * nothing is compared. Bytes are read only when everything else agrees.
 */
export async function equalContent(
  a: TreeNode,
  b: TreeNode,
  signal?: AbortSignal,
): Promise<boolean> {
  if (a === b) return true;
  if (a.kind === "file" && b.kind === "file") {
    return await equalPayload(a.payload, b.payload, signal);
  }
  if (a.kind === "symlink" && b.kind === "symlink") return a.target === b.target;
  if (a.kind === "directory" || b.kind === "directory") return a.kind === b.kind;
  if ("deviceMajor" in a && "deviceMajor" in b) {
    return a.kind === b.kind && a.deviceMajor === b.deviceMajor && a.deviceMinor === b.deviceMinor;
  }
  return false;
}

async function equalPayload(a: Payload, b: Payload, signal?: AbortSignal): Promise<boolean> {
  if (
    a.sizeBytes !== b.sizeBytes || a.contentHash !== b.contentHash ||
    !equalRuns(a.dataRuns, b.dataRuns)
  ) return false;
  const buffers = [new Uint8Array(0), new Uint8Array(0)] as [Uint8Array, Uint8Array];
  let pieceCount = 0;
  for (const { startBlock, blockCount } of a.dataRuns) {
    const end = Math.min((startBlock + blockCount) * BLOCK_SIZE_BYTES, a.sizeBytes);
    for (let at = startBlock * BLOCK_SIZE_BYTES; at < end; at += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, end - at);
      if (buffers[0].length < length) {
        buffers[0] = new Uint8Array(length);
        buffers[1] = new Uint8Array(length);
      }
      const [first, second] = buffers.map((buffer) => buffer.subarray(0, length)) as [
        Uint8Array,
        Uint8Array,
      ];
      readPayload(a, first, at);
      readPayload(b, second, at);
      if (Buffer.compare(first, second) !== 0) return false;
      if (++pieceCount % YIELD_AFTER_PIECES !== 0) continue;
      await setImmediate();
      throwIfAborted(signal);
    }
  }
  return true;
}

function equalRuns(a: readonly BlockRun[], b: readonly BlockRun[]): boolean {
  return a.length === b.length &&
    a.every((run, i) => run.startBlock === b[i]!.startBlock && run.blockCount === b[i]!.blockCount);
}
