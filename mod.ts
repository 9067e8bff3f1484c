/**
 * blessfs as a library: from a container image to an ext4 image that fixed-block stores deduplicate well.
 *
 * The whole way in one call is {@linkcode blessMerged}, or {@linkcode blessLayered} for one image a layer. Its parts can be used one by one: {@linkcode openImage} and
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
 * @module
 */
export * from "./lib/bless/mod.ts";
export * from "./lib/source/mod.ts";
export * from "./lib/tree/mod.ts";
export * from "./lib/ext4/mod.ts";
export * from "./lib/tar/mod.ts";
export * from "./lib/verity/mod.ts";
export * from "./lib/disk/mod.ts";
export * from "./lib/chunk/mod.ts";
export * from "./lib/io/mod.ts";
export * from "./probe/mod.ts";

export { formatUuid } from "./lib/bytes/uuid.ts";
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
