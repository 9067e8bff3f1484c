/**
 * A directory of layers that came from registries, by their digests. Processes may share it: a layer gets its name when it
 * is whole and right, and whoever finds it there reads the file in place of the registry.
 *
 * @module
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { SharedDescriptor } from "../../io/random_reader.ts";
import type { Descriptor } from "../documents.ts";
import type { StoredBytes, StoredStream } from "../types.ts";

let partCount = 0;

/**
 * The file of a cache that holds a blob; undefined for a digest that is not SHA-256.
 *
 * @param directory of the cache
 * @param digest `sha256:HEX`
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { cachedBlobPath } from "./blob_cache.ts";
 * const digest = `sha256:${"0".repeat(64)}`;
 * assertEquals(cachedBlobPath("/cache", digest), `/cache/sha256/${"0".repeat(64)}`);
 * assertEquals(cachedBlobPath("/cache", "sha512:00"), undefined);
 * ```
 */
export function cachedBlobPath(directory: string, digest: string): string | undefined {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  return hex === undefined ? undefined : join(directory, "sha256", hex);
}

/**
 * Stored bytes of a layer: the cache's file where it is there, else the registry's stream, which leaves a copy in the cache.
 * A copy that cannot be made (a full disk, say) is given up, and the layer is read all the same.
 */
export function throughBlobCache(
  directory: string,
  { digest, sizeBytes }: Descriptor,
  stream: StoredStream,
): StoredBytes {
  const path = cachedBlobPath(directory, digest);
  if (path === undefined) return stream;
  if (sizeOfFile(path) === sizeBytes) {
    return {
      kind: "file",
      open: () => SharedDescriptor.openFile(path),
      offsetBytes: 0,
      lengthBytes: sizeBytes,
    };
  }
  return { kind: "stream", open: (signal) => copying(stream.open(signal), directory, path) };
}

function sizeOfFile(path: string): number | undefined {
  try {
    return statSync(path).size;
  } catch {
    return undefined;
  }
}

/** Passes pieces on, and keeps a copy of them. */
async function* copying(
  pieces: AsyncIterable<Uint8Array>,
  directory: string,
  path: string,
): AsyncGenerator<Uint8Array> {
  const copy = BlobCopy.begin(directory, path);
  try {
    for await (const piece of pieces) {
      copy?.write(piece);
      yield piece;
    }
    copy?.publish();
  } finally {
    copy?.drop();
  }
}

/** A copy that grows beside its final name. */
class BlobCopy {
  readonly #path: string;
  readonly #partPath: string;
  readonly #hash = createHash("sha256");
  #descriptor: number | undefined;

  private constructor(path: string, partPath: string, descriptor: number) {
    this.#path = path;
    this.#partPath = partPath;
    this.#descriptor = descriptor;
  }

  static begin(directory: string, path: string): BlobCopy | undefined {
    const partPath = `${path}.part-${process.pid}-${++partCount}`;
    try {
      mkdirSync(join(directory, "sha256"), { recursive: true });
      return new BlobCopy(path, partPath, openSync(partPath, "wx"));
    } catch {
      return undefined;
    }
  }

  write(piece: Uint8Array): void {
    if (this.#descriptor === undefined) return;
    try {
      for (let at = 0; at < piece.length;) at += writeSync(this.#descriptor, piece, at);
      this.#hash.update(piece);
    } catch {
      this.drop();
    }
  }

  /** Gives the copy its name, if its bytes are those that the name stands for. */
  publish(): void {
    if (this.#descriptor === undefined) return;
    if (!this.#path.endsWith(this.#hash.digest("hex"))) return this.drop();
    try {
      fsyncSync(this.#descriptor);
      renameSync(this.#partPath, this.#path);
    } catch {
      return this.drop();
    }
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  /** Removes a copy that was not published. */
  drop(): void {
    if (this.#descriptor === undefined) return;
    closeSync(this.#descriptor);
    this.#descriptor = undefined;
    rmSync(this.#partPath, { force: true });
  }
}
