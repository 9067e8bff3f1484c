/**
 * Reads tars in tests, in chunks of the test's choice.
 *
 * @module
 */
import { InputError } from "../../lib/errors.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { readPayload } from "../../lib/model/node.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import { TarIndexer } from "../../lib/tar/indexer.ts";
import type { TarLimits } from "../../lib/tar/header.ts";

/** What a test may choose. */
export interface ReadOptions {
  /** The lengths of the chunks, used over and over; default: all at once. */
  readonly chunkSizes?: readonly number[];
  readonly limits?: Partial<TarLimits>;
}

/** What came out of a tar. */
export interface ReadTar {
  readonly entries: readonly TarEntry[];
  /** The kinds of the warnings, in order. */
  readonly warningKinds: readonly string[];
  readonly warnings: readonly string[];
}

/** Indexes a whole tar. Every chunk is wiped after use, so nothing can hold on to it unseen. */
export function readTar(tar: Uint8Array, options: ReadOptions = {}): ReadTar {
  const entries: TarEntry[] = [];
  const warningKinds: string[] = [];
  const warnings: string[] = [];
  const indexer = new TarIndexer({
    name: "test.tar",
    emit: (entry) => entries.push(entry),
    warn: (kind, what, why) => {
      warningKinds.push(kind);
      warnings.push(`${what}: ${why}`);
    },
    ...(options.limits ? { limits: options.limits } : {}),
  });
  const sizes = options.chunkSizes ?? [Math.max(1, tar.length)];
  let turn = 0;
  for (let at = 0; at < tar.length;) {
    const end = Math.min(tar.length, at + sizes[turn++ % sizes.length]!);
    const chunk = new Uint8Array(tar.subarray(at, end));
    indexer.push(chunk);
    chunk.fill(0xaa);
    at = end;
  }
  indexer.end();
  return { entries, warningKinds, warnings };
}

/** The one entry of a tar. */
export function readOne(tar: Uint8Array, options: ReadOptions = {}): TarEntry {
  const { entries } = readTar(tar, options);
  if (entries.length !== 1) throw new Error(`the tar has ${entries.length} entries, not one`);
  return entries[0]!;
}

/** The error of a tar that must be refused. */
export function faultOf(tar: Uint8Array, options: ReadOptions = {}): InputError {
  try {
    readTar(tar, options);
  } catch (error) {
    if (error instanceof InputError) return error;
    throw error;
  }
  throw new Error("the tar was read, and should have been refused");
}

/** A file's bytes, holes and all, put together from the tar. */
export function contentOf(entry: TarEntry, tar: Uint8Array): Uint8Array {
  if (!entry.payload) throw new Error(`${entry.path} has no payload`);
  const content = new Uint8Array(entry.payload.sizeBytes);
  readPayload({ ...entry.payload, store: memoryReader(tar) }, content, 0);
  return content;
}
