/**
 * Digests of blocks, and the hash tree that is built from them incrementally. A digest is the SHA-256 of the salt
 * followed by the block. It is computed here or in a separate thread, so that hashing overlaps with reading and
 * writing; this module contains both ends of that thread.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import type { MessagePort } from "node:worker_threads";
import { derivedUuid, formatUuid } from "../bytes/digest.ts";
import { isZero } from "../bytes/arithmetic.ts";
import { invariant } from "../errors.ts";
import { descriptorReader, type RandomReader, readExactly } from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";
import { Thread, type ThreadOptions } from "../io/thread.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../io/spool.ts";
import {
  DIGEST_BYTES,
  DIGESTS_PER_BLOCK,
  encodeVeritySuperblock,
  type TreeShape,
  treeShape,
  VERITY_BLOCK_BYTES,
  type VerityParameters,
} from "./format.ts";

/** Computes digests with one salt. The digest of an all-zero block is computed only once. */
export class BlockDigests {
  readonly #salt: Uint8Array;
  readonly #zeroHex: string;
  readonly zeroDigest: Uint8Array;

  constructor(salt: Uint8Array) {
    this.#salt = salt;
    this.zeroDigest = this.digest(new Uint8Array(VERITY_BLOCK_BYTES));
    this.#zeroHex = Buffer.from(this.zeroDigest).toString("hex");
  }

  digest(block: Uint8Array): Uint8Array {
    return createHash("sha256").update(this.#salt).update(block).digest();
  }

  digests(blocks: Uint8Array): Uint8Array<ArrayBuffer> {
    // Collects digests as hex and decodes them once: a buffer for each digest would take a third of the time of
    // hashing.
    let hex = "";
    for (let at = 0; at < blocks.length; at += VERITY_BLOCK_BYTES) {
      const block = blocks.subarray(at, at + VERITY_BLOCK_BYTES);
      hex += isZero(block)
        ? this.#zeroHex
        : createHash("sha256").update(this.#salt).update(block).digest("hex");
    }
    return new Uint8Array(Buffer.from(hex, "hex"));
  }
}

export interface HashedBlocks {
  /** 32 bytes per block. */
  readonly digests: Uint8Array;
  /** The buffer that held the blocks, for reuse. */
  readonly buffer: ArrayBuffer;
}

export interface BlockHasher {
  /** Takes ownership of a buffer until its blocks are hashed. Results come in the order of the calls. */
  hash(buffer: ArrayBuffer, lengthBytes: number): HashedBlocks | Promise<HashedBlocks>;
  /** Ends the thread; pending calls fail. */
  close(): Promise<void>;
}

// Buffers rather than views: Deno visits every element of a posted view.
interface Job {
  readonly buffer: ArrayBuffer;
  readonly lengthBytes: number;
}

interface Outcome {
  readonly buffer: ArrayBuffer;
  readonly digests: ArrayBuffer;
}

/** Hashes in the calling thread, for data too small to be worth a separate thread. */
export function hashHere(salt: Uint8Array): BlockHasher {
  const digests = new BlockDigests(salt);
  return {
    hash: (buffer, lengthBytes) => ({
      buffer,
      digests: digests.digests(new Uint8Array(buffer, 0, lengthBytes)),
    }),
    close: () => Promise.resolve(),
  };
}

export class HashThread implements BlockHasher {
  readonly #thread: Thread<Job, Outcome>;
  readonly #pending: {
    readonly resolve: (hashed: HashedBlocks) => void;
    readonly reject: (reason: unknown) => void;
  }[] = [];
  #dead: { readonly reason: unknown } | undefined;

  constructor(salt: Uint8Array, options: ThreadOptions = {}) {
    this.#thread = new Thread({
      role: "hashes",
      setup: { salt },
      purpose: "hashes blocks",
      workerUrl: options.workerUrl,
      receive: ({ buffer, digests }) => {
        const next = this.#pending.shift();
        invariant(next !== undefined, "an answer without a request");
        next.resolve({ buffer, digests: new Uint8Array(digests) });
      },
      die: (reason) => this.#die(reason),
    });
  }

  hash(buffer: ArrayBuffer, lengthBytes: number): Promise<HashedBlocks> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead.reason);
    const hashed = new Promise<HashedBlocks>((resolve, reject) => {
      this.#pending.push({ resolve, reject });
    });
    const job: Job = { buffer, lengthBytes };
    this.#thread.post(job, [buffer]);
    return hashed;
  }

  async close(): Promise<void> {
    this.#die(new Error("The thread that hashes blocks was closed"));
    await this.#thread.terminate();
  }

  #die(reason: unknown): void {
    this.#dead ??= { reason };
    for (const { reject } of this.#pending.splice(0)) reject(this.#dead.reason);
  }
}

/** The thread's end: hashes the blocks that it receives. */
export function serveHashes(port: MessagePort, { salt }: { readonly salt: Uint8Array }): void {
  const hasher = new BlockDigests(new Uint8Array(salt));
  port.on("message", ({ buffer, lengthBytes }: Job) => {
    const { buffer: digests } = hasher.digests(new Uint8Array(buffer, 0, lengthBytes));
    const outcome: Outcome = { buffer, digests };
    port.postMessage(outcome, [buffer, digests]);
  });
}

const PIECE_BYTES = 1 << 20;
/** Enough for the tree of 8 GiB of data. */
const MEMORY_BYTES_MAX = 64 << 20;

/** A part of a level: stored blocks, or one block repeated. */
type Run =
  | { readonly kind: "kept"; blockCount: number }
  | { readonly kind: "repeated"; readonly block: Uint8Array; blockCount: number };

/** The blocks of one level. */
export class LevelBlocks {
  readonly #tmpdir: string;
  readonly #memoryBytesMax: number;
  readonly #runs: Run[] = [];
  readonly #pieces: Uint8Array[] = [];
  /** Bytes of `#pieces` in use; all but the last are full. */
  #memoryBytes = 0;
  #spool: { readonly reader: RandomReader; readonly writer: SpoolWriter } | undefined;

  /**
   * @param directory for blocks that do not fit in memory; the system's temporary directory when left out
   * @param memoryBytesMax how many bytes are kept in memory
   */
  constructor(directory?: string, memoryBytesMax = MEMORY_BYTES_MAX) {
    this.#tmpdir = directory ?? tmpdir();
    this.#memoryBytesMax = memoryBytesMax;
  }

  /** Adds a copy of a block. */
  append(block: Uint8Array): void {
    const last = this.#runs.at(-1);
    if (last?.kind === "kept") last.blockCount++;
    else this.#runs.push({ kind: "kept", blockCount: 1 });
    if (this.#memoryBytes >= this.#memoryBytesMax) return this.#openSpool().append(block);
    const inPiece = this.#memoryBytes % PIECE_BYTES;
    if (inPiece === 0) this.#pieces.push(new Uint8Array(PIECE_BYTES));
    this.#pieces.at(-1)!.set(block, inPiece);
    this.#memoryBytes += VERITY_BLOCK_BYTES;
  }

  /** Adds a block several times. The block is not copied and must not change. */
  appendRepeated(block: Uint8Array, blockCount: number): void {
    const last = this.#runs.at(-1);
    if (last?.kind === "repeated" && last.block === block) last.blockCount += blockCount;
    else this.#runs.push({ kind: "repeated", block, blockCount });
  }

  /** All blocks in order, in pieces of at most 1 MiB. A piece is valid until the next one is read. */
  *read(): Generator<Uint8Array> {
    this.#spool?.writer.flush();
    const buffer = new Uint8Array(PIECE_BYTES);
    let keptOffset = 0;
    for (const run of this.#runs) {
      let leftBytes = run.blockCount * VERITY_BLOCK_BYTES;
      if (run.kind === "repeated") {
        fillWith(run.block, buffer.subarray(0, Math.min(leftBytes, PIECE_BYTES)));
      }
      while (leftBytes > 0) {
        const piece = run.kind === "repeated"
          ? buffer.subarray(0, Math.min(leftBytes, PIECE_BYTES))
          : this.#readKept(keptOffset, leftBytes, buffer);
        if (run.kind === "kept") keptOffset += piece.length;
        leftBytes -= piece.length;
        yield piece;
      }
    }
  }

  close(): void {
    this.#spool?.reader.close();
    this.#spool = undefined;
  }

  #readKept(offset: number, leftBytes: number, buffer: Uint8Array): Uint8Array {
    if (offset < this.#memoryBytes) {
      const piece = this.#pieces[Math.floor(offset / PIECE_BYTES)]!;
      const inPiece = offset % PIECE_BYTES;
      const end = Math.min(PIECE_BYTES, inPiece + leftBytes, inPiece + this.#memoryBytes - offset);
      return piece.subarray(inPiece, end);
    }
    invariant(this.#spool !== undefined, "blocks beyond memory are in a file");
    const piece = buffer.subarray(0, Math.min(leftBytes, PIECE_BYTES));
    readExactly(this.#spool.reader, piece, offset - this.#memoryBytes);
    return piece;
  }

  #openSpool(): SpoolWriter {
    if (this.#spool === undefined) {
      const descriptor = createUnlinkedFile(this.#tmpdir);
      this.#spool = {
        reader: descriptorReader(descriptor, "the hash tree", Number.MAX_SAFE_INTEGER),
        writer: new SpoolWriter(singleFile(descriptor, this.#tmpdir)),
      };
    }
    return this.#spool.writer;
  }
}

function fillWith(block: Uint8Array, target: Uint8Array): void {
  for (let at = 0; at < target.length; at += block.length) target.set(block, at);
}

/** How a tree is built. */
export interface HashTreeOptions {
  /** The number of data blocks; at least 1. */
  readonly dataBlocks: number;
  /** The salt, which is hashed before every block; at most 256 bytes. */
  readonly salt: Uint8Array;
  /** The directory for a tree that does not fit in memory; the system's temporary directory when left out. */
  readonly tmpdir?: string | undefined;
}

/** A finished hash tree. */
export class HashTree {
  /** The sizes and positions of the tree's parts. */
  readonly shape: TreeShape;
  /** The root hash, the salt, the UUID and the number of data blocks. */
  readonly parameters: VerityParameters;
  /** The superblock, which identifies the tree. */
  readonly superblock: Uint8Array;
  readonly #levels: readonly LevelBlocks[];

  /** Called by HashTreeBuilder. */
  constructor(
    shape: TreeShape,
    salt: Uint8Array,
    rootHash: Uint8Array,
    levels: readonly LevelBlocks[],
  ) {
    this.shape = shape;
    this.#levels = levels;
    // Derived from the root hash, so that equal trees have equal superblocks.
    const uuid = derivedUuid("blessfs verity uuid", rootHash);
    this.superblock = encodeVeritySuperblock({ uuid, dataBlocks: shape.dataBlocks, salt });
    this.parameters = {
      rootHash: hex(rootHash),
      salt: hex(salt),
      uuid: formatUuid(uuid),
      dataBlocks: shape.dataBlocks,
    };
  }

  /** Writes superblock and tree in ascending order; does not finish the sink. */
  async writeTo(sink: ImageSink, offset: number): Promise<void> {
    await sink.write(this.superblock, offset);
    await this.writeLevelsTo(sink, offset);
  }

  /** Writes the tree without the superblock, leaving room for it at `offset`. */
  async writeLevelsTo(sink: ImageSink, offset: number): Promise<void> {
    let at = offset + VERITY_BLOCK_BYTES;
    for (const level of this.#levels.toReversed()) {
      for (const piece of level.read()) {
        await sink.write(piece, at);
        at += piece.length;
      }
    }
    invariant(at === offset + this.shape.sizeBytes, `a tree that ends at ${at}`);
  }

  /** Releases the memory and temporary files of the tree. */
  close(): void {
    for (const level of this.#levels) level.close();
  }
}

interface OpenLevel {
  readonly blocks: LevelBlocks;
  /** The block being filled with digests. */
  readonly block: Uint8Array;
  filledBytes: number;
  /** A block of this level that covers only zeros. */
  readonly zeroBlock: Uint8Array;
}

/** Builds a tree from the digests of all data blocks, given in order. */
export class HashTreeBuilder {
  readonly #salt: Uint8Array;
  readonly #digests: BlockDigests;
  readonly #shape: TreeShape;
  /** The lowest level first. */
  readonly #levels: readonly OpenLevel[];
  /** The root hash of a tree over zeros only. */
  readonly #zeroRoot: Uint8Array;
  #root: Uint8Array | undefined;
  #takenBlocks = 0;

  constructor({ dataBlocks, salt, tmpdir }: HashTreeOptions) {
    invariant(dataBlocks >= 1, "a tree over no data");
    this.#salt = salt;
    this.#shape = treeShape(dataBlocks);
    this.#digests = new BlockDigests(salt);
    let zeroDigest = this.#digests.zeroDigest;
    this.#levels = this.#shape.levels.map(() => {
      const zeroBlock = new Uint8Array(VERITY_BLOCK_BYTES);
      fillWith(zeroDigest, zeroBlock);
      zeroDigest = this.#digests.digest(zeroBlock);
      const blocks = new LevelBlocks(tmpdir);
      return { blocks, block: new Uint8Array(VERITY_BLOCK_BYTES), filledBytes: 0, zeroBlock };
    });
    this.#zeroRoot = zeroDigest;
  }

  /** Adds the digests of the next data blocks, 32 bytes each. */
  addDigests(digests: Uint8Array): void {
    this.#takenBlocks += digests.length / DIGEST_BYTES;
    this.#add(0, digests);
  }

  /** Adds data blocks that are all zeros. */
  addZeroBlocks(count: number): void {
    this.#takenBlocks += count;
    this.#addZeros(0, count);
  }

  finish(): HashTree {
    const { dataBlocks } = this.#shape;
    invariant(
      this.#takenBlocks === dataBlocks,
      `digests of ${this.#takenBlocks} blocks: wanted ${dataBlocks}`,
    );
    this.#levels.forEach(({ block, filledBytes }, index) => {
      if (filledBytes === 0) return;
      // The rest of the last block is zeros.
      block.fill(0, filledBytes);
      this.#endBlock(index);
    });
    invariant(this.#root !== undefined, "a tree without a root");
    const blocks = this.#levels.map((level) => level.blocks);
    return new HashTree(this.#shape, this.#salt, this.#root, blocks);
  }

  close(): void {
    for (const { blocks } of this.#levels) blocks.close();
  }

  #add(index: number, digests: Uint8Array): void {
    const level = this.#levels[index];
    if (level === undefined) {
      const isFirst = digests.length === DIGEST_BYTES && this.#root === undefined;
      invariant(isFirst, "a tree has one root");
      this.#root = digests.slice();
      return;
    }
    for (let at = 0; at < digests.length;) {
      const part = digests.subarray(at, at + VERITY_BLOCK_BYTES - level.filledBytes);
      level.block.set(part, level.filledBytes);
      level.filledBytes += part.length;
      at += part.length;
      if (level.filledBytes === VERITY_BLOCK_BYTES) this.#endBlock(index);
    }
  }

  #addZeros(index: number, count: number): void {
    const level = this.#levels[index];
    if (level === undefined) {
      invariant(count === 1, "a tree has one root");
      return this.#add(index, this.#zeroRoot);
    }
    const { zeroBlock, filledBytes, blocks } = level;
    const filled = filledBytes / DIGEST_BYTES;
    const before = filled === 0 ? 0 : Math.min(count, DIGESTS_PER_BLOCK - filled);
    if (before > 0) this.#add(index, zeroBlock.subarray(0, before * DIGEST_BYTES));
    const whole = Math.floor((count - before) / DIGESTS_PER_BLOCK);
    if (whole > 0) {
      blocks.appendRepeated(zeroBlock, whole);
      this.#addZeros(index + 1, whole);
    }
    const after = count - before - whole * DIGESTS_PER_BLOCK;
    if (after > 0) this.#add(index, zeroBlock.subarray(0, after * DIGEST_BYTES));
  }

  #endBlock(index: number): void {
    const level = this.#levels[index]!;
    level.filledBytes = 0;
    level.blocks.append(level.block);
    this.#add(index + 1, this.#digests.digest(level.block));
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
