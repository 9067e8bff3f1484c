/**
 * A sink that passes an image on and hashes it in the same pass. The tree goes behind the image or into a separate
 * file.
 *
 * @module
 */
import { invariant } from "../errors.ts";
import type { ImageSink } from "../io/sink.ts";
import type { ThreadOptions } from "../io/thread.ts";
import { DIGEST_BYTES, VERITY_BLOCK_BYTES, type VerityReport } from "./format.ts";
import {
  type BlockHasher,
  type HashedBlocks,
  hashHere,
  HashThread,
  type HashTree,
  HashTreeBuilder,
  type HashTreeOptions,
} from "./hash_tree.ts";

const PIECE_BYTES = 1 << 20;
/** Pieces that the thread has received and not hashed yet. */
const UNDERWAY_MAX = 4;
/** 256 MiB: starting a thread takes as long as hashing a tenth of this. */
const THREAD_BLOCKS_MIN = 65536;

/** The blocks of a piece: `blocks` that are in its buffer, followed by `zeros` that are not. */
interface Part {
  blocks: number;
  zeros: number;
}

/** How a tree is built. */
export interface TreeSinkOptions extends HashTreeOptions, ThreadOptions {
  /** Hash in a separate thread; by default, only where the data is large enough. */
  readonly threaded?: boolean | undefined;
}

/**
 * Hashes an image in blocks of 4096 bytes and keeps only the tree. Use VeritySink to write the image as well.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { CONSTANT_SALT } from "./format.ts";
 * import { TreeSink } from "./verity_sink.ts";
 *
 * const sink = new TreeSink({ dataBlocks: 2, salt: CONSTANT_SALT });
 * await sink.write(new TextEncoder().encode("hello"), 4096);
 * await sink.finish(8192);
 * assertEquals(sink.tree.shape.sizeBytes, 8192);
 * assertEquals(sink.tree.parameters.rootHash.length, 64);
 * sink.tree.close();
 * ```
 */
export class TreeSink implements ImageSink {
  readonly #builder: HashTreeBuilder;
  readonly #hasher: BlockHasher;
  readonly #dataBytes: number;
  readonly #spareBuffers: ArrayBuffer[] = [];
  readonly #underway: Promise<void>[] = [];
  #failure: { readonly error: unknown } | undefined;
  #bytes: Uint8Array | undefined;
  #filledBytes = 0;
  #parts: Part[] = [];
  #endOffset = 0;
  #tree: HashTree | undefined;
  #isClosed = false;

  /** The image starts at offset 0. */
  constructor(options: TreeSinkOptions) {
    const { dataBlocks, salt, threaded = dataBlocks >= THREAD_BLOCKS_MIN } = options;
    this.#builder = new HashTreeBuilder(options);
    this.#hasher = threaded ? new HashThread(salt, options) : hashHere(salt);
    this.#dataBytes = dataBlocks * VERITY_BLOCK_BYTES;
  }

  /** The finished tree, which the caller must close. Available after `finish`. */
  get tree(): HashTree {
    invariant(this.#tree !== undefined, "the tree of an image that has not ended");
    return this.#tree;
  }

  /** Copies the bytes. @returns a promise to await when enough pieces are in flight */
  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    this.#throwIfFailed();
    this.#skipTo(offset);
    for (let done = 0; done < bytes.length;) {
      const target = this.#room();
      const part = bytes.subarray(done, done + target.length);
      target.set(part);
      this.#advance(part.length);
      done += part.length;
    }
    if (this.#underway.length > UNDERWAY_MAX) return this.#waitForRoom();
  }

  async finish(sizeBytes: number): Promise<void> {
    invariant(
      sizeBytes === this.#dataBytes,
      `data ends at ${sizeBytes}: wanted ${this.#dataBytes}`,
    );
    this.#throwIfFailed();
    this.#skipTo(sizeBytes);
    this.#send();
    while (this.#underway.length > 0) await this.#underway.shift();
    this.#throwIfFailed();
    this.#tree = this.#builder.finish();
    this.#isClosed = true;
    await this.#hasher.close();
  }

  async abort(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#failure ??= { error: new Error("the tree was aborted") };
    await this.#hasher.close();
    this.#builder.close();
  }

  /** Skips zeros up to an offset: a partial block is filled in the buffer, whole blocks are only counted. */
  #skipTo(offset: number): void {
    invariant(offset >= this.#endOffset, `a write at ${offset} behind ${this.#endOffset}`);
    const open = this.#endOffset % VERITY_BLOCK_BYTES;
    if (open !== 0) {
      this.#addZeroBytes(Math.min(VERITY_BLOCK_BYTES - open, offset - this.#endOffset));
    }
    const zeroBlocks = Math.floor((offset - this.#endOffset) / VERITY_BLOCK_BYTES);
    if (zeroBlocks > 0) {
      if (this.#parts.length === 0) this.#parts.push({ blocks: 0, zeros: 0 });
      this.#parts.at(-1)!.zeros += zeroBlocks;
      this.#endOffset += zeroBlocks * VERITY_BLOCK_BYTES;
    }
    if (offset > this.#endOffset) this.#addZeroBytes(offset - this.#endOffset);
  }

  /** @param count at most the rest of the block */
  #addZeroBytes(count: number): void {
    if (count === 0) return;
    this.#room().fill(0, 0, count);
    this.#advance(count);
  }

  #room(): Uint8Array {
    this.#bytes ??= new Uint8Array(this.#spareBuffers.pop() ?? new ArrayBuffer(PIECE_BYTES));
    return this.#bytes.subarray(this.#filledBytes);
  }

  #advance(count: number): void {
    const before = Math.ceil(this.#filledBytes / VERITY_BLOCK_BYTES);
    this.#filledBytes += count;
    this.#endOffset += count;
    const begun = Math.ceil(this.#filledBytes / VERITY_BLOCK_BYTES) - before;
    if (begun > 0) {
      const last = this.#parts.at(-1);
      if (last === undefined || last.zeros > 0) this.#parts.push({ blocks: begun, zeros: 0 });
      else last.blocks += begun;
    }
    if (this.#filledBytes === PIECE_BYTES) this.#send();
  }

  /** Passes the collected blocks to the hasher. The last one must be complete. */
  #send(): void {
    const parts = this.#parts;
    const bytes = this.#bytes;
    const filledBytes = this.#filledBytes;
    [this.#parts, this.#bytes, this.#filledBytes] = [[], undefined, 0];
    const hashed = bytes === undefined
      ? undefined
      : this.#hasher.hash(bytes.buffer as ArrayBuffer, filledBytes);
    const before = this.#underway.at(-1);
    if (before === undefined && !(hashed instanceof Promise)) this.#add(parts, hashed);
    else this.#underway.push(this.#addLater(parts, hashed, before));
  }

  /** Adds digests in block order. The next call reports a failure. */
  async #addLater(
    parts: readonly Part[],
    hashed: HashedBlocks | Promise<HashedBlocks> | undefined,
    before: Promise<void> | undefined,
  ): Promise<void> {
    try {
      const done = await hashed;
      await before;
      this.#add(parts, done);
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  #add(parts: readonly Part[], hashed: HashedBlocks | undefined): void {
    if (this.#failure !== undefined) return;
    let at = 0;
    for (const { blocks, zeros } of parts) {
      const digests = hashed?.digests.subarray(at, at + blocks * DIGEST_BYTES);
      if (digests !== undefined && blocks > 0) this.#builder.addDigests(digests);
      at += blocks * DIGEST_BYTES;
      if (zeros > 0) this.#builder.addZeroBlocks(zeros);
    }
    if (hashed !== undefined) this.#spareBuffers.push(hashed.buffer);
  }

  async #waitForRoom(): Promise<void> {
    while (this.#underway.length > UNDERWAY_MAX) await this.#underway.shift();
    this.#throwIfFailed();
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** The report of a tree written at `hashOffset`. */
export function verityReport(tree: HashTree, hashOffset: number): VerityReport {
  return { ...tree.parameters, hashOffset, hashBytes: tree.shape.sizeBytes };
}

/** How the tree is built and where it goes. */
export interface VeritySinkOptions extends TreeSinkOptions {
  /** Receives superblock and tree from offset 0; when left out, they are written behind the image. */
  readonly hashSink?: ImageSink | undefined;
}

/**
 * Builds the tree of the image that it passes on. A separate tree file is finished before the image, so an image never
 * exists without its tree, and none is left if the tree does not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { nullSink } from "../io/sink.ts";
 * import { CONSTANT_SALT } from "./format.ts";
 * import { VeritySink } from "./verity_sink.ts";
 *
 * const sink = new VeritySink(nullSink, { dataBlocks: 4, salt: CONSTANT_SALT });
 * await sink.write(Uint8Array.of(1, 2, 3), 1024);
 * await sink.finish(16384);
 * assertEquals(sink.report.hashOffset, 16384);
 * ```
 */
export class VeritySink implements ImageSink {
  readonly #image: ImageSink;
  readonly #hashSink: ImageSink | undefined;
  readonly #tree: TreeSink;
  #report: VerityReport | undefined;

  /**
   * The image starts at offset 0.
   *
   * @param image receives the image, followed by the tree unless that goes elsewhere
   */
  constructor(image: ImageSink, options: VeritySinkOptions) {
    this.#image = image;
    this.#hashSink = options.hashSink;
    this.#tree = new TreeSink(options);
  }

  /** The report of the tree, once the image is finished. */
  get report(): VerityReport | undefined {
    return this.#report;
  }

  write(bytes: Uint8Array, offset: number): void | Promise<void> {
    const hashed = this.#tree.write(bytes, offset);
    const written = this.#image.write(bytes, offset);
    if (hashed === undefined) return written;
    return Promise.all([hashed, written]).then(() => {});
  }

  async finish(sizeBytes: number): Promise<void> {
    await this.#tree.finish(sizeBytes);
    const { tree } = this.#tree;
    try {
      const hashSink = this.#hashSink;
      if (hashSink === undefined) {
        await tree.writeTo(this.#image, sizeBytes);
        await this.#image.finish(sizeBytes + tree.shape.sizeBytes);
      } else {
        await tree.writeTo(hashSink, 0);
        await hashSink.finish(tree.shape.sizeBytes);
        await this.#image.finish(sizeBytes);
      }
      this.#report = verityReport(tree, hashSink === undefined ? sizeBytes : 0);
    } finally {
      tree.close();
    }
  }

  async abort(): Promise<void> {
    await this.#tree.abort();
    try {
      await this.#hashSink?.abort();
    } finally {
      await this.#image.abort();
    }
  }
}

/** The number of data blocks in an image of `sizeBytes`; undefined when the size is 0 or not a multiple of a block. */
export function dataBlocksOf(sizeBytes: number): number | undefined {
  const blocks = sizeBytes / VERITY_BLOCK_BYTES;
  return Number.isInteger(blocks) && blocks > 0 ? blocks : undefined;
}
