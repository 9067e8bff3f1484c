/**
 * Verifies data against its hash tree, and the tree against its root hash, in one pass and without privileges. The
 * kernel does the same for each block that is read; this checks all blocks.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { InputError, throwIfAborted } from "../errors.ts";
import { type RandomReader, readExactly } from "../io/random_reader.ts";
import type { ThreadOptions } from "../io/thread.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import {
  decodeVeritySuperblock,
  DIGEST_BYTES,
  DIGESTS_PER_BLOCK,
  type TreeShape,
  treeShape,
  VERITY_BLOCK_BYTES,
  type VeritySuperblock,
} from "./format.ts";
import {
  BlockDigests,
  type BlockHasher,
  type HashedBlocks,
  hashHere,
  HashThread,
} from "./hash_tree.ts";

/** Where the data and the tree are. */
export interface VerityPlace {
  /** The file or device that holds the data. */
  readonly data: RandomReader;
  /** The offset of the hashed blocks in `data`; default 0. */
  readonly dataOffset?: number | undefined;
  /** The file or device that holds the tree; may be the same as `data`. */
  readonly hash: RandomReader;
  /** The offset of the superblock in `hash`. */
  readonly hashOffset: number;
  /** The offset of the partition that holds the tree; default 0. */
  readonly hashStart?: number | undefined;
}

/** A damaged block. */
export interface VerityFinding {
  /** `root`: the top block of the tree does not match the root hash. */
  readonly kind: "data" | "tree" | "root";
  /** The offset of the block in its file. */
  readonly offset: number;
  /** The digest of the block, in hexadecimal. */
  readonly found: string;
  /** The expected digest, from the block above or the root hash. */
  readonly wanted: string;
}

/** The result of a verification. */
export interface VerityCheck {
  /** Whether everything matches. */
  readonly clean: boolean;
  /** The root hash computed from the tree, in hexadecimal. */
  readonly rootHash: string;
  /** The number of data blocks. */
  readonly dataBlocks: number;
  /** The number of data blocks that do not match their digest. */
  readonly damagedDataBlocks: number;
  /** The number of damaged tree blocks, including the root. */
  readonly damagedTreeBlocks: number;
  /** The first findings. */
  readonly findings: readonly VerityFinding[];
}

/** How a tree is verified. */
export interface VerifyTreeOptions extends ThreadOptions {
  /** The expected root hash in hexadecimal; without it, the tree is only checked for consistency. */
  readonly rootHash?: string | undefined;
  /** The most findings to list; all are counted. Default 100. */
  readonly findingsMax?: number | undefined;
  /** Stops the work when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter. */
  readonly progress?: Progress | undefined;
  /** Hash in a separate thread; by default, only where the data is large enough. */
  readonly threaded?: boolean | undefined;
}

const PIECE_BLOCKS = 256;
/** Pieces that are read ahead while the thread hashes. */
const UNDERWAY_MAX = 3;
const THREAD_BLOCKS_MIN = 8192;
const FINDINGS_DEFAULT = 100;

/** Reads the superblock of a tree. @throws {InputError} when there is none, or one that is not supported */
export function readVeritySuperblock(
  hash: RandomReader,
  hashOffset: number,
): VeritySuperblock {
  const block = new Uint8Array(VERITY_BLOCK_BYTES);
  const count = hash.readAt(block, hashOffset);
  if (count < VERITY_BLOCK_BYTES) {
    throw new InputError(
      hash.name,
      `ends at offset ${hash.sizeBytes}: wanted a verity superblock at ${hashOffset}`,
    );
  }
  return decodeVeritySuperblock(block, `${hash.name}, offset ${hashOffset}`);
}

/**
 * The root hash of a tree, computed from its top block alone, for a first comparison with the expected one.
 *
 * @throws {InputError} when the tree is cut off
 */
export function readRootHash(place: VerityPlace, superblock: VeritySuperblock): string {
  const shape = checkedShape(place, superblock);
  return readRoot(place, shape, new BlockDigests(superblock.salt)).digest;
}

/** The digest and position of the top block of the tree, or of the data block if there is only one. */
function readRoot(
  { data, dataOffset = 0, hash, hashOffset }: VerityPlace,
  { levels }: TreeShape,
  digests: BlockDigests,
) {
  const kind = levels.length === 0 ? "data" : "root";
  const offset = kind === "data" ? dataOffset : hashOffset + VERITY_BLOCK_BYTES;
  const block = new Uint8Array(VERITY_BLOCK_BYTES);
  readExactly(kind === "data" ? data : hash, block, offset);
  return { kind, offset, digest: hex(digests.digest(block)) } as const;
}

/**
 * Verifies every block of the tree and the data. Damage is reported, not thrown.
 *
 * @throws {InputError} when the tree is cut off, unsupported, or covers more data than there is
 * @throws {InterruptedError} when the signal is aborted
 */
export async function verifyTree(
  place: VerityPlace,
  options: VerifyTreeOptions,
): Promise<VerityCheck> {
  const superblock = readVeritySuperblock(place.hash, place.hashOffset);
  const shape = checkedShape(place, superblock);
  const { threaded = shape.dataBlocks >= THREAD_BLOCKS_MIN } = options;
  const hasher = threaded ? new HashThread(superblock.salt, options) : hashHere(superblock.salt);
  try {
    return await new TreeVerifier(place, shape, superblock, options).run(hasher);
  } finally {
    await hasher.close();
  }
}

function checkedShape(
  { data, dataOffset = 0, hash, hashOffset }: VerityPlace,
  { dataBlocks }: VeritySuperblock,
): TreeShape {
  const shape = treeShape(dataBlocks);
  const treeEnd = hashOffset + shape.sizeBytes;
  if (hash.sizeBytes < treeEnd) {
    throw new InputError(
      hash.name,
      `is cut off: the hash tree over ${dataBlocks} blocks at offset ${hashOffset} ends at ${treeEnd}, ` +
        `the file at ${hash.sizeBytes}`,
      { data: { expected: treeEnd, actual: hash.sizeBytes } },
    );
  }
  const dataEnd = dataOffset + dataBlocks * VERITY_BLOCK_BYTES;
  if (data.sizeBytes < dataEnd) {
    throw new InputError(
      data.name,
      `is cut off: the hash tree covers ${dataEnd - dataOffset} bytes, found ` +
        `${Math.max(data.sizeBytes - dataOffset, 0)}`,
      { data: { expected: dataEnd, actual: data.sizeBytes } },
    );
  }
  return shape;
}

class TreeVerifier {
  readonly #place: VerityPlace;
  readonly #shape: TreeShape;
  readonly #digests: BlockDigests;
  readonly #options: VerifyTreeOptions;
  readonly #findings: VerityFinding[] = [];
  #damagedDataBlocks = 0;
  #damagedTreeBlocks = 0;

  constructor(
    place: VerityPlace,
    shape: TreeShape,
    superblock: VeritySuperblock,
    options: VerifyTreeOptions,
  ) {
    this.#place = place;
    this.#shape = shape;
    this.#digests = new BlockDigests(superblock.salt);
    this.#options = options;
  }

  async run(hasher: BlockHasher): Promise<VerityCheck> {
    const { progress = NO_PROGRESS } = this.#options;
    const { dataBlocks, levels } = this.#shape;
    const task = progress.begin("verity", dataBlocks * VERITY_BLOCK_BYTES);
    try {
      const rootHash = this.#checkRoot();
      for (let level = levels.length - 1; level > 0; level--) await this.#checkLevel(level);
      if (levels.length > 0) await this.#checkData(hasher, (bytes) => task.advance(bytes));
      return {
        clean: this.#damagedDataBlocks + this.#damagedTreeBlocks === 0,
        rootHash,
        dataBlocks,
        damagedDataBlocks: this.#damagedDataBlocks,
        damagedTreeBlocks: this.#damagedTreeBlocks,
        findings: this.#findings,
      };
    } finally {
      task.end();
    }
  }

  #checkRoot(): string {
    const { kind, offset, digest: found } = readRoot(this.#place, this.#shape, this.#digests);
    const wanted = this.#options.rootHash?.toLowerCase() ?? found;
    if (found !== wanted) this.#add({ kind, offset, found, wanted });
    return found;
  }

  /** Compares the blocks of the level below with the digests in a level. */
  async #checkLevel(level: number): Promise<void> {
    const below = this.#shape.levels[level - 1]!;
    const block = new Uint8Array(VERITY_BLOCK_BYTES);
    let digests: Uint8Array = new Uint8Array(0);
    for (let i = 0; i < below.blockCount; i++) {
      if (i % DIGESTS_PER_BLOCK === 0) {
        digests = this.#readDigests(level, i, Math.min(DIGESTS_PER_BLOCK, below.blockCount - i));
        await this.#yield();
      }
      const offset = this.#treeOffset(below.startBlock + i);
      readExactly(this.#place.hash, block, offset);
      this.#compare("tree", offset, this.#digests.digest(block), digests, i % DIGESTS_PER_BLOCK);
    }
  }

  async #checkData(hasher: BlockHasher, advance: (bytes: number) => void): Promise<void> {
    const { data, dataOffset = 0 } = this.#place;
    const { dataBlocks } = this.#shape;
    const underway: { block: number; hashed: HashedBlocks | Promise<HashedBlocks> }[] = [];
    const spare: ArrayBuffer[] = [];
    const takeOne = async () => {
      const { block, hashed } = underway.shift()!;
      const { digests, buffer } = await hashed;
      this.#checkPiece(block, digests);
      advance(digests.length / DIGEST_BYTES * VERITY_BLOCK_BYTES);
      spare.push(buffer);
    };
    for (let block = 0; block < dataBlocks; block += PIECE_BLOCKS) {
      const lengthBytes = Math.min(PIECE_BLOCKS, dataBlocks - block) * VERITY_BLOCK_BYTES;
      const buffer = spare.pop() ?? new ArrayBuffer(PIECE_BLOCKS * VERITY_BLOCK_BYTES);
      const bytes = new Uint8Array(buffer, 0, lengthBytes);
      readExactly(data, bytes, dataOffset + block * VERITY_BLOCK_BYTES);
      const hashed = hasher.hash(buffer, lengthBytes);
      // Avoids an unhandled rejection: a failure is thrown when its piece is awaited.
      if (hashed instanceof Promise) hashed.catch(() => {});
      underway.push({ block, hashed });
      if (underway.length > UNDERWAY_MAX) await takeOne();
      await this.#yield();
    }
    while (underway.length > 0) await takeOne();
  }

  #checkPiece(firstBlock: number, found: Uint8Array): void {
    const { dataOffset = 0 } = this.#place;
    const count = found.length / DIGEST_BYTES;
    const wanted = this.#readDigests(0, firstBlock, count);
    if (Buffer.compare(found, wanted) === 0) return;
    for (let i = 0; i < count; i++) {
      const digest = found.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      const offset = dataOffset + (firstBlock + i) * VERITY_BLOCK_BYTES;
      this.#compare("data", offset, digest, wanted, i);
    }
  }

  /** The digests that a level stores for the blocks `[first, first + count)` below it. */
  #readDigests(level: number, first: number, count: number): Uint8Array {
    const digests = new Uint8Array(count * DIGEST_BYTES);
    const start = this.#treeOffset(this.#shape.levels[level]!.startBlock) + first * DIGEST_BYTES;
    readExactly(this.#place.hash, digests, start);
    return digests;
  }

  #treeOffset(block: number): number {
    return this.#place.hashOffset + block * VERITY_BLOCK_BYTES;
  }

  #compare(
    kind: "data" | "tree",
    offset: number,
    found: Uint8Array,
    digests: Uint8Array,
    index: number,
  ): void {
    const wanted = digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    if (Buffer.compare(found, wanted) === 0) return;
    this.#add({ kind, offset, found: hex(found), wanted: hex(wanted) });
  }

  #add(finding: VerityFinding): void {
    if (finding.kind === "data") this.#damagedDataBlocks++;
    else this.#damagedTreeBlocks++;
    const { findingsMax = FINDINGS_DEFAULT } = this.#options;
    if (this.#findings.length < findingsMax) this.#findings.push(finding);
  }

  async #yield(): Promise<void> {
    await setImmediate();
    throwIfAborted(this.#options.signal);
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
