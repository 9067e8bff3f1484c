/**
 * Random layout options that can hold a given tree.
 *
 * @module
 */
import type { LayoutOptions } from "../../lib/bless/options.ts";
import type { Random } from "./noise.ts";
import type { TreeNeeds } from "./random_tree.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const GRIDS = [4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 128 * KIB, 256 * KIB, 1 * MIB];
const JOURNALS = [0, 0, 4 * MIB, 4 * MIB, 5 * MIB, 16 * MIB, 64 * MIB, 130 * MIB];
/** Inodes that a file system has beside those of its tree, the reserved ones among them. */
const OWN_INODE_COUNT = 16;

/** The part of the options that the tree is made for. */
export interface TreeConditions {
  readonly gridBytes: number;
  readonly compat: LayoutOptions["compat"];
}

/** The grid and the age of the kernel: chosen first, because trees are made to fit them. */
export function randomConditions(random: Random): TreeConditions {
  return { gridBytes: random.pick(GRIDS), compat: random.chance(0.12) ? ["3.10"] : undefined };
}

/** All the other options. */
export function randomOptions(
  random: Random,
  { gridBytes, compat }: TreeConditions,
  needs: TreeNeeds,
): LayoutOptions {
  const inodeCount = needs.nodeCount + needs.xattrCount + OWN_INODE_COUNT + random.below(50_000);
  return {
    gridBytes,
    compat,
    alignThresholdBytes: random.pick([
      Infinity,
      4 * KIB,
      64 * KIB,
      64 * KIB,
      gridBytes,
      4 * gridBytes,
    ]),
    packing: randomPacking(random),
    size: randomSize(random, needs, gridBytes),
    journalBytes: random.pick(JOURNALS),
    uuid: random.chance(0.3) ? randomUuid(random) : undefined,
    label: random.pick(["", "", "a label", "0123456789abcdef"]),
    backups: compat !== undefined || random.chance(0.7) ? "sparse" : "none",
    inlineData: compat === undefined && random.chance(0.2),
    metadataChecksums: random.chance(0.9),
    inodeCount: random.chance(0.2) ? inodeCount : undefined,
    reservedBlocks: random.pick([
      { kind: "bytes", bytes: 0 },
      { kind: "bytes", bytes: random.below(32 * KIB) },
      { kind: "percent", percent: random.below(11) },
    ]),
  };
}

function randomPacking(random: Random): LayoutOptions["packing"] {
  if (random.chance(0.4)) return { kind: "tight" };
  const lowBytes = random.pick([0, 4, 32, 64, 64]) * KIB;
  return {
    kind: "resync",
    meanBytes: lowBytes + random.pick([8, 64, 192, 192, 448]) * KIB,
    lowBytes,
  };
}

function randomSize(
  random: Random,
  needs: TreeNeeds,
  gridBytes: number,
): LayoutOptions["size"] {
  if (random.chance(0.5)) return { kind: "exact" };
  const freeBytes = random.pick([0, 1, 1 * MIB, random.below(200 * MIB), 1 * GIB, 40 * GIB]);
  if (random.chance(0.5)) return { kind: "free", freeBytes };
  // Room for the content however it is aligned, for the inodes, and for the longest journal.
  const alignedBytes = 2 * gridBytes * (needs.runCount + 1);
  const enoughBytes = 2 * needs.contentBytes + alignedBytes + 4096 * needs.nodeCount + 400 * MIB;
  return { kind: "total", sizeBytes: Math.ceil(enoughBytes) + freeBytes };
}

function randomUuid(random: Random): string {
  const hex = [...random.bytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
