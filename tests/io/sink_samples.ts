/** What tests of file sinks share: odd pieces, and file systems that fail. */
import { type FileOperations, NODE_FILE_OPERATIONS } from "../../lib/io/file_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";

export const MIB = 1 << 20;

export { withTemporaryDirectory as inDirectory } from "../oracle/command.ts";

function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + seed * 17 + (i >> 8)) & 0xff;
  return bytes;
}

/** Writes pieces of odd sizes with gaps between them; returns what a reader must find. */
export async function writeOddPieces(sink: ImageSink): Promise<Uint8Array> {
  const expected = new Uint8Array(5 * MIB + 4096);
  const pieces: [offset: number, length: number][] = [
    [0, 1],
    [1, 4095],
    [4096, 2 * MIB + 3],
    [2 * MIB + 8192, 100],
    [3 * MIB - 1, MIB],
    [4 * MIB - 1, 0],
    [5 * MIB, 7],
  ];
  for (const [offset, length] of pieces) {
    const bytes = pattern(length, offset);
    expected.set(bytes, offset);
    await sink.write(bytes, offset);
    bytes.fill(0xee);
  }
  return expected;
}

/** A fault of `write` is one of `writeBehind`, too. */
export function faultyFiles(overrides: Partial<FileOperations>): FileOperations {
  const { write = NODE_FILE_OPERATIONS.write } = overrides;
  return {
    ...NODE_FILE_OPERATIONS,
    writeBehind: async (...args) => await write(...args),
    ...overrides,
  };
}

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made by a test`), { code });
}
