/**
 * blessfs as a library: from a container image to an ext4 image that fixed-block stores deduplicate well.
 *
 * The whole way in one call is {@linkcode blessMerged}, or {@linkcode blessLayered} for one image a layer. Its parts can be had one by one: {@linkcode openImage} and
 * {@linkcode loadLayers} read a source, {@linkcode buildTree} applies its layers, {@linkcode planImage} works out every
 * byte of the image but its payload, {@linkcode writeImage} writes it to a sink.
 *
 * {@linkcode probe} measures what a store of fixed blocks saves across images, on the bytes that would be written.
 *
 * {@linkcode verifyImage} checks an image, whoever made it: every checksum, every structure, every count.
 *
 * {@linkcode openExt4Image} and {@linkcode readTree} give back what is in an image, as the same tree.
 *
 * Everything here runs on node: modules alone, in Deno, Bun and Node. Nothing prints, reads the clock or asks for
 * randomness. Names of files are byte strings ({@linkcode ByteString}), sizes are bytes. What a caller is expected to
 * meet is thrown as a {@linkcode BlessfsError}; any other error is a fault of the library.
 *
 * @example Bless an OCI image layout
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mkdtempSync, rmSync, statSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { blessMerged, createFileSink, MERGED_DEFAULTS, NO_PROGRESS, Warnings } from "./mod.ts";
 *
 * const directory = mkdtempSync(join(tmpdir(), "blessfs-"));
 * const image = join(directory, "tiny.ext4");
 * const fixture = new URL("./fixtures/oci-tiny", import.meta.url).pathname;
 * const report = await blessMerged({
 *   source: `oci:${fixture}`,
 *   layout: { ...MERGED_DEFAULTS, journalBytes: 0 },
 *   sink: createFileSink(image),
 *   warnings: new Warnings(),
 *   progress: NO_PROGRESS,
 * });
 * assertEquals(report.sizeBytes, statSync(image).size);
 * assertEquals(report.sizeBytes % report.grid, 0);
 * rmSync(directory, { recursive: true });
 * ```
 *
 * @example Plan without writing
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import {
 *   buildTree,
 *   closeLayers,
 *   contentIdentity,
 *   loadLayers,
 *   MERGED_DEFAULTS,
 *   NO_PROGRESS,
 *   openImage,
 *   planImage,
 *   Warnings,
 * } from "./mod.ts";
 *
 * const options = { warnings: new Warnings(), progress: NO_PROGRESS };
 * const fixture = new URL("./fixtures/oci-tiny", import.meta.url).pathname;
 * const image = await openImage(`oci:${fixture}`, options);
 * const layers = await loadLayers(image, options);
 * try {
 *   const tree = buildTree(layers, { ...options, defaultTime: { seconds: 0, nanoseconds: 0 } });
 *   for (const gridBytes of [64 * 1024, 128 * 1024]) {
 *     const plan = planImage(tree, {
 *       layout: { ...MERGED_DEFAULTS, gridBytes },
 *       ...contentIdentity(image, layers),
 *       timestamp: 0,
 *       warnings: options.warnings,
 *     });
 *     assertEquals(plan.summary.sizeBytes % gridBytes, 0);
 *     for (const file of plan.files) {
 *       if (!file.isAligned) continue;
 *       for (const { logicalBlock, startBlock } of file.extents) {
 *         assert((startBlock - logicalBlock) % plan.gridBlocks === 0);
 *       }
 *     }
 *   }
 * } finally {
 *   closeLayers(layers);
 *   image.close();
 * }
 * ```
 *
 * @example Measure what a store of blocks of 64 KiB saves across two images
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { MERGED_DEFAULTS, NO_PROGRESS, probe, Warnings } from "./mod.ts";
 *
 * const fixture = new URL("./fixtures/oci-tiny", import.meta.url).pathname;
 * const report = await probe({
 *   sources: [`oci:${fixture}`, `oci:${fixture}`],
 *   mode: "merged",
 *   asIs: false,
 *   thresholds: [64 * 1024],
 *   packings: [MERGED_DEFAULTS.packing],
 *   grids: [64 * 1024],
 *   chunker: undefined,
 *   compression: { kind: "none" },
 *   selfShift: false,
 *   pairwise: false,
 *   explain: false,
 *   timestamp: 0,
 *   warnings: new Warnings(),
 *   progress: NO_PROGRESS,
 * });
 * // Two equal images: one store keeps everything once.
 * assertEquals(report.schemes[report.mainScheme]?.crossImageDedup.raw, 0.5);
 * ```
 *
 * @example Read an image back, whoever made it
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { gunzipSync } from "node:zlib";
 * import { memoryReader, openExt4Image, readTree, verifyImage, walkTree, Warnings } from "./mod.ts";
 *
 * const fixture = new URL("./fixtures/ext4/csum-4k.img.gz", import.meta.url);
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
 * @example Put an image into a chunk store
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mkdtempSync, rmSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import {
 *   blessMerged,
 *   ChunkUploader,
 *   ChunkSink,
 *   MERGED_DEFAULTS,
 *   NO_PROGRESS,
 *   openChunkStore,
 *   Warnings,
 * } from "./mod.ts";
 *
 * const directory = mkdtempSync(join(tmpdir(), "blessfs-"));
 * const fixture = new URL("./fixtures/oci-tiny", import.meta.url).pathname;
 * const store = await openChunkStore(directory, { env: {} });
 * const uploader = new ChunkUploader({ store, zstdLevel: 3 });
 * const layout = MERGED_DEFAULTS;
 * const sink = new ChunkSink(uploader, { chunkBytes: layout.gridBytes, digest: "sha512-256" });
 * await blessMerged({
 *   source: `oci:${fixture}`,
 *   layout,
 *   sink,
 *   warnings: new Warnings(),
 *   progress: NO_PROGRESS,
 * });
 * const { newChunks, distinctChunks } = sink.counts;
 * assertEquals(newChunks, distinctChunks);
 * assertEquals(sink.index.chunkBytes, layout.gridBytes);
 * rmSync(directory, { recursive: true });
 * ```
 *
 * @example Cut bytes into chunks that depend on the content alone
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Chunker, fastCdcParameters } from "./mod.ts";
 *
 * const lengths: number[] = [];
 * const chunker = new Chunker(fastCdcParameters(64 * 1024), (chunk) => lengths.push(chunk.length));
 * chunker.push(new Uint8Array(1_000_000));
 * chunker.finish();
 * assertEquals(lengths.reduce((sum, length) => sum + length), 1_000_000);
 * ```
 *
 * @example List what is in a tar
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { displayName, TarIndexer } from "./mod.ts";
 *
 * const names: string[] = [];
 * const indexer = new TarIndexer({
 *   name: "gnu-v7.tar",
 *   emit: (entry) => names.push(displayName(entry.path)),
 *   warn: () => {},
 * });
 * // In pieces of any size.
 * indexer.push(readFileSync(new URL("./fixtures/tar/gnu-v7.tar", import.meta.url)));
 * indexer.end();
 * assertEquals(names.slice(0, 3), ["simple/", "simple/dir/", "simple/dir/file"]);
 * ```
 *
 * @module
 */

// Blessing.
export { blessMerged, type BlessMergedOptions } from "./lib/bless/merged.ts";
export { contentIdentity } from "./lib/bless/load_tree.ts";
export { blessLayered } from "./lib/bless/layered.ts";
export type {
  BlessLayeredOptions,
  LayeredLayerReport,
  LayeredReport,
} from "./lib/bless/layered.ts";
export { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "./lib/bless/options.ts";
export type { ImageSize, LayoutOptions, Packing, ReservedBlocks } from "./lib/bless/options.ts";
export type { PayloadOrder } from "./lib/layout/placement.ts";
export { deriveUuid, planImage } from "./lib/bless/plan_image.ts";
export type { ContentIdentity, PlanImageOptions } from "./lib/bless/plan_image.ts";
export type { BlessReport, ImageReport, LayerReport } from "./lib/bless/report.ts";

// Measuring what a store of fixed blocks saves.
export { probe } from "./probe/probe.ts";
export { probeFingerprints } from "./probe/fingerprints/probe_fingerprints.ts";
export type { FromFingerprintsOptions } from "./probe/fingerprints/probe_fingerprints.ts";
export type { ProbeOptions, Scheme } from "./probe/options.ts";
export type { CapturedShares, ProbeReport, SchemeReport } from "./probe/report.ts";
export type {
  HistogramBin,
  ImageMetrics,
  Measures,
  Overlap,
  SchemeMetrics,
} from "./probe/metrics.ts";
export type { UnitTotals } from "./probe/units/scheme_store.ts";
export type { ImageFacts } from "./probe/image_parts.ts";
export type { SelfShift } from "./probe/self_shift.ts";
export type { LostFile } from "./probe/explain.ts";
export type { Compression } from "./probe/units/compressor.ts";

// Content-defined chunking.
export { Chunker } from "./probe/fast_cdc/chunker.ts";
export type { ChunkReceiver } from "./probe/fast_cdc/chunker.ts";
export { fastCdcParameters, GEAR_PARAMETERS } from "./probe/fast_cdc/parameters.ts";
export type { ChunkerParameters } from "./probe/fast_cdc/parameters.ts";

// Registries.
export type { RegistryOptions } from "./lib/source/registry/endpoint.ts";
export type { RegistryTiming } from "./lib/source/registry/http.ts";

// Chunk stores of casync and desync.
export { openChunkStore } from "./lib/chunk/open_store.ts";
export type { OpenStoreOptions } from "./lib/chunk/open_store.ts";
export type { ChunkStore, PutOutcome } from "./lib/chunk/chunk_store.ts";
export { ChunkUploader } from "./lib/chunk/chunk_uploader.ts";
export type { ChunkUploaderOptions, OfferedChunk } from "./lib/chunk/chunk_uploader.ts";
export { ChunkSink } from "./lib/chunk/chunk_sink.ts";
export type { ChunkSinkOptions } from "./lib/chunk/chunk_sink.ts";
export { createIndexSink } from "./lib/chunk/chunk_sink.ts";
export { decodeChunkIndex, encodeChunkIndex } from "./lib/chunk/chunk_index.ts";
export type { ChunkIndex } from "./lib/chunk/chunk_index.ts";
export type { ChunkDigest } from "./lib/chunk/chunk.ts";
export type { Environment } from "./lib/chunk/aws_settings.ts";
export type { ChunkCounts } from "./lib/chunk/chunk_uploader.ts";
export type { LayerChunksTarget } from "./lib/bless/layered_chunks.ts";

// Sources: images and their layers.
export { closeLayers, DEFAULT_SOURCE_LIMITS, loadLayers, openImage } from "./lib/source/source.ts";
export type {
  LayerSource,
  LoadedLayer,
  OpenedImage,
  SourceKind,
  SourceLimits,
  SourceOptions,
  StoredBytes,
} from "./lib/source/source.ts";
export type { StoredFile, StoredLoaded, StoredOutput, StoredStream } from "./lib/source/types.ts";
export type { SharedDescriptor } from "./lib/io/random_reader.ts";
export type { Platform } from "./lib/source/platform.ts";

// Trees.
export { buildTree } from "./lib/tree/build.ts";
export type { BuildTreeOptions, TreeLayer } from "./lib/tree/build.ts";
export { overlayTrees } from "./lib/tree/overlay.ts";
export type { OverlayTree } from "./lib/tree/overlay.ts";
export type { NodeTime } from "./lib/tree/nodes.ts";
export type { TreeLimits } from "./lib/tree/limits.ts";
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
export { BLOCK_SIZE_BYTES, readPayload } from "./lib/model/payload.ts";
export type { BlockRun, DataSegment, Payload, PayloadIndex } from "./lib/model/payload.ts";

// Plans and how they are written.
export type {
  FileLayout,
  ImagePlan,
  MetadataWrite,
  PayloadWrite,
  PlanSummary,
} from "./lib/ext4/plan/image_plan.ts";
export type { Geometry } from "./lib/ext4/plan/geometry.ts";
export type { BlockRange } from "./lib/layout/blocks.ts";
export type { MetadataContent, NodeDraft } from "./lib/ext4/plan/inode_drafts.ts";
export type { InodeXattrs, SharedXattrBlock } from "./lib/ext4/plan/xattrs.ts";
export type { DiskXattr } from "./lib/ext4/format/xattr.ts";
export { formatUuid } from "./lib/bytes/uuid.ts";
export { parseUuid } from "./lib/ext4/plan/settings.ts";
export { writeImage } from "./lib/ext4/write/write_image.ts";
export type { WriteOptions, WriteResult } from "./lib/ext4/write/write_image.ts";

// Verifying images.
export { verifyImage } from "./lib/ext4/read/verify/verify.ts";
export type {
  Finding,
  LayoutReport,
  LayoutRule,
  Place,
  Structure,
  VerifyOptions,
  VerifyReport,
} from "./lib/ext4/read/verify/verify.ts";

// Images read: ext2, ext3 and ext4, strictly.
export { openExt4Image } from "./lib/ext4/read/image.ts";
export type { OpenExt4Options } from "./lib/ext4/read/image.ts";
export type {
  BlockMapOptions,
  Ext4Image,
  ImageInode,
  MapBlock,
  MappedRun,
  NodeKind,
} from "./lib/ext4/read/types.ts";
export type { BlockPlace, ImageGeometry } from "./lib/ext4/read/geometry.ts";
export type { Superblock } from "./lib/ext4/format/superblock.ts";
export type { GroupDescriptor } from "./lib/ext4/format/group_descriptor.ts";
export type { InodeRecord, Timestamp } from "./lib/ext4/format/inode.ts";
export { readTree } from "./lib/ext4/read/tree.ts";
export type { ReadTreeOptions } from "./lib/ext4/read/tree.ts";
export { BlockBudget, DEFAULT_READ_LIMITS } from "./lib/ext4/read/limits.ts";
export type { ReadLimits } from "./lib/ext4/read/limits.ts";
export { findInode } from "./lib/ext4/read/path.ts";
export type { FoundInode } from "./lib/ext4/read/path.ts";
export { listNames } from "./lib/ext4/read/listing.ts";
export { readDirectory } from "./lib/ext4/read/directory.ts";
export type { DirectoryContent, DirectoryName } from "./lib/ext4/read/directory.ts";
export { readSymlink } from "./lib/ext4/read/symlink.ts";
export { blockRuns } from "./lib/ext4/read/block_map.ts";
export { filePayload, ImagePayload } from "./lib/ext4/read/payload.ts";
export type { PayloadBounds } from "./lib/ext4/read/payload.ts";
export { XattrReader } from "./lib/ext4/read/xattrs.ts";
export type { StoredXattr } from "./lib/ext4/read/xattrs.ts";
export { inspectImage } from "./lib/ext4/read/inspect_image.ts";
export type {
  ChecksumPair,
  GroupInspection,
  ImageInspection,
} from "./lib/ext4/read/inspect_image.ts";
export type { JournalSuperblock } from "./lib/ext4/format/journal.ts";
export { inspectInode } from "./lib/ext4/read/inspect_inode.ts";
export type { ContentPlace, InodeInspection } from "./lib/ext4/read/inspect_inode.ts";

// Where an image goes to, and where payload comes from.
export { createFileSink } from "./lib/io/file_sink.ts";
export type { FileSinkOptions } from "./lib/io/file_sink.ts";
export type { FileOperations } from "./lib/io/file_sink.ts";
export type { OutputOptions } from "./lib/io/paths.ts";
export { createStdoutSink } from "./lib/io/sink.ts";
export type { StreamWriter } from "./lib/io/sink.ts";
export { nullSink, teeSink } from "./lib/io/sink.ts";
export type { ImageSink } from "./lib/io/sink.ts";
export { descriptorReader, memoryReader, readExactly } from "./lib/io/random_reader.ts";
export type { RandomReader, ReaderParts } from "./lib/io/random_reader.ts";

// Back to a tar, the layer between two sources, and checksums of images that exist.
export { exportTar } from "./lib/bless/export.ts";
export type { ExportOptions, ExportReport, TarCounts } from "./lib/bless/export.ts";
export { diffSources } from "./lib/bless/diff.ts";
export type { DiffReport, DiffSourcesOptions } from "./lib/bless/diff.ts";
export type { DiffCounts } from "./lib/tree/diff.ts";
export { switchMetadataChecksums } from "./lib/ext4/checksum/switch.ts";
export type { SwitchOptions, SwitchReport } from "./lib/ext4/checksum/switch.ts";
export type { SwitchCounts } from "./lib/ext4/checksum/switch_context.ts";
export type { ImageFiles } from "./lib/ext4/checksum/image_files.ts";

// Tar.
export { TarIndexer } from "./lib/tar/indexer.ts";
export type { TarIndexerOptions } from "./lib/tar/indexer.ts";
export { encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "./lib/tar/writer.ts";
export type { EncodedTarEntry, StoredRange } from "./lib/tar/writer.ts";
export type { TarEntry, TarEntryKind } from "./lib/tar/entry.ts";
export type { TarLimits } from "./lib/tar/limits.ts";
export type { WarnCallback } from "./lib/tar/pax.ts";

// Errors, warnings, progress.
export { BlessfsError, InputError, InterruptedError, IoError, UsageError } from "./lib/errors.ts";
export type { ErrorDetails, OptionDifference, Remedy } from "./lib/errors.ts";
export { Warnings } from "./lib/warnings.ts";
export type { WarningSummary } from "./lib/warnings.ts";
export { NO_PROGRESS } from "./lib/progress.ts";
export type { Progress, ProgressTask } from "./lib/progress.ts";

// Names are bytes.
export {
  bytesFromByteString,
  byteStringFromBytes,
  byteStringFromText,
  displayName,
  textFromByteString,
} from "./lib/bytes/byte_string.ts";
export type { ByteString } from "./lib/bytes/byte_string.ts";
