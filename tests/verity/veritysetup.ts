/**
 * What the tests of hash trees share: data with holes, written as an image is, and veritysetup to compare with.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import type { ImageSink } from "../../lib/io/sink.ts";
import type { HashTree } from "../../lib/verity/hash_tree.ts";
import type { VerityParameters } from "../../lib/verity/format.ts";
import { TreeSink, type TreeSinkOptions } from "../../lib/verity/verity_sink.ts";
import { hasCommand, mustRun, runCommand } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";
import { Random } from "../oracle/noise.ts";

export const BLOCK_BYTES = 4096;

/** Whether veritysetup is there; says so when it is not. @param what the part that does not run then */
export function hasVeritysetup(what: string): boolean {
  if (hasCommand("veritysetup")) return true;
  notRun(what, "veritysetup (Debian: cryptsetup-bin) is not installed");
  return false;
}

/** A piece of an image. */
export interface Write {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Writes that leave holes, begin and end anywhere, and are zeros now and then. In ascending order. */
export function randomWrites(random: Random, sizeBytes: number): Write[] {
  const writes: Write[] = [];
  const longest = Math.max(Math.floor(sizeBytes / 8), 8192);
  for (let at = 0; at < sizeBytes;) {
    const kind = random.below(8);
    if (kind === 0) at += random.below(Math.max(Math.floor(sizeBytes / 4), 2));
    else if (kind === 1) at = Math.ceil((at + 1) / BLOCK_BYTES) * BLOCK_BYTES;
    else {
      const length = Math.min(
        kind === 2 ? random.below(64) : random.below(longest),
        sizeBytes - at,
      );
      if (length <= 0) continue;
      const bytes = kind === 3 ? new Uint8Array(length) : random.bytes(length);
      writes.push({ offset: at, bytes });
      at += length;
    }
  }
  return writes;
}

/** The tree of an image that is written so. */
export async function treeOf(
  writes: readonly Write[],
  options: TreeSinkOptions,
): Promise<HashTree> {
  const sink = new TreeSink(options);
  for (const { bytes, offset } of writes) await sink.write(bytes, offset);
  await sink.finish(options.dataBlocks * BLOCK_BYTES);
  return sink.tree;
}

/** Keeps an image in memory. */
export class MemorySink implements ImageSink {
  bytes: Uint8Array = new Uint8Array(0);
  isFinished = false;
  isAborted = false;
  #endOffset = 0;

  write(bytes: Uint8Array, offset: number): void {
    if (offset < this.#endOffset) throw new Error(`a write at ${offset} behind ${this.#endOffset}`);
    this.#endOffset = offset + bytes.length;
    this.#grow(this.#endOffset);
    this.bytes.set(bytes, offset);
  }

  finish(sizeBytes: number): void {
    if (sizeBytes < this.#endOffset) throw new Error(`the end ${sizeBytes} before the last write`);
    this.#grow(sizeBytes);
    this.bytes = this.bytes.subarray(0, sizeBytes);
    this.isFinished = true;
  }

  abort(): void {
    this.isAborted = true;
  }

  #grow(sizeBytes: number): void {
    if (sizeBytes <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(sizeBytes, 2 * this.bytes.length));
    grown.set(this.bytes);
    this.bytes = grown;
  }
}

/** Superblock and tree as bytes. */
export async function treeBytes(tree: HashTree): Promise<Uint8Array> {
  const sink = new MemorySink();
  await tree.writeTo(sink, 0);
  sink.finish(tree.shape.sizeBytes);
  return sink.bytes;
}

/** Writes an image with holes. */
export function writeSparse(path: string, writes: readonly Write[], sizeBytes: number): void {
  const file = Deno.openSync(path, { write: true, create: true, truncate: true });
  try {
    for (const { bytes, offset } of writes) {
      file.seekSync(offset, Deno.SeekMode.Start);
      for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
    }
    file.truncateSync(sizeBytes);
  } finally {
    file.close();
  }
}

/** What `veritysetup format` makes of a file. */
export function veritysetupFormat(
  dataPath: string,
  hashPath: string,
  { salt, uuid }: VerityParameters,
): { readonly rootHash: string; readonly bytes: Uint8Array } {
  Deno.writeFileSync(hashPath, new Uint8Array(0));
  const output = mustRun("veritysetup", [
    "format",
    dataPath,
    hashPath,
    `--salt=${salt === "" ? "-" : salt}`,
    `--uuid=${uuid}`,
  ]);
  const rootHash = /^Root hash:\s+([0-9a-f]+)$/m.exec(output)?.[1] ?? "";
  return { rootHash, bytes: Deno.readFileSync(hashPath) };
}

/** Whether `veritysetup verify` finds nothing wrong. */
export function veritysetupAgrees(
  dataPath: string,
  hashPath: string,
  rootHash: string,
  hashOffset = 0,
): boolean {
  const args = ["verify", dataPath, hashPath, rootHash, `--hash-offset=${hashOffset}`];
  return runCommand("veritysetup", args).status === 0;
}

/** Holds a tree of ours, made of random writes, against that of veritysetup. */
export async function compareWithVeritysetup(
  directory: string,
  dataBlocks: number,
  options: { readonly seed: number; readonly salt: Uint8Array; readonly threaded?: boolean },
): Promise<void> {
  const { seed, salt, threaded } = options;
  const what = `${dataBlocks} blocks, seed ${seed}, salt of ${salt.length} bytes`;
  const sizeBytes = dataBlocks * BLOCK_BYTES;
  const writes = randomWrites(new Random(seed), sizeBytes);
  const tree = await treeOf(writes, { dataBlocks, salt, threaded });
  try {
    const [data, hash] = [join(directory, "data"), join(directory, "hash")];
    writeSparse(data, writes, sizeBytes);
    const wanted = veritysetupFormat(data, hash, tree.parameters);
    assertEquals(tree.parameters.rootHash, wanted.rootHash, what);
    const bytes = await treeBytes(tree);
    assertEquals(Buffer.compare(bytes, wanted.bytes), 0, `${what}: the trees differ`);
    assertEquals(tree.shape.sizeBytes, wanted.bytes.length, what);
    assertEquals(veritysetupAgrees(data, hash, tree.parameters.rootHash), true, what);
  } finally {
    tree.close();
  }
}
