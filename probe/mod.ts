/**
 * Measures what a store of fixed blocks saves, on the bytes that would be written, compared with content-defined chunks
 * and whole files.
 *
 * @example Measure what a store of 64 KiB blocks saves across two images
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { probe } from "@blessfs/blessfs/probe";
 *
 * const report = await probe({
 *   sources: ["oci:fixtures/oci-tiny", "oci:fixtures/oci-tiny"],
 *   grids: [64 * 1024],
 *   compression: { kind: "none" },
 * });
 * // The images are equal, so a shared store keeps everything once.
 * assertEquals(report.schemes[report.mainScheme]?.crossImageDedup.raw, 0.5);
 * ```
 *
 * @example Cut bytes into content-defined chunks
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Chunker, fastCdcParameters } from "@blessfs/blessfs/probe";
 *
 * const lengths: number[] = [];
 * const chunker = new Chunker(fastCdcParameters(64 * 1024), (chunk) => lengths.push(chunk.length));
 * chunker.push(new Uint8Array(1_000_000));
 * chunker.finish();
 * assertEquals(lengths.reduce((sum, length) => sum + length), 1_000_000);
 * ```
 *
 * @module
 */
export { probe } from "./probe.ts";
export { probeFingerprints } from "./fingerprints/reader.ts";
export type { FromFingerprintsOptions } from "./fingerprints/reader.ts";
export { SCHEME_KINDS } from "./schemes.ts";
export type {
  ProbeOptions,
  ResolvedProbeOptions,
  Scheme,
  SchemeDescription,
  SchemeKind,
} from "./schemes.ts";
export type { CapturedShares, ProbeReport, SchemeReport } from "./report.ts";
export type { HistogramBin, ImageMetrics, Measures, Overlap, SchemeMetrics } from "./report.ts";
export type { UnitTotals } from "./units/store.ts";
export type { ImageFacts } from "./images.ts";
export type { SelfShift } from "./details.ts";
export type { LostFile } from "./details.ts";
export type { Compression } from "./units/stored_sizes.ts";
export { Chunker } from "../lib/chunk/fastcdc.ts";
export type { ChunkReceiver } from "../lib/chunk/fastcdc.ts";
export { fastCdcParameters, GEAR_PARAMETERS } from "../lib/chunk/fastcdc.ts";
export type { ChunkerParameters } from "../lib/chunk/fastcdc.ts";
