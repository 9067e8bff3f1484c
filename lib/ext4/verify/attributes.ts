/**
 * Checks the extended attributes of all inodes: who owns which attribute block, which inodes hold values, and whether
 * the reference counts are right.
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { INODE_FLAG } from "../format/constants.ts";
import { type DecodedXattr, verifyXattrValueInode, XATTR_INDEX } from "../format/xattr.ts";
import type { MappedRun } from "../volume/block_map.ts";
import { type InodeView, viewOfInode } from "../volume/inode.ts";
import { exactNumber, HERE } from "../volume/judge.ts";
import {
  isOldStyleValue,
  judgeXattrBlockPointer,
  readAttributeValue,
  readInodeXattrs,
  readXattrBlock,
} from "../volume/content.ts";
import { type Context, INODE_TRAIT, type ValueReference, type XattrBlockState } from "./context.ts";

export interface InodeXattrs {
  /** Blocks charged to the inode besides those it maps. */
  readonly chargedBlocks: number;
  readonly valueCount: number;
  readonly inInode: readonly DecodedXattr[];
  /** How the inode is encrypted, if it is: equal for inodes encrypted alike. */
  readonly policy?: string | undefined;
}

const CONTEXT_SIZES_BYTES: Readonly<Record<number, number>> = { 1: 28, 2: 40 };
const NONCE_SIZE_BYTES = 16;
const TWO_32 = 2n ** 32n;

/** Shared by most inodes. */
const NO_XATTRS: InodeXattrs = { chargedBlocks: 0, valueCount: 0, inInode: [] };

/**
 * The policy in an fscrypt context (fs/ext4/xattr.h, EXT4_XATTR_INDEX_ENCRYPTION), without the nonce at its end.
 * Contexts of unknown versions are considered equal; undefined for an invalid one.
 */
function policyIn(xattrs: readonly DecodedXattr[]): string | undefined {
  const isContext = (xattr: DecodedXattr) =>
    xattr.nameIndex === XATTR_INDEX.ENCRYPTION && xattr.suffix === "c";
  const value = xattrs.find(isContext)?.value;
  if (value === undefined || value.length === 0) return undefined;
  const sizeBytes = CONTEXT_SIZES_BYTES[value[0]!];
  if (sizeBytes === undefined) return "unknown";
  return value.length === sizeBytes ? value.subarray(0, -NONCE_SIZE_BYTES).join() : undefined;
}

export function checkXattrs(context: Context, view: InodeView): InodeXattrs {
  if (!view.hasOwnXattrs && view.xattrBlock === 0) return NO_XATTRS;
  const inInode = readInodeXattrs(context.volume, view);
  const { number: inode } = view;
  const values = inInode.filter((xattr) => xattr.valueInode !== undefined);
  let chargedBlocks = valueBlocks(context, inode, values);
  for (const xattr of values) context.valueReferences.push({ owner: inode, xattr });
  if (view.xattrBlock !== 0) chargedBlocks += checkBlockOf(context, inode, view.xattrBlock);
  const inBlock = context.xattrBlocks.get(view.xattrBlock)?.values.length ?? 0;
  const names = [...inInode, ...context.xattrBlocks.get(view.xattrBlock)?.xattrs ?? []];
  const isEncrypted = (view.flags & INODE_FLAG.ENCRYPT) !== 0;
  const policy = isEncrypted ? policyIn(names) : undefined;
  const valueCount = values.length + inBlock;
  return { chargedBlocks, valueCount, inInode, ...policy === undefined ? {} : { policy } };
}

/** The blocks of values in inodes charged to each owner, except for values of the older scheme. */
function valueBlocks({ volume }: Context, owner: number, values: readonly DecodedXattr[]): number {
  const { clusterBlocks } = volume.geometry;
  const clusterBytes = clusterBlocks * volume.blockSizeBytes;
  let charged = 0;
  for (const { valueInode, valueSizeBytes } of values) {
    const view = viewOfInode(volume, valueInode ?? 0);
    const isOld = view !== undefined && view.mtimeWord === owner && isOldStyleValue(volume, view);
    if (!isOld) charged += divCeil(valueSizeBytes, clusterBytes) * clusterBlocks;
  }
  return charged;
}

/** Checks an inode's attribute block, which is read for its first owner only. */
function checkBlockOf(context: Context, inode: number, block: number): number {
  const { volume, usage, xattrBlocks } = context;
  const { clusterBlocks } = volume.geometry;
  if (!judgeXattrBlockPointer(volume, inode, block)) return 0;
  if (!xattrBlocks.has(block)) {
    usage.mark(block, 1, inode);
    xattrBlocks.set(block, readBlockState(context, block, inode));
  }
  const state = xattrBlocks.get(block);
  if (state === undefined) return clusterBlocks;
  state.references++;
  return clusterBlocks + state.chargedBlocks;
}

function readBlockState(
  context: Context,
  block: number,
  firstOwner: number,
): XattrBlockState | undefined {
  const decoded = readXattrBlock(context.volume, block);
  if (decoded === undefined) return undefined;
  const { xattrs, referenceCount: storedReferences } = decoded;
  const values = xattrs.filter((xattr) => xattr.valueInode !== undefined);
  const chargedBlocks = valueBlocks(context, firstOwner, values);
  return { firstOwner, storedReferences, references: 0, chargedBlocks, values, xattrs };
}

export function checkValueInode(
  context: Context,
  view: InodeView,
  runs: readonly MappedRun[],
): void {
  const value = readAttributeValue(context.volume, view, runs);
  if (value === undefined) return;
  context.valueInodes.set(view.number, {
    hash: value.hash,
    sizeBytes: view.sizeBytes,
    storedReferences: BigInt(view.ctimeWord) * TWO_32 + BigInt(view.versionLow),
    isOldStyle: value.isOldStyle,
  });
}

/**
 * Runs after all inodes: checks references to attribute blocks and values, and the hashes of the entries that name
 * them.
 */
export function checkXattrReferences(context: Context): void {
  const { judge, xattrBlocks, valueReferences, valueInodes, volume } = context;
  for (const [block, state] of xattrBlocks) {
    if (state === undefined || state.storedReferences === state.references) continue;
    const location = { block, offset: block * volume.blockSizeBytes };
    const details = { found: state.storedReferences, wanted: state.references };
    judge.report("attribute block", location, "h_refcount", details);
  }
  const counts = new Map<number, number>();
  for (const reference of valueReferences) checkValueReference(context, reference, counts);
  // A value counts the blocks that name it, however many inodes share them.
  for (const state of xattrBlocks.values()) {
    for (const xattr of state?.values ?? []) {
      checkValueReference(context, { owner: state!.firstOwner, xattr }, counts);
    }
  }
  for (const [inode, value] of valueInodes) {
    const references = counts.get(inode) ?? 0;
    if (value.isOldStyle && references === 1) continue;
    if (value.storedReferences === BigInt(references)) continue;
    judge.report("attribute value", { inode }, "references", {
      found: exactNumber(value.storedReferences),
      wanted: references,
    });
  }
}

/** Checks an attribute against the inode that should hold its value. */
function checkValueReference(
  context: Context,
  { owner, xattr }: ValueReference,
  counts: Map<number, number>,
): void {
  const { judge, valueInodes, inodes, volume } = context;
  const inode = xattr.valueInode ?? 0;
  const value = valueInodes.get(inode);
  const structure = "extended attributes";
  const location = { inode: owner };
  if (value === undefined) {
    const isThere = inode > 0 && inode <= volume.geometry.inodesCount &&
      inodes.is(inode, INODE_TRAIT.VALUE);
    if (isThere) return;
    const details = { found: inode, wanted: "an inode with the flag EA_INODE" };
    return judge.report(structure, location, "inode of a value", details);
  }
  counts.set(inode, (counts.get(inode) ?? 0) + 1);
  const problem = `size of the value in inode ${inode}`;
  judge.expect(structure, location, problem, xattr.valueSizeBytes, value.sizeBytes);
  if (value.isOldStyle) return;
  judge.attempt(structure, location, () => verifyXattrValueInode(xattr, value.hash, HERE));
}
