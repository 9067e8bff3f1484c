/**
 * The index of a hashed directory: a tree of hashes over its leaves (kernel documentation, "Hash Tree Directories").
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { INCOMPAT, INODE_FLAG, SUPERBLOCK_FLAG } from "../format/constants.ts";
import type { DirectoryHash, DirectoryHashOptions, DxEntry } from "../format/htree.ts";
import {
  decodeDxNode,
  decodeDxRoot,
  directoryHash,
  DX_INDIRECT_LEVELS_MAX,
  DX_NODE_COUNT_OFFSET,
  DX_ROOT_COUNT_OFFSET,
  verifyDxBlock,
} from "../format/htree.ts";
import type { Superblock } from "../format/superblock.ts";
import { type MappedRun, physicalBlock } from "./block_map.ts";
import { type InodeView, seedOf } from "./inode.ts";
import { HERE, hex, inputError, type Location } from "./judge.ts";
import type { Volume } from "./volume.ts";

export interface HashRange {
  readonly low: number;
  /** The first hash of the next leaf; Infinity for the last leaf. */
  readonly high: number;
  /** Whether this leaf continues with the last hash of the previous one. */
  readonly isLowShared: boolean;
  /** Whether the next leaf continues with the last hash of this one. */
  readonly isHighShared: boolean;
}

/** Hashes names as the superblock specifies: in two ways if it specifies neither signed nor unsigned. */
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

  wholeHash(name: ByteString): DirectoryHash {
    return directoryHash(name, this.#ways[0]!);
  }

  /**
   * Whether a name may be in a leaf.
   *
   * @param hash result of hash()
   */
  isWithin(name: ByteString, hash: number, range: HashRange): boolean {
    return isInRange(hash, range) ||
      this.#ways.length > 1 && this.hashes(name).some((each) => isInRange(each, range));
  }

  hashes(name: ByteString): number[] {
    return this.#ways.map((way) => directoryHash(name, way).hash);
  }
}

function isInRange(hash: number, { low, high, isHighShared }: HashRange): boolean {
  return hash >= low && (hash < high || (hash === high && isHighShared));
}

export interface MappedDirectory {
  readonly view: InodeView;
  readonly runs: readonly MappedRun[];
  /** For readers: the kernel refuses an index that points to this logical block or a later one. */
  readonly endBlock?: number;
}

/** The directory's blocks according to the index, by logical number. */
export interface DirectoryIndex {
  /** The root, 0, and the nodes below it, each with the offset of its count and entries. */
  readonly indexBlocks: ReadonlyMap<number, number>;
  readonly leaves: ReadonlyMap<number, HashRange>;
  readonly hashVersion: number;
  /** Undefined if names are folded or encrypted before they are hashed. */
  readonly hasher: NameHasher | undefined;
}

interface Walk {
  readonly volume: Volume;
  readonly directory: MappedDirectory;
  readonly blockCount: number;
  readonly indexBlocks: Map<number, number>;
  readonly leaves: Map<number, HashRange>;
  isSound: boolean;
}

/**
 * Reads and checks the index; undefined if it cannot be followed. Every block of the directory must be in it exactly
 * once, so every walk ends. The kernel refuses wrong checksums and missing blocks; for any other fault, it reads all
 * blocks sequentially.
 */
export function readIndex(volume: Volume, directory: MappedDirectory): DirectoryIndex | undefined {
  const { judge } = volume;
  const { runs, view } = directory;
  const inode = view.number;
  const last = runs.at(-1);
  const mappedCount = last === undefined ? 0 : last.logicalBlock + last.blockCount;
  const blockCount = Math.min(mappedCount, directory.endBlock ?? Infinity);
  const indexBlocks = new Map([[0, DX_ROOT_COUNT_OFFSET]]);
  const leaves = new Map<number, HashRange>();
  const walk: Walk = { volume, directory, blockCount, indexBlocks, leaves, isSound: true };
  const found = readIndexBlock(walk, 0, DX_ROOT_COUNT_OFFSET);
  if (found === undefined) return undefined;
  const location = { inode, block: found.block };
  const options = { checksummed: volume.seed !== undefined, what: HERE };
  const root = attemptReadable(walk, location, () => decodeDxRoot(found.bytes, options));
  if (root === undefined) return undefined;
  const levelsMax = DX_INDIRECT_LEVELS_MAX + (volume.hasIncompat(INCOMPAT.LARGEDIR) ? 1 : 0);
  if (root.indirectLevels > levelsMax) {
    const wanted = `at most ${levelsMax}`;
    const details = { found: root.indirectLevels, wanted, isReadable: true };
    judge.report("directory index", location, "indirect_levels", details);
    return undefined;
  }
  const all = { low: 0, high: Infinity, isLowShared: false, isHighShared: false };
  walkEntries(walk, root.entries, root.indirectLevels, all);
  for (const run of runs) {
    const end = run.logicalBlock + run.blockCount;
    for (let logical = run.logicalBlock; logical < end; logical++) {
      if (logical >= blockCount || leaves.has(logical) || indexBlocks.has(logical)) continue;
      walk.isSound = false;
      const details = { found: logical, isReadable: true };
      judge.report("directory index", { inode }, "it does not lead to logical block", details);
    }
  }
  if (!walk.isSound) return undefined;
  const isHidden = (view.flags & (INODE_FLAG.CASEFOLD | INODE_FLAG.ENCRYPT)) !== 0;
  const hasher = isHidden ? undefined : new NameHasher(volume.superblock, root.hashVersion);
  return { indexBlocks, leaves, hashVersion: root.hashVersion, hasher };
}

function walkEntries(
  walk: Walk,
  entries: readonly DxEntry[],
  levels: number,
  range: HashRange,
): void {
  for (const [i, { block: logical, hash }] of entries.entries()) {
    const next = entries[i + 1];
    const low = i === 0 ? range.low : evenHash(hash);
    if (low < range.low || low > range.high) {
      const location = { inode: walk.directory.view.number };
      walk.isSound = false;
      const details = { found: hex(low), wanted: describeRange(range), isReadable: true };
      walk.volume.judge.report("directory index", location, "hash of an entry", details);
    }
    const isLowShared = i === 0 ? range.isLowShared : (hash & 1) === 1;
    const child = next === undefined
      ? { ...range, low, isLowShared }
      : { low, high: evenHash(next.hash), isLowShared, isHighShared: (next.hash & 1) === 1 };
    walkChild(walk, logical, levels, child);
  }
}

function walkChild(walk: Walk, logical: number, levels: number, range: HashRange): void {
  const { volume, directory, indexBlocks, leaves } = walk;
  const { judge } = volume;
  const location = { inode: directory.view.number };
  if (logical < 1 || logical >= walk.blockCount) {
    walk.isSound = false;
    const details = { found: logical, wanted: `1 to ${walk.blockCount - 1}` };
    return judge.report("directory index", location, "pointer to logical block", details);
  }
  if (indexBlocks.has(logical) || leaves.has(logical)) {
    walk.isSound = false;
    const details = { found: logical, isReadable: true };
    return judge.report("directory index", location, "second pointer to logical block", details);
  }
  if (levels === 0) {
    leaves.set(logical, range);
    return;
  }
  indexBlocks.set(logical, DX_NODE_COUNT_OFFSET);
  const found = readIndexBlock(walk, logical, DX_NODE_COUNT_OFFSET);
  if (found === undefined) {
    walk.isSound = false;
    return;
  }
  const options = { checksummed: volume.seed !== undefined, what: HERE };
  const decode = () => decodeDxNode(found.bytes, options);
  const node = attemptReadable(walk, { ...location, block: found.block }, decode);
  if (node !== undefined) walkEntries(walk, node.entries, levels - 1, range);
}

/** Runs a decoder of part of the index; readers tolerate its errors by doing without the index. */
function attemptReadable<T>(walk: Walk, location: Location, decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    const fault = inputError(error);
    walk.isSound = false;
    walk.volume.judge.reportError("directory index", location, fault, { isReadable: true });
    return undefined;
  }
}

function readIndexBlock(
  { volume, directory }: Walk,
  logical: number,
  countOffset: number,
): { readonly bytes: Uint8Array; readonly block: number } | undefined {
  const block = physicalBlock(directory.runs, logical);
  if (block === undefined) return undefined;
  const bytes = volume.block(block);
  if (bytes === undefined) return undefined;
  const seed = seedOf(volume, directory.view);
  if (seed !== undefined) {
    const location = { inode: directory.view.number, block };
    const options = { countOffset, inodeSeed: seed, what: HERE };
    volume.judge.attempt("directory index", location, () => verifyDxBlock(bytes, options));
  }
  return { bytes, block };
}

export function describeRange({ low, high }: HashRange): string {
  return `${hex(low)} to ${high === Infinity ? "the end" : hex(high)}`;
}

/** Clears bit 0, which marks a collision in an index. */
function evenHash(hash: number): number {
  return (hash & ~1) >>> 0;
}
