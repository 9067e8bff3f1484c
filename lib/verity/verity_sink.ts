/**
 * A sink that passes an image on and puts its hash tree behind it, or into a file of its own: hashed in the pass that
 * writes.
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
/** Pieces that were given to the thread and are not hashed yet. */
const UNDERWAY_MAX = 4;
/** Starting a thread takes as long as hashing a tenth of this: 256 MiB. */
const THREAD_BLOCKS_MIN = 65536;

/** Which blocks a piece holds: `blocks` that are in its buffer, then `zeros` that are not. */
interface Part {
  blocks: number;
  zeros: number;
}

/** How a tree is made. */
export interface TreeSinkOptions extends HashTreeOptions, ThreadOptions {
  /** Hash in a thread of its own, side by side with what the caller does; default: where it pays. */
  readonly threaded?: boolean | undefined;
}

/**
 * Hashes an image in blocks of 4096 bytes. It keeps nothing but the tree: to write the image as well, use VeritySink.
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

  /** Begins at offset 0 of the image. */
  constructor(options: TreeSinkOptions) {
    const { dataBlocks, salt, threaded = dataBlocks >= THREAD_BLOCKS_MIN } = options;
    this.#builder = new HashTreeBuilder(options);
    this.#hasher = threaded ? new HashThread(salt, options) : hashHere(salt);
    this.#dataBytes = dataBlocks * VERITY_BLOCK_BYTES;
  }

  /** Once it is finished; the caller closes it. */
  get tree(): HashTree {
    invariant(this.#tree !== undefined, "the tree of an image that has not ended");
    return this.#tree;
  }

  /** The bytes may be used again at once. @returns what to wait for when enough is on its way */
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

  /** Zeros up to an offset: those that complete a block go into the buffer, whole blocks of them are counted. */
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

  /** @param count no further than the end of the block */
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

  /** Gives what was collected to the hasher. It ends with a block. */
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

  /** Digests are added in the order of their blocks. A failure comes out of the next call. */
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

/** The report of a tree at an offset. */
export function verityReport(tree: HashTree, hashOffset: number): VerityReport {
  return { ...tree.parameters, hashOffset, hashBytes: tree.shape.sizeBytes };
}

/** Where the tree goes. */
export interface VeritySinkOptions extends TreeSinkOptions {
  /** Takes superblock and tree, from offset 0; behind the image when left out. */
  readonly hashSink?: ImageSink | undefined;
}

/**
 * Makes the tree of the image that it passes on. A tree in a file of its own is finished first, so that an image always has
 * its tree, and a tree that has no room leaves no image.
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
   * Begins at offset 0 of the image.
   *
   * @param image takes the image, and what is behind it
   */
  constructor(image: ImageSink, options: VeritySinkOptions) {
    this.#image = image;
    this.#hashSink = options.hashSink;
    this.#tree = new TreeSink(options);
  }

  /** Once the image is finished. */
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

/** How many blocks of data an image of so many bytes has; undefined when it is not whole blocks, or nothing. */
export function dataBlocksOf(sizeBytes: number): number | undefined {
  const blocks = sizeBytes / VERITY_BLOCK_BYTES;
  return Number.isInteger(blocks) && blocks > 0 ? blocks : undefined;
}
