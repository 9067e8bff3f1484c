/**
 * ext4: plans of images and how they are written, images read and verified whoever made them, and their checksums switched.
 *
 * @example Read an image back, whoever made it
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { memoryReader, openExt4Image, readTree, verifyImage, walkTree, Warnings } from "../../mod.ts";
 *
 * const fixture = new URL("../../fixtures/ext4/csum-4k.img.gz", import.meta.url);
 * const reader = memoryReader(gunzipSync(readFileSync(fixture)), "csum-4k.img");
 * assertEquals((await verifyImage(reader)).clean, true);
 *
 * const warnings = new Warnings();
 * const image = openExt4Image(reader, { warnings });
 * const tree = await readTree(image, { warnings });
 * const devices: string[] = [];
 * for (const { path, node } of walkTree(tree)) {
 *   if (node.kind === "blockDevice") devices.push(path);
 * }
 * assertEquals(devices, ["/disk"]);
 * image.close();
 * ```
 *
 * @module
 */
export type { PayloadOrder } from "../layout/placement.ts";
export type {
  FileLayout,
  ImagePlan,
  MetadataWrite,
  PayloadWrite,
  PlanSummary,
} from "./plan/image_plan.ts";
export type { Geometry } from "./plan/geometry.ts";
export type { BlockRange } from "../layout/blocks.ts";
export type { MetadataContent, NodeDraft } from "./plan/inode_drafts.ts";
export type { InodeXattrs, SharedXattrBlock } from "./plan/xattrs.ts";
export type { DiskXattr } from "./format/xattr.ts";
export { parseUuid } from "./plan/settings.ts";
export { writeImage } from "./write/write_image.ts";
export type { WriteOptions, WriteResult } from "./write/write_image.ts";
export { verifyImage } from "./read/verify/verify.ts";
export type {
  Finding,
  LayoutReport,
  LayoutRule,
  Place,
  Structure,
  VerifyOptions,
  VerifyReport,
} from "./read/verify/verify.ts";
export { openExt4Image } from "./read/image.ts";
export type { OrphanReport } from "./recovery/orphans.ts";
export { recoverImage } from "./recovery/recover.ts";
export type { RecoveredImage, RecoverOptions, RecoveryReport } from "./recovery/recover.ts";
export type { ReplayReport } from "./journal/replay.ts";
export type { OpenExt4Options } from "./read/image.ts";
export type {
  BlockMapOptions,
  Ext4Image,
  ImageInode,
  MapBlock,
  MappedRun,
  NodeKind,
} from "./read/types.ts";
export type { BlockPlace, ImageGeometry } from "./read/geometry.ts";
export type { Superblock } from "./format/superblock.ts";
export type { GroupDescriptor } from "./format/group_descriptor.ts";
export type { InodeRecord, Timestamp } from "./format/inode.ts";
export { readTree } from "./read/tree.ts";
export type { ReadTreeOptions } from "./read/tree.ts";
export { BlockBudget, DEFAULT_READ_LIMITS } from "./read/limits.ts";
export type { ReadLimits } from "./read/limits.ts";
export { findInode } from "./read/path.ts";
export type { FoundInode } from "./read/path.ts";
export { listNames } from "./read/listing.ts";
export { readDirectory } from "./read/directory.ts";
export type { DirectoryContent, DirectoryName } from "./read/directory.ts";
export { readSymlink } from "./read/symlink.ts";
export { blockRuns } from "./read/block_map.ts";
export { filePayload, ImagePayload } from "./read/payload.ts";
export type { PayloadBounds } from "./read/payload.ts";
export { XattrReader } from "./read/xattrs.ts";
export type { StoredXattr } from "./read/xattrs.ts";
export { inspectImage } from "./read/inspect_image.ts";
export type { ChecksumPair, GroupInspection, ImageInspection } from "./read/inspect_image.ts";
export type { JournalSuperblock } from "./format/journal.ts";
export { inspectInode } from "./read/inspect_inode.ts";
export type { ContentPlace, InodeInspection } from "./read/inspect_inode.ts";
export { switchMetadataChecksums } from "./checksum/switch.ts";
export type { SwitchOptions, SwitchReport } from "./checksum/switch.ts";
export type { SwitchCounts } from "./checksum/switch_context.ts";
export type { ImageFiles } from "./checksum/image_files.ts";
