/**
 * The index of a hashed directory: a tree of hashes over its leaves.
 *
 * @module
 */
import type { ByteString } from "../../../bytes/byte_string.ts";
import { INCOMPAT, INODE_FLAG, SUPERBLOCK_FLAG } from "../../format/constants.ts";
import type { DirectoryHashOptions } from "../../format/directory_hash.ts";
import { directoryHash } from "../../format/directory_hash.ts";
import type { DxEntry } from "../../format/htree.ts";
import {
  decodeDxNode,
  decodeDxRoot,
  DX_INDIRECT_LEVELS_MAX,
  DX_NODE_COUNT_OFFSET,
  DX_ROOT_COUNT_OFFSET,
  verifyDxBlock,
} from "../../format/htree.ts";
import type { Superblock } from "../../format/superblock.ts";
import type { Context, KeptInode, MappedRun } from "./context.ts";
import { HERE, hex } from "./findings.ts";

/** The hashes that a leaf may hold. */
export interface HashRange {
  readonly low: number;
  /** The first hash of the next leaf; Infinity for the last leaf. */
  readonly high: number;
  /** Whether this leaf goes on with the last hash of the one before. */
  readonly isLowShared: boolean;
  /** Whether the next leaf goes on with the last hash of this one. */
  readonly isHighShared: boolean;
}

/** Hashes names as the superblock says: in two ways where it says neither signed nor unsigned. */
export class NameHasher {
  readonly #ways: readonly DirectoryHashOptions[];

  constructor({ hashSeed: seed, flags }: Superblock, version: number) {
    const { SIGNED_HASH, UNSIGNED_HASH } = SUPERBLOCK_FLAG;
    const isTold = (flags & (SIGNED_HASH | UNSIGNED_HASH)) !== 0;
    const ways = isTold ? [(flags & UNSIGNED_HASH) === 0] : [false, true];
    this.#ways = ways.map((signed) => ({ version, seed, signed }));
  }

  /** The hash of a name, in the first of the ways. */
  hash(name: ByteString): number {
    return directoryHash(name, this.#ways[0]!).hash;
  }

  /**
   * Whether a name may be in a leaf.
   *
   * @param hash as hash() gives it
   */
  isWithin(name: ByteString, hash: number, range: HashRange): boolean {
    return isInRange(hash, range) ||
      this.#ways.length > 1 && this.hashes(name).some((each) => isInRange(each, range));
  }

  /** The hashes of a name. */
  hashes(name: ByteString): number[] {
    return this.#ways.map((way) => directoryHash(name, way).hash);
  }
}

function isInRange(hash: number, { low, high, isHighShared }: HashRange): boolean {
  return hash >= low && (hash < high || (hash === high && isHighShared));
}

/** What the index says of the directory's blocks, by their logical numbers. */
export interface DirectoryIndex {
  /** The root, 0, and the nodes below it. */
  readonly indexBlocks: ReadonlySet<number>;
  readonly leaves: ReadonlyMap<number, HashRange>;
  /** Undefined where names are folded before they are hashed, which takes tables of Unicode. */
  readonly hasher: NameHasher | undefined;
}

interface Walk {
  readonly context: Context;
  readonly directory: KeptInode;
  readonly seed: number | undefined;
  readonly blockCount: number;
  readonly indexBlocks: Set<number>;
  readonly leaves: Map<number, HashRange>;
}

/** Reads and judges the index; undefined when its root cannot be read. */
export function readIndex(
  context: Context,
  directory: KeptInode,
  seed: number | undefined,
): DirectoryIndex | undefined {
  const { volume, findings } = context;
  const inode = directory.number;
  const last = directory.runs.at(-1);
  const blockCount = last === undefined ? 0 : last.logical + last.count;
  const indexBlocks = new Set([0]);
  const leaves = new Map<number, HashRange>();
  const walk: Walk = { context, directory, seed, blockCount, indexBlocks, leaves };
  const found = readIndexBlock(walk, 0, DX_ROOT_COUNT_OFFSET);
  if (found === undefined) return undefined;
  const place = { inode, block: found.block };
  const root = findings.attempt(
    "directory index",
    place,
    () => decodeDxRoot(found.bytes, { checksummed: volume.seed !== undefined, what: HERE }),
  );
  if (root === undefined) return undefined;
  const levelsMax = DX_INDIRECT_LEVELS_MAX + (volume.hasIncompat(INCOMPAT.LARGEDIR) ? 1 : 0);
  if (root.indirectLevels > levelsMax) {
    findings.add("directory index", place, "indirect_levels", {
      found: root.indirectLevels,
      wanted: `at most ${levelsMax}`,
    });
  }
  walkEntries(walk, root.entries, root.indirectLevels, {
    low: 0,
    high: Infinity,
    isLowShared: false,
    isHighShared: false,
  });
  for (const run of directory.runs) {
    for (let logical = run.logical; logical < run.logical + run.count; logical++) {
      if (leaves.has(logical) || indexBlocks.has(logical)) continue;
      findings.add("directory index", { inode }, "it does not lead to logical block", {
        found: logical,
      });
    }
  }
  const isFolded = (directory.view.flags & INODE_FLAG.CASEFOLD) !== 0;
  return {
    indexBlocks,
    leaves,
    hasher: isFolded ? undefined : new NameHasher(volume.superblock, root.hashVersion),
  };
}

function walkEntries(
  walk: Walk,
  entries: readonly DxEntry[],
  levels: number,
  range: HashRange,
): void {
  const { findings } = walk.context;
  for (const [i, { block: logical, hash }] of entries.entries()) {
    const next = entries[i + 1];
    const low = i === 0 ? range.low : evenHash(hash);
    if (low < range.low || low > range.high) {
      findings.add("directory index", { inode: walk.directory.number }, "hash of an entry", {
        found: hex(low),
        wanted: `${hex(range.low)} to ${range.high === Infinity ? "the end" : hex(range.high)}`,
      });
    }
    const isLowShared = i === 0 ? range.isLowShared : (hash & 1) === 1;
    const child = next === undefined
      ? { ...range, low, isLowShared }
      : { low, high: evenHash(next.hash), isLowShared, isHighShared: (next.hash & 1) === 1 };
    visitChild(walk, logical, levels, child);
  }
}

function visitChild(walk: Walk, logical: number, levels: number, range: HashRange): void {
  const { context, directory, indexBlocks, leaves } = walk;
  const { findings, volume } = context;
  if (logical < 1 || logical >= walk.blockCount) {
    findings.add("directory index", { inode: directory.number }, "pointer to logical block", {
      found: logical,
      wanted: `1 to ${walk.blockCount - 1}`,
    });
    return;
  }
  if (indexBlocks.has(logical) || leaves.has(logical)) {
    findings.add(
      "directory index",
      { inode: directory.number },
      "second pointer to logical block",
      {
        found: logical,
      },
    );
    return;
  }
  if (levels === 0) {
    leaves.set(logical, range);
    return;
  }
  indexBlocks.add(logical);
  const found = readIndexBlock(walk, logical, DX_NODE_COUNT_OFFSET);
  if (found === undefined) return;
  const node = findings.attempt(
    "directory index",
    { inode: directory.number, block: found.block },
    () => decodeDxNode(found.bytes, { checksummed: volume.seed !== undefined, what: HERE }),
  );
  if (node !== undefined) walkEntries(walk, node.entries, levels - 1, range);
}

/** Reads an index block and judges its checksum. */
function readIndexBlock(
  walk: Walk,
  logical: number,
  countOffset: number,
): { readonly bytes: Uint8Array; readonly block: number } | undefined {
  const { context, directory, seed } = walk;
  const block = physicalBlock(directory.runs, logical);
  if (block === undefined) return undefined;
  const bytes = context.volume.read(block);
  if (bytes === undefined) return undefined;
  if (seed !== undefined) {
    context.findings.attempt(
      "directory index",
      { inode: directory.number, block },
      () => verifyDxBlock(bytes, { countOffset, inodeSeed: seed, what: HERE }),
    );
  }
  return { bytes, block };
}

/** Where a logical block is; undefined in a hole. */
export function physicalBlock(runs: readonly MappedRun[], logical: number): number | undefined {
  const run = runs.find((each) => each.logical <= logical && logical < each.logical + each.count);
  return run === undefined ? undefined : run.start + logical - run.logical;
}

/** Bit 0 of a hash in an index marks a collision. */
function evenHash(hash: number): number {
  return (hash & ~1) >>> 0;
}
