/**
 * blessfs as a library: from a container image to an ext4 image that fixed-block stores deduplicate well.
 *
 * {@linkcode blessMerged} does everything in one call, and {@linkcode blessLayered} makes one image per layer;
 * {@linkcode createBlesser} does so for many images at once, in threads. The steps can also be used separately:
 * {@linkcode openImage} and {@linkcode loadLayers} read a source, {@linkcode buildTree} applies its layers,
 * {@linkcode planImage} works out every byte of the image except file data, {@linkcode writeImage} writes it to a sink.
 *
 * - Sinks: {@linkcode createFileSink}, {@linkcode MemorySink}, {@linkcode toWritable} for any stream.
 * - {@linkcode verifyImage} checks an image made by any tool: every checksum, every structure, every count.
 * - {@linkcode openExt4Image}, {@linkcode readTree} and {@linkcode fileStream} read the contents of an image, and
 *   {@linkcode openTar} those of a tar.
 * - {@linkcode probe} measures what a store of fixed blocks saves across images, on the bytes that would be written.
 *
 * Everything here only needs node: modules and runs in Deno, Bun and Node. Nothing prints, reads the clock or uses
 * randomness. File names are byte strings ({@linkcode ByteString}), and sizes are in bytes. Expected failures are
 * thrown as a {@linkcode BlessfsError} with a stable `code` (docs/ERRORS.md); any other error is a bug in the library.
 *
 * @example Bless an OCI image layout
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged, createFileSink } from "@blessfs/blessfs";
 * import { rmSync, statSync } from "node:fs";
 *
 * const image = "/tmp/blessfs-example.ext4";
 * const report = await blessMerged({
 *   source: "oci:fixtures/oci-tiny",
 *   sink: createFileSink(image, { force: true }),
 * });
 * assertEquals(report.sizeBytes, statSync(image).size);
 * assertEquals(report.sizeBytes % report.grid, 0);
 * rmSync(image);
 * ```
 *
 * @example Bless a stream into a stream
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged, toWritable } from "@blessfs/blessfs";
 * import { createReadStream } from "node:fs";
 *
 * // It could also be a response body: `(await fetch(url)).body`.
 * const stdin = createReadStream("fixtures/tar/gnu-v7.tar");
 * const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
 * const blessed = blessMerged({ source: "-", stdin, sink: toWritable(writable) });
 * let receivedBytes = 0;
 * for await (const piece of readable) receivedBytes += piece.length;
 * assertEquals(receivedBytes, (await blessed).sizeBytes);
 * ```
 *
 * @example Plan without writing
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { buildTree, contentIdentity, loadLayers, openImage, planImage } from "@blessfs/blessfs";
 *
 * using image = await openImage("oci:fixtures/oci-tiny");
 * using layers = await loadLayers(image);
 * const tree = buildTree(layers);
 * for (const gridBytes of [64 * 1024, 128 * 1024]) {
 *   const plan = planImage(tree, { layout: { gridBytes }, ...contentIdentity(image, layers) });
 *   assertEquals(plan.summary.sizeBytes % gridBytes, 0);
 *   for (const file of plan.files) {
 *     if (!file.isAligned) continue;
 *     for (const { logicalBlock, startBlock } of file.extents) {
 *       assert((startBlock - logicalBlock) % plan.gridBlocks === 0);
 *     }
 *   }
 * }
 * ```
 *
 * @module
 */
export * from "./lib/bless/mod.ts";
export * from "./lib/source/mod.ts";
export * from "./lib/ext4/mod.ts";
export * from "./lib/tar/mod.ts";
export * from "./lib/verity/mod.ts";
export * from "./lib/disk/mod.ts";
export * from "./lib/chunk/mod.ts";
export * from "./lib/io/mod.ts";
export * from "./probe/mod.ts";

export { buildTree } from "./lib/tree/build.ts";
export type { BuildTreeOptions, TreeLayer } from "./lib/tree/build.ts";
export { overlayTrees } from "./lib/tree/overlay.ts";
export type { OverlayTree } from "./lib/tree/overlay.ts";
export type { NodeTime } from "./lib/tree/layer.ts";
export type { AddedEntries } from "./lib/tree/layer.ts";
export type { IdMaps, IdRange, NodeOwner } from "./lib/tree/owners.ts";
export { DEFAULT_TREE_LIMITS } from "./lib/tree/paths.ts";
export type { TreeLimits } from "./lib/tree/paths.ts";
export { sortedChildren, walkTree } from "./lib/model/node.ts";
export type {
  DirectoryNode,
  FileNode,
  FileTree,
  NodeAttributes,
  NodeBase,
  NodeOrigin,
  SpecialNode,
  SymlinkNode,
  TreeNode,
  Xattr,
} from "./lib/model/node.ts";
export { BLOCK_SIZE_BYTES, payloadStream, readPayload } from "./lib/model/node.ts";
export type { BlockRun, DataSegment, Payload, PayloadIndex } from "./lib/model/node.ts";
export type { DiffCounts } from "./lib/tree/diff.ts";
export { formatUuid } from "./lib/bytes/digest.ts";
export {
  BlessfsError,
  ERROR_CODES,
  InputError,
  InterruptedError,
  IoError,
  UsageError,
} from "./lib/errors.ts";
export type { ErrorCode, ErrorDetails, OptionDifference, Remedy } from "./lib/errors.ts";
export { Warnings } from "./lib/warnings.ts";
export type { WarningSummary } from "./lib/warnings.ts";
export { NO_PROGRESS } from "./lib/progress.ts";
export type { Progress, ProgressTask } from "./lib/progress.ts";
export {
  bytesFromByteString,
  byteStringFromBytes,
  byteStringFromText,
  displayName,
  textFromByteString,
} from "./lib/bytes/byte_string.ts";
export type { ByteString } from "./lib/bytes/byte_string.ts";
