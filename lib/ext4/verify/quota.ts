/**
 * Quota files: what they say that users, groups and projects have, against what was counted. The format is the second
 * one of the quota tools (vfsv1), a tree of blocks of 1 KiB (linux/fs/quota/quota_v2.c, quota_tree.c).
 *
 * @module
 */
import { RO_COMPAT } from "../format/constants.ts";
import { viewOf } from "../format/fields.ts";
import { readRuns } from "../volume/block_map.ts";
import type { Context, KeptInode, QuotaUsage } from "./context.ts";
import { hex } from "../volume/judge.ts";

const MAGICS = [0xd9c01f11, 0xd9c01927, 0xd9c03f14] as const;
const TYPE_NAMES = ["user", "group", "project"] as const;
const VERSION = 1;
const QUOTA_BLOCK_BYTES = 1024;
const POINTERS_PER_BLOCK = QUOTA_BLOCK_BYTES / 4;
const ROOT_BLOCK = 1;
const TREE_DEPTH = 4;
const LEAF_HEADER_BYTES = 16;
/** struct v2r1_disk_dqblk. */
const ENTRY_BYTES = 72;
const ENTRY_AT = { id: 0, inodes: 24, bytes: 48 } as const;
/** Quota files beyond this are not the work of any tool. */
const FILE_BYTES_MAX = 256 * 1024 * 1024;
const TWO_32 = 2 ** 32;
const NOTHING: QuotaUsage = { bytes: 0, inodes: 0 };

/** Judges the quota files that the superblock names. */
export function checkQuotas(context: Context): void {
  const { volume, special, judge } = context;
  if (!volume.hasRoCompat(RO_COMPAT.QUOTA)) return;
  const { superblock } = volume;
  const inodes = [superblock.userQuotaInode, superblock.groupQuotaInode];
  if (volume.hasRoCompat(RO_COMPAT.PROJECT)) inodes.push(superblock.projectQuotaInode);
  for (const [type, number] of inodes.entries()) {
    if (number === 0) continue;
    const file = special.get(number);
    if (file === undefined) {
      judge.report("quota file", { inode: number }, "it is not in use");
      continue;
    }
    checkQuotaFile(context, file, type);
  }
}

function checkQuotaFile(context: Context, file: KeptInode, type: number): void {
  const { judge } = context;
  const location = { inode: file.view.number };
  const { sizeBytes } = file.view;
  const { volume } = context;
  const most = Math.min(FILE_BYTES_MAX, volume.endBlock * volume.blockSizeBytes);
  if (sizeBytes > most || sizeBytes < 2 * QUOTA_BLOCK_BYTES) {
    judge.report("quota file", location, "i_size", {
      found: sizeBytes,
      wanted: `${2 * QUOTA_BLOCK_BYTES} to ${most}`,
    });
    return;
  }
  const bytes = readRuns(volume, file.runs, sizeBytes);
  if (bytes === undefined) {
    judge.report("quota file", location, "its blocks are past the end");
    return;
  }
  const view = viewOf(bytes);
  const magic = view.getUint32(0, true);
  if (magic !== MAGICS[type]) {
    judge.report("quota file", location, "magic number", {
      found: hex(magic),
      wanted: hex(MAGICS[type]!),
    });
    return;
  }
  judge.expect("quota file", location, "version", view.getUint32(4, true), VERSION);
  const stored = new Map<number, QuotaUsage>();
  const leaves = new Map<number, Map<number, QuotaUsage>>();
  const walk = { context, file, view, stored, seen: new Set<number>(), leaves };
  walkTree(walk, ROOT_BLOCK, 0, 0);
  for (const [block, entries] of leaves) {
    for (const id of entries.keys()) {
      judge.report("quota file", location, `no pointer leads to the entry in block ${block} of`, {
        found: id,
      });
    }
  }
  compareUsage(context, file.view.number, type, stored);
}

interface TreeWalk {
  readonly context: Context;
  readonly file: KeptInode;
  readonly view: DataView<ArrayBufferLike>;
  readonly stored: Map<number, QuotaUsage>;
  /** Blocks of the tree that were walked; leaves are reached once for each of their entries. */
  readonly seen: Set<number>;
  /** Entries that no pointer has led to yet, by block. */
  readonly leaves: Map<number, Map<number, QuotaUsage>>;
}

/** @param prefix the high bytes of the ids below this block */
function walkTree(walk: TreeWalk, block: number, depth: number, prefix: number): void {
  const { context, file, view, seen } = walk;
  const location = { inode: file.view.number };
  if (seen.has(block)) {
    context.judge.report("quota file", location, "second pointer to block", { found: block });
    return;
  }
  seen.add(block);
  const start = block * QUOTA_BLOCK_BYTES;
  const end = Math.floor(view.byteLength / QUOTA_BLOCK_BYTES);
  for (let i = 0; i < POINTERS_PER_BLOCK; i++) {
    const child = view.getUint32(start + 4 * i, true);
    if (child === 0) continue;
    if (child <= ROOT_BLOCK || child >= end) {
      context.judge.report("quota file", location, `pointer ${i} of block ${block}`, {
        found: child,
        wanted: `2 to ${end - 1}`,
      });
      continue;
    }
    const id = prefix * POINTERS_PER_BLOCK + i;
    if (depth < TREE_DEPTH - 1) walkTree(walk, child, depth + 1, id);
    else readEntry(walk, child, id);
  }
}

/** A pointer leads to a block of entries, and one of them must be of its id. */
function readEntry(walk: TreeWalk, block: number, id: number): void {
  const { context, file, leaves } = walk;
  let entries = leaves.get(block);
  if (entries === undefined) leaves.set(block, entries = readLeaf(walk, block));
  const usage = entries.get(id);
  if (usage === undefined) {
    context.judge.report(
      "quota file",
      { inode: file.view.number },
      `block ${block} has no entry of`,
      {
        found: id,
      },
    );
    return;
  }
  walk.stored.set(id, usage);
  entries.delete(id);
}

function readLeaf(walk: TreeWalk, block: number): Map<number, QuotaUsage> {
  const { view, context, file } = walk;
  const entries = new Map<number, QuotaUsage>();
  const end = (block + 1) * QUOTA_BLOCK_BYTES;
  const start = block * QUOTA_BLOCK_BYTES + LEAF_HEADER_BYTES;
  for (let at = start; at + ENTRY_BYTES <= end; at += ENTRY_BYTES) {
    if (isBlank(view, at)) continue;
    const id = view.getUint32(at + ENTRY_AT.id, true);
    if (entries.has(id)) {
      context.judge.report("quota file", { inode: file.view.number }, "second entry of", {
        found: id,
      });
    }
    entries.set(id, {
      inodes: u64(view, at + ENTRY_AT.inodes),
      bytes: u64(view, at + ENTRY_AT.bytes),
    });
  }
  return entries;
}

/** An entry of id 0 without use or limit has a grace time, unlike an empty slot. */
function isBlank(view: DataView<ArrayBufferLike>, at: number): boolean {
  for (let i = 0; i < ENTRY_BYTES; i += 4) if (view.getUint32(at + i, true) !== 0) return false;
  return true;
}

function compareUsage(
  context: Context,
  inode: number,
  type: number,
  stored: ReadonlyMap<number, QuotaUsage>,
): void {
  const counted = context.quotas[type] ?? new Map<number, QuotaUsage>();
  const ids = [...new Set([...stored.keys(), ...counted.keys()])].sort((a, b) => a - b);
  for (const id of ids) {
    const found = stored.get(id) ?? NOTHING;
    const wanted = counted.get(id) ?? NOTHING;
    const what = `of ${TYPE_NAMES[type]} ${id}`;
    const { judge } = context;
    judge.expect("quota file", { inode }, `inodes ${what}`, found.inodes, wanted.inodes);
    judge.expect("quota file", { inode }, `bytes ${what}`, found.bytes, wanted.bytes);
  }
}

function u64(view: DataView<ArrayBufferLike>, at: number): number {
  return view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
}
