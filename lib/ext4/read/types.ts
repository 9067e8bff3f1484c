/**
 * What the parts of the reader hand to one another.
 *
 * @module
 */
import type { RandomReader } from "../../io/random_reader.ts";
import type { TreeNode } from "../../model/node.ts";
import type { GroupDescriptor } from "../format/group_descriptor.ts";
import type { InodeRecord } from "../format/inode.ts";
import type { Superblock } from "../format/superblock.ts";
import type { BlockPlace, ImageGeometry } from "./geometry.ts";

/** What an inode is: a node of a tree, and undefined for a mode that none has. */
export type NodeKind = TreeNode["kind"];

/** One inode of an image. */
export interface ImageInode {
  /** Its number, from 1 on. */
  readonly number: number;
  /** What its mode says it is. */
  readonly kind: NodeKind;
  /** Its fields. */
  readonly record: InodeRecord;
  /** The seed of its extent and directory blocks; undefined without metadata checksums. */
  readonly seed: number | undefined;
  /** `inode N`, for messages. */
  readonly what: string;
}

/** Logical blocks of an inode that lie in one run of physical blocks. */
export interface MappedRun {
  /** Its first block, counted from the start of the inode's content. */
  readonly logicalBlock: number;
  /** How many blocks. */
  readonly blockCount: number;
  /** Its first block in the image. */
  readonly startBlock: number;
  /** Allocated, but reads as zeros whatever is there. */
  readonly unwritten: boolean;
}

/** A block of the map itself: a node of an extent tree, or a block of pointers. */
export interface MapBlock {
  /** Where it is in the image. */
  readonly blockNumber: number;
  /** Levels below it. */
  readonly depth: number;
  /** The first logical block that it maps. */
  readonly logicalBlock: number;
}

/** How a map is followed. */
export interface BlockMapOptions {
  /** Called for each block of the map, before what it maps. */
  readonly onMapBlock?: (block: MapBlock) => void;
}

/** An open image. Nothing in it is read before it is asked for. */
export interface Ext4Image {
  /** What to call the image in messages. */
  readonly name: string;
  /** The image's bytes. */
  readonly reader: RandomReader;
  /** The primary superblock. */
  readonly superblock: Superblock;
  /** The measures that follow from it. */
  readonly geometry: ImageGeometry;
  /** The seed of metadata checksums; undefined for a file system without them. */
  readonly seed: number | undefined;
  /** The seed of hashes of attribute values in inodes, which are there without METADATA_CSUM too. */
  readonly valueSeed: number;
  /** Whether a COMPAT bit is set. */
  hasCompat(bit: number): boolean;
  /** Whether an INCOMPAT bit is set. */
  hasIncompat(bit: number): boolean;
  /** Whether an RO_COMPAT bit is set. */
  hasRoCompat(bit: number): boolean;
  /**
   * One block. It is shared with other callers: it must not be changed.
   *
   * @param what names who wants it, for the error
   * @throws {InputError} for a block that the file system does not have
   */
  readBlock(blockNumber: number, what: string): Uint8Array;
  /** Throws InputError unless blocks that something points to are in the file system. */
  checkRange(startBlock: number, blockCount: number, what: string): void;
  /** A group's descriptor, checked. */
  groupDescriptor(groupIndex: number): GroupDescriptor;
  /** Where an inode's slot is. Throws InputError for a number that the file system does not have. */
  inodePlace(inodeNumber: number): BlockPlace;
  /** The bytes of an inode's slot, unjudged. They are shared: they must not be changed. */
  inodeSlot(inodeNumber: number): Uint8Array;
  /**
   * An inode in use, checked.
   *
   * @throws {InputError} for one that does not exist, is not in use or has a wrong checksum, type, flag or time
   */
  inode(inodeNumber: number): ImageInode;
  /** Closes the reader. */
  close(): void;
}
