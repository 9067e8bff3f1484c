/**
 * Chunk stores: what `bless` and `chunk` open them with, and what is reported of them.
 *
 * @module
 */
import { type ChunkerParameters, chunkerText, fastCdcParameters } from "../../lib/chunk/fastcdc.ts";
import { type ChunkCounts, type ChunkSink, ChunkUploader } from "../../lib/chunk/chunk_sink.ts";
import {
  CHUNK_DIGESTS,
  type ChunkDigest,
  ZSTD_LEVEL_DEFAULT,
  ZSTD_LEVEL_MAX,
} from "../../lib/chunk/chunk.ts";
import { openChunkStore } from "../../lib/chunk/store.ts";
import { certificateFiles } from "./sources.ts";
import { isS3Address } from "../../lib/chunk/s3_request.ts";
import { UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { checkOutput, realPathOf } from "../../lib/io/paths.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { choiceError, formatCount, formatSize, parseCount, parseSize } from "../values.ts";
import { refuseInsideSource, stdoutSink } from "./outputs.ts";

/** Of the sizes that docs/DEDUP.md compares, the one that stores least. */
const FASTCDC_AVERAGE_BYTES = 128 * 1024;

/** A store that was opened, and how it is used. */
export interface OpenedUploader {
  readonly uploader: ChunkUploader;
  /** Safe to print. */
  readonly storeName: string;
  readonly digest: ChunkDigest;
  readonly dryRun: boolean;
  /** Undefined for chunks of one size. */
  readonly chunker: ChunkerParameters | undefined;
  /** Lets others prune the store again. To be called when all indexes have been written, and after failures. */
  close(): Promise<void>;
}

/** What the commands differ in. */
export interface UploaderContext {
  /** Options that mean something only with a store, beside those of every command that has one. */
  readonly others?: readonly string[];
  /** What is blessed. */
  readonly source?: string;
}

/**
 * Opens the store that the arguments name; undefined when they name none.
 *
 * @throws {UsageError} for an option that wants a store and has none, and for a store inside of the source
 */
export async function openUploader(
  args: ParsedArguments,
  io: CommandIo,
  { others = [], source }: UploaderContext = {},
): Promise<OpenedUploader | undefined> {
  const text = args.value("store");
  if (text === undefined) {
    const unused = [
      "chunker",
      "digest",
      "zstd-level",
      ...others,
      "create-store",
      "verify-store",
      "dry-run",
    ];
    const first = args.firstGiven(unused);
    if (first === undefined) return undefined;
    throw new UsageError(`--${first}`, "has no effect without a store", {
      hint: "name one with --store",
    });
  }
  if (source !== undefined && !isS3Address(text)) refuseInsideSource(text, source);
  const zstdLevel = args.parsed("zstd-level", (level, what) => {
    return parseCount(level, what, 1, ZSTD_LEVEL_MAX);
  }) ?? ZSTD_LEVEL_DEFAULT;
  const chunker = args.parsed("chunker", parseChunker);
  const dryRun = args.flag("dry-run");
  const { signal } = io;
  const store = await openChunkStore(text, {
    env: io.env,
    signal,
    createStore: args.flag("create-store"),
    certificates: certificateFiles(args),
  });
  const verifyStore = args.flag("verify-store");
  const onWait = (mark: string) => {
    if (!io.quiet) io.stderr.write(`blessfs: ${store.name} is being pruned (${mark}): waiting\n`);
  };
  const uploader = new ChunkUploader({ store, zstdLevel, dryRun, verifyStore, signal, onWait });
  return {
    uploader,
    storeName: store.name,
    digest: (args.value("digest") ?? CHUNK_DIGESTS[0]) as ChunkDigest,
    dryRun,
    chunker,
    close: () => uploader.close(),
  };
}

/** How an image is cut: at the grid, or as the chunker says. */
export function cutOptions(
  { digest, chunker }: OpenedUploader,
  gridBytes: number,
): ConstructorParameters<typeof ChunkSink>[1] {
  return { digest, chunker, chunkBytes: chunker?.maxBytes ?? gridBytes };
}

function parseChunker(text: string, what: string): ChunkerParameters | undefined {
  const [kind, ...sizes] = text.split(":");
  if (kind === "fixed" && sizes.length === 0) return undefined;
  if (kind !== "fastcdc" || (sizes.length !== 0 && sizes.length !== 3)) {
    throw choiceError(safeLine(text), what, "fixed or fastcdc[:AVG:MIN:MAX]", ["fixed", "fastcdc"]);
  }
  const [average = FASTCDC_AVERAGE_BYTES, min, max] = sizes.map((size) => parseSize(size, what));
  return fastCdcParameters(average, min, max);
}

/**
 * Where an index goes: a file, or standard output for `-`. Its name is checked now.
 *
 * @param taken files that it must not be: what it is made of, and what is made beside it
 */
export function indexTarget(
  path: string,
  args: ParsedArguments,
  io: CommandIo,
  taken: { readonly sourcePaths?: readonly string[]; readonly image?: string | undefined } = {},
): ImageSink {
  if (path === "-") return stdoutSink("index", io);
  if (path.includes("\ufffd")) {
    throw new UsageError(safeLine(path), "is not UTF-8: such names are not supported");
  }
  const { image, sourcePaths = [] } = taken;
  const options = { force: args.flag("force"), signal: io.signal, sourcePaths };
  checkOutput(path, options);
  const store = args.value("store");
  if (store !== undefined && !isS3Address(store) && realPathOf(store) === realPathOf(path)) {
    throw new UsageError(safeLine(path), "is named for the store and for an index", {
      hint: "name two places",
    });
  }
  if (image !== undefined && realPathOf(image) === realPathOf(path)) {
    throw new UsageError(safeLine(path), "is named for the image and for its index", {
      hint: "name two files",
    });
  }
  return createFileSink(path, options);
}

/** What is said of a store as JSON, beside the counts. */
export interface StoreReport extends ChunkCounts {
  readonly store: string;
  readonly dryRun: boolean;
  readonly digest: ChunkDigest;
  /** `fixed`, or `fastcdc:AVG:MIN:MAX` in bytes. */
  readonly chunker: string;
  /** Of each chunk, or of the largest that there may be. */
  readonly chunkBytes: number;
}

/** Puts a report together. */
export function storeReport(
  { storeName, dryRun, digest, chunker }: OpenedUploader,
  chunkBytes: number,
  counts: Readonly<ChunkCounts>,
): StoreReport {
  const cut = chunker === undefined ? "fixed" : `fastcdc:${chunkerText(chunker)}`;
  const largest = chunker?.maxBytes ?? chunkBytes;
  const base = { store: storeName, dryRun: dryRun, digest, chunker: cut };
  return { ...base, chunkBytes: largest, ...counts };
}

/** The same for people. */
export function storeRows(report: StoreReport): readonly (readonly [string, string])[] {
  const { chunks, distinctChunks, zeroChunks, newChunks, reusedChunks } = report;
  const sent = `${formatSize(report.sentBytes)} ${report.dryRun ? "to send" : "sent"}`;
  const mostOf = report.chunker === "fixed" ? "" : "at most ";
  const kinds = `${formatCount(distinctChunks)} distinct, ${formatCount(zeroChunks)} of zeros`;
  return [
    ["store", safeLine(report.store)],
    ["chunks", `${formatCount(chunks)} of ${mostOf}${formatSize(report.chunkBytes)}, ${kinds}`],
    ["new", `${formatCount(newChunks)} chunks, ${formatSize(report.newBytes)}, ${sent}`],
    ["reused", `${formatCount(reusedChunks)} chunks, ${formatSize(report.reusedBytes)}`],
  ];
}
