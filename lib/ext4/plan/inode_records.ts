/**
 * Inodes as stored: attributes limited to what ext4 can represent, block maps, sizes and block counts.
 *
 * Kernel: Documentation/filesystems/ext4, "Index Nodes".
 *
 * @module
 */
import { divCeil } from "../../bytes/arithmetic.ts";
import { bytesFromByteString, displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import {
  BLOCK_SIZE_BYTES,
  type NodeAttributes,
  type Payload,
  readPayload,
  type SpecialNode,
} from "../../model/node.ts";
import type { Warnings } from "../../warnings.ts";
import { inodeSeed } from "../format/checksum.ts";
import { FILE_MODE, INODE_FLAG } from "../format/constants.ts";
import {
  clampTimestamp,
  defaultInode,
  INODE_BLOCK_FIELD_SIZE_BYTES,
  INODE_EXTRA_SIZE_BYTES,
  type InodeRecord,
  isMendedByFsck,
  type Timestamp,
  TIMESTAMP_SECONDS_MAX,
  TIMESTAMP_SECONDS_MIN,
} from "../format/inode.ts";
import { viewOf } from "../format/fields.ts";
import { encodeInodeXattrs } from "../format/xattr.ts";
import { KIND_CODES } from "./directories.ts";
import { encodeExtentTree } from "../format/extent.ts";
import { inlineDataXattr, type NodeDraft, type ValueDraft } from "./inode_drafts.ts";
import type { InodeBlocks } from "./allocation.ts";
import type { Settings } from "./settings.ts";
import { INODE_XATTR_CAPACITY_BYTES, type InodeXattrs } from "./xattrs.ts";

const SECTORS_PER_BLOCK = BLOCK_SIZE_BYTES / 512;
/** -1 means "no change" in chown(2), so it cannot own a file. */
const OWNER_MAX = 2 ** 32 - 2;
/** Limits of the kernel's encoding of device numbers (new_encode_dev()). */
const DEVICE_MAJOR_MAX = 0xfff;
const DEVICE_MINOR_MAX = 0xfffff;

interface RecordContext {
  /** Checksum seed; undefined without metadata checksums. */
  readonly seed: number | undefined;
  readonly blocks: InodeBlocks | undefined;
  /** The block of its attributes; 0 for none. */
  readonly xattrBlock: number;
  /** Becomes i_block of the record. Records written one after another share one array. */
  readonly blockField: Uint8Array;
}

const NO_BLOCKS: InodeBlocks = { leaves: [], treeBlocks: [] };

/** The inode of a node. Reads the payload only if it is stored in the inode. */
export function nodeRecord(draft: NodeDraft, context: RecordContext): InodeRecord {
  const { node, xattrs } = draft;
  const { attributes } = node;
  const time = clampTime(attributes);
  const { flags, blockField, sizeBytes, xattrArea } = contentFields(draft, context);
  // One literal in the order of the type, so that all records share one hidden class: there is one per file.
  return {
    mode: KIND_CODES[node.kind].mode | (xattrs.mode & 0o7777),
    uid: attributes.uid,
    gid: attributes.gid,
    sizeBytes,
    linkCount: draft.linkCount,
    sectorCount: sectorCount(context) + valueBlocks(xattrs) * SECTORS_PER_BLOCK,
    flags,
    atime: time,
    ctime: time,
    mtime: time,
    crtime: time,
    dtime: 0,
    generation: 0,
    xattrBlock: context.xattrBlock,
    blockField,
    extraSizeBytes: INODE_EXTRA_SIZE_BYTES,
    xattrArea: xattrArea ?? encodeInodeXattrs(xattrs.inInode, INODE_XATTR_CAPACITY_BYTES),
    versionLow: 0,
    versionHigh: 0,
    projectId: 0,
  };
}

interface ContentFields {
  readonly flags: number;
  readonly blockField: Uint8Array;
  readonly sizeBytes: number;
  /** Set if it holds content besides the attributes. */
  readonly xattrArea?: Uint8Array | undefined;
}

function contentFields(draft: NodeDraft, context: RecordContext): ContentFields {
  const { node, inodeNumber } = draft;
  switch (node.kind) {
    case "directory": {
      const flags = INODE_FLAG.EXTENTS | (draft.isIndexed ? INODE_FLAG.INDEX : 0);
      const sizeBytes = draft.content!.blockCount * BLOCK_SIZE_BYTES;
      return { flags, blockField: mapField(inodeNumber, context), sizeBytes };
    }
    case "symlink": {
      const sizeBytes = node.target.length;
      if (draft.content !== undefined) {
        const blockField = mapField(inodeNumber, context);
        return { flags: INODE_FLAG.EXTENTS, blockField, sizeBytes };
      }
      const blockField = context.blockField.fill(0);
      blockField.set(bytesFromByteString(node.target));
      return { flags: 0, blockField, sizeBytes };
    }
    case "file": {
      if (draft.isInline) return inlineFields(draft, node.payload, context);
      const { sizeBytes } = node.payload;
      return { flags: INODE_FLAG.EXTENTS, blockField: mapField(inodeNumber, context), sizeBytes };
    }
    default:
      return { flags: 0, blockField: deviceField(node, context), sizeBytes: 0 };
  }
}

/**
 * The inode of an attribute value (fs/ext4/xattr.c: i_atime holds its hash, i_ctime and the version its references).
 */
export function valueRecord(draft: ValueDraft, context: RecordContext): InodeRecord {
  const { value } = draft;
  return {
    ...defaultInode(),
    flags: INODE_FLAG.EA_INODE | INODE_FLAG.EXTENTS,
    blockField: mapField(draft.inodeNumber, context),
    mode: FILE_MODE.REGULAR | 0o600,
    linkCount: 1,
    sizeBytes: value.value.length,
    sectorCount: sectorCount(context),
    atime: { seconds: value.hash | 0, nanoseconds: 0 },
    ctime: { seconds: 0, nanoseconds: 0 },
    versionLow: value.referenceCount,
  };
}

export function journalRecord(
  inodeNumber: number,
  { journalBlocks, timestamp }: Pick<Settings, "journalBlocks" | "timestamp">,
  context: RecordContext,
): InodeRecord {
  const time: Timestamp = { seconds: timestamp, nanoseconds: 0 };
  return {
    ...defaultInode(),
    flags: INODE_FLAG.EXTENTS,
    blockField: mapField(inodeNumber, context),
    mode: FILE_MODE.REGULAR | 0o600,
    linkCount: 1,
    sizeBytes: journalBlocks * BLOCK_SIZE_BYTES,
    sectorCount: sectorCount(context),
    atime: time,
    ctime: time,
    mtime: time,
    crtime: time,
  };
}

/** Refuses owners and devices that ext4 cannot store, and warns of times that it changes. */
export function checkAttributes(drafts: readonly NodeDraft[], warnings: Warnings): void {
  for (const draft of drafts) {
    const { uid, gid, mtimeSeconds } = draft.node.attributes;
    checkOwner(draft, uid);
    checkOwner(draft, gid);
    if (mtimeSeconds < TIMESTAMP_SECONDS_MIN || mtimeSeconds > TIMESTAMP_SECONDS_MAX) {
      const stored = clampTime(draft.node.attributes).seconds;
      const why = `its time, ${mtimeSeconds} seconds, is stored as ${stored}`;
      warnings.add("clampedTime", nameOf(draft), why);
    }
    if (isMendedByFsck(mtimeSeconds)) {
      const why = "e2fsck -p would take its time for a time before 1970";
      warnings.add("suspectTime", nameOf(draft), why);
    }
    checkDevice(draft);
  }
}

function nameOf(draft: NodeDraft): string {
  return displayName(draft.path || "/");
}

function checkOwner(draft: NodeDraft, id: number): void {
  if (Number.isInteger(id) && id >= 0 && id <= OWNER_MAX) return;
  throw new InputError(nameOf(draft), `has owner ${id}: wanted 0 to ${OWNER_MAX}`);
}

function checkDevice(draft: NodeDraft): void {
  const { node } = draft;
  if (node.kind !== "characterDevice" && node.kind !== "blockDevice") return;
  const { deviceMajor, deviceMinor } = node;
  const fits = deviceMajor >= 0 && deviceMajor <= DEVICE_MAJOR_MAX && deviceMinor >= 0 &&
    deviceMinor <= DEVICE_MINOR_MAX;
  if (!fits) {
    throw new InputError(
      nameOf(draft),
      `is device ${deviceMajor}:${deviceMinor}: ext4 stores at most ` +
        `${DEVICE_MAJOR_MAX}:${DEVICE_MINOR_MAX}`,
    );
  }
}

function clampTime({ mtimeSeconds, mtimeNanoseconds }: NodeAttributes): Timestamp {
  return clampTimestamp({ seconds: mtimeSeconds, nanoseconds: mtimeNanoseconds });
}

function sectorCount(context: RecordContext): number {
  const { leaves, treeBlocks } = context.blocks ?? NO_BLOCKS;
  let blocks = treeBlocks.length + (context.xattrBlock === 0 ? 0 : 1);
  for (const leaf of leaves) blocks += leaf.blockCount;
  return blocks * SECTORS_PER_BLOCK;
}

/** Values in inodes of their own are charged to the owner (ext4_xattr_inode_alloc_quota()). */
function valueBlocks(xattrs: InodeXattrs): number {
  let blocks = 0;
  for (const xattr of xattrs.block?.xattrs ?? []) {
    if (xattr.valueInode !== undefined) blocks += divCeil(xattr.value.length, BLOCK_SIZE_BYTES);
  }
  return blocks;
}

function mapField(inodeNumber: number, context: RecordContext): Uint8Array {
  const { leaves, treeBlocks } = context.blocks ?? NO_BLOCKS;
  const isSealed = context.seed !== undefined && treeBlocks.length > 0;
  const seed = isSealed ? inodeSeed(context.seed, inodeNumber, 0) : undefined;
  return encodeExtentTree(leaves, treeBlocks, seed, context.blockField).root;
}

function inlineFields(
  draft: NodeDraft,
  payload: Payload,
  context: RecordContext,
): ContentFields {
  const content = new Uint8Array(payload.sizeBytes);
  readPayload(payload, content, 0);
  const blockField = context.blockField.fill(0);
  blockField.set(content.subarray(0, INODE_BLOCK_FIELD_SIZE_BYTES));
  const xattrs = [...draft.xattrs.inInode, inlineDataXattr(content)];
  return {
    flags: INODE_FLAG.INLINE_DATA,
    blockField,
    xattrArea: encodeInodeXattrs(xattrs, INODE_XATTR_CAPACITY_BYTES),
    sizeBytes: content.length,
  };
}

/** i_block of a device: small numbers in the first word, large ones in the second (old_ and new_encode_dev()). */
function deviceField(
  { deviceMajor, deviceMinor }: SpecialNode,
  { blockField }: RecordContext,
): Uint8Array {
  const view = viewOf(blockField.fill(0));
  if (deviceMajor < 256 && deviceMinor < 256) {
    view.setUint32(0, (deviceMajor << 8) | deviceMinor, true);
  } else {
    const word = (deviceMinor & 0xff) | (deviceMajor << 8) | ((deviceMinor & ~0xff) << 12);
    view.setUint32(4, word >>> 0, true);
  }
  return blockField;
}
