/**
 * Extended attributes: in the inode, in a block that several inodes may share, and in inodes of their own.
 *
 * @module
 */
import { divCeil } from "../../../bytes/arithmetic.ts";
import { COMPAT, INCOMPAT } from "../../format/constants.ts";
import { INODE_BASE_SIZE_BYTES } from "../../format/inode.ts";
import type { DecodedXattr } from "../../format/xattr_decode.ts";
import {
  decodeInodeXattrs,
  decodeXattrBlock,
  verifyXattrBlock,
  verifyXattrValueInode,
} from "../../format/xattr_decode.ts";
import { XATTR_INDEX, XATTR_VALUE_SIZE_MAX, xattrValueHash } from "../../format/xattr.ts";
import { readRuns } from "./block_walk.ts";
import type { Context, MappedRun, ValueReference, XattrBlockState } from "./context.ts";
import { HERE, hex } from "./findings.ts";
import type { InodeView } from "./inode_view.ts";

/** What an inode's attributes mean for the rest of it. */
export interface InodeXattrs {
  /** Blocks that count as the inode's beside those it maps. */
  readonly chargedBlocks: number;
  /** How many of its values are in inodes. */
  readonly valueCount: number;
  /** The value of system.data, which holds what i_block cannot of inline data; undefined without it. */
  readonly inlineRest: Uint8Array | undefined;
}

/** The attribute that inline data goes on in. */
const INLINE_DATA_NAME = "data";
const TWO_32 = 2 ** 32;

/** Most inodes. */
const NO_XATTRS: InodeXattrs = {
  chargedBlocks: 0,
  valueCount: 0,
  inlineRest: undefined,
};

/** Judges all attributes of an inode. */
export function checkXattrs(context: Context, inode: number, view: InodeView): InodeXattrs {
  const { findings } = context;
  if (!view.hasOwnXattrs && view.xattrBlock === 0) return NO_XATTRS;
  const room = view.slot.subarray(INODE_BASE_SIZE_BYTES + view.extraSizeBytes);
  const isSound = INODE_BASE_SIZE_BYTES + view.extraSizeBytes <= view.slotSizeBytes;
  const own = view.extraSizeBytes === 0 || !isSound ? [] : findings.attempt(
    "extended attributes",
    { inode },
    () => decodeInodeXattrs(room, HERE),
  ) ?? [];
  const inline = own.find(({ nameIndex, suffix }) =>
    nameIndex === XATTR_INDEX.SYSTEM && suffix === INLINE_DATA_NAME
  );
  const values = own.filter((xattr) => xattr.valueInode !== undefined);
  let chargedBlocks = noteValues(context, inode, values);
  if (view.xattrBlock !== 0) chargedBlocks += checkBlockOf(context, inode, view.xattrBlock);
  const inBlock = context.xattrBlocks.get(view.xattrBlock)?.values.length ?? 0;
  return { chargedBlocks, valueCount: values.length + inBlock, inlineRest: inline?.value };
}

/** Writes down attributes whose values are in inodes; the answer is the blocks they charge. */
function noteValues(context: Context, inode: number, values: readonly DecodedXattr[]): number {
  let charged = 0;
  for (const xattr of values) {
    context.valueReferences.push({ owner: inode, xattr });
    charged += divCeil(xattr.valueSizeBytes, context.volume.blockSizeBytes);
  }
  return charged;
}

/** An inode's attribute block; it is read for the first of its owners. */
function checkBlockOf(context: Context, inode: number, block: number): number {
  const { volume, findings, claims, xattrBlocks } = context;
  const place = { inode, block };
  if (!volume.contains(block) || !volume.hasCompat(COMPAT.EXT_ATTR)) {
    findings.add("inode", place, "i_file_acl", {
      found: block,
      wanted: volume.contains(block) ? "0 without ext_attr" : "a block of the file system",
    });
    return 0;
  }
  if (!xattrBlocks.has(block)) {
    claims.claim(block, 1, inode);
    xattrBlocks.set(block, readXattrBlock(context, block, inode));
  }
  const state = xattrBlocks.get(block);
  if (state === undefined) return 1;
  state.references++;
  return 1 + state.chargedBlocks;
}

function readXattrBlock(
  context: Context,
  block: number,
  firstOwner: number,
): XattrBlockState | undefined {
  const { volume, findings } = context;
  const { seed } = volume;
  const place = { block, offset: block * volume.blockSizeBytes };
  const bytes = volume.read(block);
  if (bytes === undefined) {
    findings.add("attribute block", place, "block is past the end");
    return undefined;
  }
  if (seed !== undefined) {
    findings.attempt(
      "attribute block",
      place,
      () => verifyXattrBlock(bytes, { blockNumber: block, seed, what: HERE }),
    );
  }
  const decoded = findings.attempt("attribute block", place, () => decodeXattrBlock(bytes, HERE));
  if (decoded === undefined) return undefined;
  const values = decoded.xattrs.filter((xattr) => xattr.valueInode !== undefined);
  const chargedBlocks = values.reduce(
    (sum, { valueSizeBytes }) => sum + divCeil(valueSizeBytes, volume.blockSizeBytes),
    0,
  );
  const storedReferences = decoded.referenceCount;
  return { firstOwner, storedReferences, references: 0, chargedBlocks, values };
}

/** An inode that holds a value: the value must have the hash that the inode says. */
export function checkValueInode(
  context: Context,
  inode: number,
  view: InodeView,
  runs: readonly MappedRun[],
): void {
  const { findings, volume } = context;
  const { sizeBytes } = view;
  const place = { inode };
  if (!volume.hasIncompat(INCOMPAT.EA_INODE)) {
    findings.add("inode", place, "flag EA_INODE without the feature ea_inode");
  }
  if (sizeBytes > XATTR_VALUE_SIZE_MAX) {
    findings.add("attribute value", place, "size in bytes", {
      found: sizeBytes,
      wanted: `at most ${XATTR_VALUE_SIZE_MAX}`,
    });
    return;
  }
  const value = readRuns(context, runs, sizeBytes);
  if (value === undefined) {
    findings.add("attribute value", place, "its blocks are past the end");
    return;
  }
  const hash = xattrValueHash(volume.anySeed, value);
  context.valueInodes.set(inode, {
    hash,
    sizeBytes,
    storedReferences: view.ctimeWord * TWO_32 + view.versionLow,
    isOldStyle: view.atimeWord !== hash && view.mtimeWord !== 0 && view.versionLow === 0,
  });
  if (context.valueInodes.get(inode)?.isOldStyle) return;
  if (view.atimeWord !== hash) {
    findings.add("attribute value", place, "hash of the value", {
      found: hex(view.atimeWord),
      wanted: hex(hash),
    });
  }
}

/** After all inodes: references to attribute blocks and to values, and the hashes that name them. */
export function checkXattrReferences(context: Context): void {
  const { findings, xattrBlocks, valueReferences, valueInodes } = context;
  const blockSizeBytes = context.volume.blockSizeBytes;
  for (const [block, state] of xattrBlocks) {
    if (state === undefined) continue;
    const place = { block, offset: block * blockSizeBytes };
    findings.expect(
      "attribute block",
      place,
      "h_refcount",
      state.storedReferences,
      state.references,
    );
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
    findings.expect("attribute value", { inode }, "references", value.storedReferences, references);
  }
}

/** An attribute, and the inode that it says its value is in. */
function checkValueReference(
  context: Context,
  { owner, xattr }: ValueReference,
  counts: Map<number, number>,
): void {
  const { findings, valueInodes, book } = context;
  const inode = xattr.valueInode ?? 0;
  const value = valueInodes.get(inode);
  const place = { inode: owner };
  if (value === undefined) {
    const isThere = inode > 0 && inode <= context.volume.superblock.inodesCount &&
      book.isValue(inode);
    if (isThere) return;
    findings.add("extended attributes", place, "inode of a value", {
      found: inode,
      wanted: "an inode with the flag EA_INODE",
    });
    return;
  }
  counts.set(inode, (counts.get(inode) ?? 0) + 1);
  findings.expect(
    "extended attributes",
    place,
    `size of the value in inode ${inode}`,
    xattr.valueSizeBytes,
    value.sizeBytes,
  );
  if (value.isOldStyle) return;
  findings.attempt(
    "extended attributes",
    place,
    () => verifyXattrValueInode(xattr, value.hash, HERE),
  );
}
