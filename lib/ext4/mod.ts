/**
 * ext4: planning and writing images, reading and verifying images from any source, and switching their metadata
 * checksums.
 *
 * @example Read an image back
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { memoryReader, walkTree } from "@blessfs/blessfs";
 * import { openExt4Image, readTree, verifyImage } from "@blessfs/blessfs/ext4";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 *
 * const bytes = gunzipSync(readFileSync("fixtures/ext4/csum-4k.img.gz"));
 * assertEquals((await verifyImage(memoryReader(bytes))).clean, true);
 *
 * // Or the path of an image: openExt4Image("root.ext4").
 * using image = openExt4Image(bytes);
 * const devices: string[] = [];
 * for (const { path, node } of walkTree(await readTree(image))) {
 *   if (node.kind === "blockDevice") devices.push(path);
 * }
 * assertEquals(devices, ["/disk"]);
 * ```
 *
 * @module
 */
export type { PayloadOrder } from "../layout/placement.ts";
export type {
  FileLayout,
  ImagePlan,
  KeptFacts,
  MetadataWrite,
  PayloadWrite,
  PlanSummary,
} from "./plan/image_plan.ts";
export type { Continuation } from "./plan/plan_ext4.ts";
export type { PreviousGroup, PreviousImage, PreviousNode } from "./plan/previous.ts";
export type { DirectoryIndex, DirectoryIndexNode, DirectoryLeaf } from "./plan/directories.ts";
export type { Extent } from "../layout/placement.ts";
export type { Geometry } from "./plan/groups.ts";
export type { BlockRange } from "../layout/blocks.ts";
export type { MetadataContent, NodeDraft } from "./plan/inode_drafts.ts";
export type { InodeXattrs, SharedXattrBlock } from "./plan/xattrs.ts";
export type { DiskXattr } from "./format/xattr.ts";
export { parseUuid } from "./plan/settings.ts";
export { writeImage } from "./write/write_image.ts";
export type { WriteOptions, WriteResult } from "./write/write_image.ts";
export { FINDING_CODES, verifyImage } from "./verify/verify.ts";
export type {
  Finding,
  FindingCode,
  LayoutReport,
  LayoutRule,
  Location,
  Structure,
  VerifyOptions,
  VerifyReport,
} from "./verify/verify.ts";
export { BlockBudget, DEFAULT_READ_LIMITS, Ext4Image, openExt4Image } from "./read/image.ts";
export type { ImageInode, NodeKind, OpenExt4Options, ReadLimits } from "./read/image.ts";
export type { OrphanReport } from "./recovery/orphans.ts";
export { recoverImage } from "./recovery/recover.ts";
export type { RecoveredImage, RecoverOptions, RecoveryReport } from "./recovery/recover.ts";
export type { ReplayReport } from "./journal/replay.ts";
export type {
  BlockOffset,
  FoundDescriptor,
  Group,
  Volume,
  VolumeOptions,
} from "./volume/volume.ts";
export type { FaultDetails, Judge } from "./volume/judge.ts";
export type { InodeView } from "./volume/inode.ts";
export type { ChecksumPair, ImageGeometry } from "./volume/superblock.ts";
export type { Superblock } from "./format/superblock.ts";
export type { GroupDescriptor } from "./format/group_descriptor.ts";
export type { InodeRecord, Timestamp } from "./format/inode.ts";
export { fileStream } from "./read/directory.ts";
export { readTree } from "./read/tree.ts";
export type { ReadTreeOptions } from "./read/tree.ts";
export { findInode, listNames, readDirectory } from "./read/directory.ts";
export type {
  DirectoryContent,
  DirectoryName,
  FoundInode,
  ListOptions,
  ReadDirectoryOptions,
} from "./read/directory.ts";
export { blockRuns, filePayload, ImagePayload, readSymlink } from "./read/content.ts";
export type { BlockMapOptions, MapBlock, MappedRun, PayloadBounds } from "./read/content.ts";
export { XattrReader } from "./read/content.ts";
export type { StoredXattr } from "./read/content.ts";
export { inspectImage, inspectInode } from "./read/inspect.ts";
export type {
  ContentPlace,
  GroupInspection,
  ImageInspection,
  InodeInspection,
} from "./read/inspect.ts";
export type { JournalSuperblock } from "./format/journal.ts";
export { switchMetadataChecksums } from "./checksum/switch.ts";
export type { SwitchOptions, SwitchReport } from "./checksum/switch.ts";
export type { SwitchCounts } from "./checksum/switch_structures.ts";
export type { ImageFiles } from "./checksum/change_journal.ts";
