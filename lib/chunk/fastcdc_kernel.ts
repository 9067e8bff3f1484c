/**
 * The chunkers' inner loops as WebAssembly, because 64-bit sums are slow in script. fastcdc_kernel.wat beside this file is
 * their source.
 *
 * @module
 */
import { Buffer } from "node:buffer";

/** `fastcdc_kernel.wat`, assembled by wat2wasm. */
export const KERNEL_BASE64 =
  "AGFzbQEAAAABFwJgB39/f39/fn4Cf35gBX9/f39+An9+AwMCAAEFAwEAAQcbAwZtZW1vcnkCAAdmYXN0Q2RjAAAEZ2Vh" +
  "cgABCsUCAswBBAF+An8BfgF/IAEgAk0EQCABQgAPCyABIARLBEAgBCEBCyABIAMgASADSRshCSAAIAJBfnFqIQggBSEK" +
  "IAAgCUF+cWohCwNAAkADQCAIIAtPDQEgB0IChiAILQAAQQN0KQOAEHwhByAHIApCAYaDUARAIAggAGsgBw8LIAcgCC0A" +
  "AUEDdCkDAHwhByAHIAqDUARAIAggAGtBAWogBw8LIAhBAmohCAwACwsgBiEKIAAgAUF+cWohCSALIAlHBEAgCSELDAEL" +
  "CyABIAcLdQIBfgN/IAEgA0sEQCADIQELIAAgAWohCCAAIAJqIQcgB0HAAGsgACACQcAATxshBgJAA0AgBiAITw0BIAVC" +
  "AYYgBi0AAEEDdCkDAHwhBSAGQQFqIQYgBiAHSQ0AIAUgBINCAFINACAGIABrIAUPCwsgASAFCw==";

/** Where the data begins in the kernel's memory; before it are the tables. */
export const DATA_OFFSET = 4096;

const PAGE_BYTES = 65536;
const TABLE_BYTES = 2048;

/** Where a chunk ends, counted from its start, and the hash there. */
export type Cut = readonly [lengthBytes: number, hash: bigint];

/** The functions of the kernel. Offsets are those of its memory; a length is what there is behind the offset. */
export interface ChunkKernel {
  /** The whole memory. */
  readonly bytes: Uint8Array;
  fastCdc(
    offset: number,
    length: number,
    min: number,
    average: number,
    max: number,
    maskSmall: bigint,
    maskLarge: bigint,
  ): Cut;
  gear(offset: number, length: number, min: number, max: number, mask: bigint): Cut;
}

/** Makes a kernel with its own memory for `dataBytes` and its own table. */
export function createKernel(table: BigUint64Array, dataBytes: number): ChunkKernel {
  const module = new WebAssembly.Module(Buffer.from(KERNEL_BASE64, "base64"));
  const { exports } = new WebAssembly.Instance(module);
  const memory = exports["memory"] as WebAssembly.Memory;
  memory.grow(Math.ceil((DATA_OFFSET + dataBytes) / PAGE_BYTES) - 1);
  const view = new DataView(memory.buffer);
  table.forEach((value, byte) => {
    view.setBigUint64(byte * 8, value, true);
    view.setBigUint64(TABLE_BYTES + byte * 8, value << 1n, true);
  });
  return {
    bytes: new Uint8Array(memory.buffer),
    fastCdc: exports["fastCdc"] as ChunkKernel["fastCdc"],
    gear: exports["gear"] as ChunkKernel["gear"],
  };
}
