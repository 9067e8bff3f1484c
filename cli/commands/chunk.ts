/**
 * `blessfs chunk`, and what `bless` shares with it: opening stores for chunks, and reporting on them.
 *
 * @module
 */
import { checkChunkSize, type ChunkDigest, ZSTD_LEVEL_MAX } from "../../lib/chunk/chunk.ts";
import {
  type ChunkCounts,
  ChunkSink,
  ChunkUploader,
  createIndexSink,
} from "../../lib/chunk/chunk_sink.ts";
import { type ChunkerParameters, chunkerText, fastCdcParameters } from "../../lib/chunk/fastcdc.ts";
import { isS3Address } from "../../lib/chunk/s3_request.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { readFileInto, readStreamInto } from "../../lib/io/streams.ts";
import { realPathOf } from "../../lib/io/paths.ts";
import { type ImageSink, teeSink } from "../../lib/io/sink.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { CHUNK_OPTIONS } from "../table/options.ts";
import type { Rows } from "../text.ts";
import {
  choiceError,
  formatCount,
  formatDuration,
  formatSize,
  parseCount,
  parseSize,
} from "../values.ts";
import { exactSize, Outputs, refuseInsideSource, refuseTerminal, stdoutSink } from "./outputs.ts";
import { certificateFiles } from "./sources.ts";

/** Of the sizes compared in docs/DEDUP.md, the one that needs the least storage. */
const FASTCDC_AVERAGE_BYTES = 128 * 1024;

interface OpenedUploader {
  readonly uploader: ChunkUploader;
  /** Safe to print. */
  readonly storeName: string;
  readonly digest: ChunkDigest;
  readonly dryRun: boolean;
  /** Undefined for chunks of one size. */
  readonly chunker: ChunkerParameters | undefined;
  /** Allows others to prune the store again. Call it when all indexes have been written, and after failures. */
  close(): Promise<void>;
}

interface UploaderContext {
  /** Options that need a store, in addition to those of every command with a store. */
  readonly others?: readonly string[];
  readonly source?: string;
}

/**
 * Opens the store that the arguments name; undefined if they do not name one.
 *
 * @throws {UsageError} for an option that needs a store when none is given, and for a store inside the source
 */
export async function openUploader(
  args: ParsedArguments,
  io: CommandIo,
  { others = [], source }: UploaderContext = {},
): Promise<OpenedUploader | undefined> {
  const text = args.value("store");
  if (text === undefined) {
    const first = args.firstGiven([...CHUNK_OPTIONS.map(({ name }) => name), ...others]);
    if (first === undefined) return undefined;
    throw new UsageError(`--${first}`, "has no effect without a store", {
      hint: "name one with --store",
    });
  }
  if (source !== undefined && !isS3Address(text)) refuseInsideSource(text, source);
  const zstdLevel = args.read("zstd-level", (level, what) => {
    return parseCount(level, what, 1, ZSTD_LEVEL_MAX);
  });
  const chunker = args.read("chunker", parseChunker);
  const dryRun = args.flag("dry-run");
  const { signal } = io;
  const { openChunkStore } = await import("../../lib/chunk/store.ts");
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
    digest: args.text("digest") as ChunkDigest,
    dryRun,
    chunker,
    close: () => uploader.close(),
  };
}

/** A store, and the sink that cuts one image into chunks for it. */
export interface OpenedChunks extends Pick<OpenedUploader, "dryRun" | "close"> {
  readonly sink: ChunkSink;
  report(): StoreReport;
}

/** Opens the store that the arguments name, for one image that is cut at the grid or by the chosen chunker. */
export async function openChunks(
  args: ParsedArguments,
  io: CommandIo,
  gridBytes: number,
  context?: UploaderContext,
): Promise<OpenedChunks | undefined> {
  const opened = await openUploader(args, io, context);
  if (opened === undefined) return undefined;
  const { uploader, digest, chunker, dryRun, close } = opened;
  const chunkBytes = chunker?.maxBytes ?? gridBytes;
  const sink = new ChunkSink(uploader, { digest, chunker, chunkBytes });
  return { sink, dryRun, close, report: () => storeReport(opened, gridBytes, sink.counts) };
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

/** The sink of an index: a file, or standard output for `-`. */
export function indexSink(
  path: string,
  outputs: Outputs,
  args: ParsedArguments,
  io: CommandIo,
  otherPaths: readonly string[] = [],
): ImageSink {
  if (path === "-") return stdoutSink("index", io);
  if (path.includes("\ufffd")) {
    throw new UsageError(safeLine(path), "is not UTF-8: such names are not supported");
  }
  const store = args.value("store");
  if (store !== undefined && !isS3Address(store) && realPathOf(store) === realPathOf(path)) {
    throw new UsageError(safeLine(path), "is named for the store and for an index", {
      hint: "name two places",
    });
  }
  return outputs.file(path, "its index", otherPaths);
}

/** The JSON description of a store, in addition to the counts. */
export interface StoreReport extends ChunkCounts {
  readonly store: string;
  readonly dryRun: boolean;
  readonly digest: ChunkDigest;
  /** `fixed`, or `fastcdc:AVG:MIN:MAX` in bytes. */
  readonly chunker: string;
  /** The size of each chunk, or the maximum for variable ones. */
  readonly chunkBytes: number;
}

export function storeReport(
  { storeName, dryRun, digest, chunker }: OpenedUploader,
  chunkBytes: number,
  counts: Readonly<ChunkCounts>,
): StoreReport {
  return {
    store: storeName,
    dryRun,
    digest,
    chunker: chunker === undefined ? "fixed" : `fastcdc:${chunkerText(chunker)}`,
    chunkBytes: chunker?.maxBytes ?? chunkBytes,
    ...counts,
  };
}

export function storeRows(report: StoreReport): Rows {
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

/** Where standard input can be opened as a file. */
const STDIN_PATH = "/dev/stdin";

export async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const image = args.positional("IMAGE");
  const output = args.value("output");
  const chunkBytes = args.read("grid", parseSize);
  checkChunkSize(chunkBytes, "--grid");
  if (image === "-") refuseTerminal("IMAGE", io);
  if (output === undefined && !args.flag("dry-run")) {
    throw new UsageError("--output", "there is no name for the index", {
      hint: "name one with -o FILE.caibx, or ask only what would be new with --dry-run",
    });
  }
  const inputs = { sources: [], added: [image === "-" ? STDIN_PATH : image] };
  const target = output === undefined
    ? undefined
    : indexSink(output, new Outputs(args, io, inputs), args, io);
  const chunks = (await openChunks(args, io, chunkBytes))!;
  const withIndex = target !== undefined && !chunks.dryRun;
  const sink = withIndex ? teeSink(chunks.sink, createIndexSink(chunks.sink, target)) : chunks.sink;
  const sizeBytes = await readInto(image, sink, chunks.sink, io).finally(() => chunks.close());
  const report = chunks.report();
  const elapsedMs = Math.round(io.now() - started);
  const index = withIndex ? output! : null;
  await io.answer({ image, index, sizeBytes, ...report, elapsedMs }, [
    ["image", safeLine(image)],
    ["size", exactSize(sizeBytes)],
    ["index", index === null ? "none: a dry run" : safeLine(index)],
    ...storeRows(report),
    ["time", formatDuration(elapsedMs)],
  ], [index]);
}

/** Reads the image; on any failure, the sink is aborted. */
async function readInto(
  image: string,
  sink: ImageSink,
  chunks: ChunkSink,
  io: CommandIo,
): Promise<number> {
  const { signal, progress } = io;
  const checkSize = (sizeBytes: number) => chunks.checkSize(sizeBytes);
  try {
    if (image !== "-") return await readFileInto(image, sink, { signal, progress, checkSize });
    return await readStreamInto(notEmpty(io.stdin.chunks()), sink, { signal, progress });
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/** Runtimes present a closed standard input as an empty stream. */
async function* notEmpty(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  for await (const piece of stream) {
    sizeBytes += piece.length;
    yield piece;
  }
  if (sizeBytes > 0) return;
  throw new InputError("standard input", "is empty or closed: wanted a disk image or any file");
}
