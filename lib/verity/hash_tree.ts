/**
 * Building a hash tree from the digests of the data blocks, as they come.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { tmpdir } from "node:os";
import { derivedUuid, formatUuid } from "../bytes/uuid.ts";
import { invariant } from "../errors.ts";
import { descriptorReader, type RandomReader, readExactly } from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../io/spool.ts";
import {
  DIGEST_BYTES,
  DIGESTS_PER_BLOCK,
  encodeVeritySuperblock,
  type TreeShape,
  treeShape,
  VERITY_BLOCK_BYTES,
} from "./format.ts";
import { BlockDigests } from "./hasher.ts";

const PIECE_BYTES = 1 << 20;
/** The tree of 8 GiB of data. */
const MEMORY_BYTES_MAX = 64 << 20;

/** A part of a level: blocks that were kept, or one block several times. */
type Run =
  | { readonly kind: "kept"; blockCount: number }
  | { readonly kind: "repeated"; readonly block: Uint8Array; blockCount: number };

/** Keeps the blocks of a level. */
export class LevelBlocks {
  readonly #tmpdir: string;
  readonly #memoryBytesMax: number;
  readonly #runs: Run[] = [];
  readonly #pieces: Uint8Array[] = [];
  /** Bytes of `#pieces` in use; all but the last are full. */
  #memoryBytes = 0;
  #spool: { readonly reader: RandomReader; readonly writer: SpoolWriter } | undefined;

  /**
   * @param directory for what memory cannot hold; the system's when left out
   * @param memoryBytesMax how much is kept in memory
   */
  constructor(directory?: string, memoryBytesMax = MEMORY_BYTES_MAX) {
    this.#tmpdir = directory ?? tmpdir();
    this.#memoryBytesMax = memoryBytesMax;
  }

  /** Adds a block, which may be used again afterwards. */
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

  /** Adds a block several times. It is kept as it is, and must not change. */
  appendRepeated(block: Uint8Array, blockCount: number): void {
    const last = this.#runs.at(-1);
    if (last?.kind === "repeated" && last.block === block) last.blockCount += blockCount;
    else this.#runs.push({ kind: "repeated", block, blockCount });
  }

  /** All blocks in order, in pieces of at most 1 MiB. A piece is valid until the next is asked for. */
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

  /** Gives the file back. */
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

/** What a tree is made with. */
export interface HashTreeOptions {
  /** How many blocks of data there will be; at least 1. */
  readonly dataBlocks: number;
  /** Goes before every block that is hashed; at most 256 bytes. */
  readonly salt: Uint8Array;
  /** For a tree too large for memory; the system's when left out. */
  readonly tmpdir?: string | undefined;
}

/** What is known of a finished tree. */
export interface VerityParameters {
  /** In hexadecimal: what proves the whole image. */
  readonly rootHash: string;
  /** In hexadecimal; empty for none. */
  readonly salt: string;
  /** Of the superblock, in its usual form. */
  readonly uuid: string;
  /** How many blocks of 4096 bytes are covered. */
  readonly dataBlocks: number;
}

/** A tree whose data was hashed to the end. */
export class HashTree {
  /** Sizes and places. */
  readonly shape: TreeShape;
  /** Root hash, salt, UUID, and what they are over. */
  readonly parameters: VerityParameters;
  readonly #superblock: Uint8Array;
  readonly #levels: readonly LevelBlocks[];

  /** HashTreeBuilder makes it. */
  constructor(
    shape: TreeShape,
    salt: Uint8Array,
    rootHash: Uint8Array,
    levels: readonly LevelBlocks[],
  ) {
    this.shape = shape;
    this.#levels = levels;
    // From the root hash: equal trees have equal superblocks, whoever made them.
    const uuid = derivedUuid("blessfs verity uuid", rootHash);
    this.#superblock = encodeVeritySuperblock({ uuid, dataBlocks: shape.dataBlocks, salt });
    this.parameters = {
      rootHash: hex(rootHash),
      salt: hex(salt),
      uuid: formatUuid(uuid),
      dataBlocks: shape.dataBlocks,
    };
  }

  /** Writes superblock and tree in ascending order; does not finish the sink. */
  async writeTo(sink: ImageSink, offset: number): Promise<void> {
    await sink.write(this.#superblock, offset);
    await this.writeLevelsTo(sink, offset);
  }

  /** Writes the tree without the superblock, for which room is left at `offset`. */
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

  /** The block that makes the tree one that is recognised. */
  get superblock(): Uint8Array {
    return this.#superblock;
  }

  /** Gives back what keeps the tree. */
  close(): void {
    for (const level of this.#levels) level.close();
  }
}

/** Takes the digests of all data blocks in order. */
export class HashTreeBuilder {
  readonly #salt: Uint8Array;
  readonly #shape: TreeShape;
  readonly #levels: readonly LevelBuilder[];
  readonly #root = new RootSlot();
  #takenBlocks = 0;

  constructor({ dataBlocks, salt, tmpdir }: HashTreeOptions) {
    invariant(dataBlocks >= 1, "a tree over no data");
    this.#salt = salt;
    this.#shape = treeShape(dataBlocks);
    const digests = new BlockDigests(salt);
    const levels: LevelBuilder[] = [];
    let above: DigestTaker = this.#root;
    for (let i = 0; i < this.#shape.levels.length; i++) {
      const level = new LevelBuilder(digests, above, new LevelBlocks(tmpdir));
      levels.unshift(level);
      above = level;
    }
    this.#levels = levels;
    // Each level needs to know what stands for zeros in it.
    let zeroDigest = digests.zeroDigest;
    for (const level of levels) zeroDigest = level.useZeroDigest(zeroDigest);
    this.#root.zeroDigest = zeroDigest;
  }

  /** Of the data blocks that come next, 32 bytes each. */
  addDigests(digests: Uint8Array): void {
    this.#takenBlocks += digests.length / DIGEST_BYTES;
    this.#lowest.addDigests(digests);
  }

  /** The next data blocks are zeros. */
  addZeroBlocks(count: number): void {
    this.#takenBlocks += count;
    this.#lowest.addZeros(count);
  }

  /** All digests were given. */
  finish(): HashTree {
    const { dataBlocks } = this.#shape;
    invariant(
      this.#takenBlocks === dataBlocks,
      `digests of ${this.#takenBlocks} blocks: wanted ${dataBlocks}`,
    );
    for (const level of this.#levels) level.finish();
    const blocks = this.#levels.map(({ blocks }) => blocks);
    return new HashTree(this.#shape, this.#salt, this.#root.digest, blocks);
  }

  /** Gives up. */
  close(): void {
    for (const { blocks } of this.#levels) blocks.close();
  }

  get #lowest(): DigestTaker {
    return this.#levels[0] ?? this.#root;
  }
}

/** A level of the tree, or what is above the highest. */
interface DigestTaker {
  addDigests(digests: Uint8Array): void;
  addZeros(count: number): void;
}

class RootSlot implements DigestTaker {
  zeroDigest: Uint8Array = new Uint8Array(0);
  #digest: Uint8Array | undefined;

  get digest(): Uint8Array {
    invariant(this.#digest !== undefined, "a tree without a root");
    return this.#digest;
  }

  addDigests(digests: Uint8Array): void {
    invariant(
      digests.length === DIGEST_BYTES && this.#digest === undefined,
      "a tree has one root",
    );
    this.#digest = digests.slice();
  }

  addZeros(count: number): void {
    invariant(count === 1, "a tree has one root");
    this.addDigests(this.zeroDigest);
  }
}

class LevelBuilder implements DigestTaker {
  readonly #digests: BlockDigests;
  readonly #above: DigestTaker;
  readonly blocks: LevelBlocks;
  readonly #block = new Uint8Array(VERITY_BLOCK_BYTES);
  #filledBytes = 0;
  #zeroBlock = new Uint8Array(0);

  constructor(digests: BlockDigests, above: DigestTaker, blocks: LevelBlocks) {
    this.#digests = digests;
    this.#above = above;
    this.blocks = blocks;
  }

  /** @returns the digest of a block of this level that is over nothing but zeros */
  useZeroDigest(digest: Uint8Array): Uint8Array {
    const block = new Uint8Array(VERITY_BLOCK_BYTES);
    for (let at = 0; at < block.length; at += DIGEST_BYTES) block.set(digest, at);
    this.#zeroBlock = block;
    return this.#digests.digest(block);
  }

  addDigests(digests: Uint8Array): void {
    for (let at = 0; at < digests.length;) {
      const room = VERITY_BLOCK_BYTES - this.#filledBytes;
      const part = digests.subarray(at, at + room);
      this.#block.set(part, this.#filledBytes);
      this.#filledBytes += part.length;
      at += part.length;
      if (this.#filledBytes === VERITY_BLOCK_BYTES) this.#endBlock();
    }
  }

  addZeros(count: number): void {
    const filled = this.#filledBytes / DIGEST_BYTES;
    const before = filled === 0 ? 0 : Math.min(count, DIGESTS_PER_BLOCK - filled);
    if (before > 0) this.addDigests(this.#zeroBlock.subarray(0, before * DIGEST_BYTES));
    const whole = Math.floor((count - before) / DIGESTS_PER_BLOCK);
    if (whole > 0) {
      this.blocks.appendRepeated(this.#zeroBlock, whole);
      this.#above.addZeros(whole);
    }
    const after = count - before - whole * DIGESTS_PER_BLOCK;
    if (after > 0) this.addDigests(this.#zeroBlock.subarray(0, after * DIGEST_BYTES));
  }

  /** The room that is left in the last block is zeros. */
  finish(): void {
    if (this.#filledBytes === 0) return;
    this.#block.fill(0, this.#filledBytes);
    this.#endBlock();
  }

  #endBlock(): void {
    this.#filledBytes = 0;
    this.blocks.append(this.#block);
    this.#above.addDigests(this.#digests.digest(this.#block));
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
