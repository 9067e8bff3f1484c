/**
 * The options of chunk stores, which `bless` and `chunk` share, and what is reported of a store.
 *
 * @module
 */
import { checkOutput, realPathOf } from "../../lib/io/paths.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { createStdoutSink, type ImageSink } from "../../lib/io/sink.ts";
import {
  CHUNK_DIGESTS,
  type ChunkDigest,
  ZSTD_LEVEL_DEFAULT,
  ZSTD_LEVEL_MAX,
} from "../../lib/chunk/chunk.ts";
import { type ChunkCounts, ChunkUploader } from "../../lib/chunk/chunk_uploader.ts";
import { openChunkStore } from "../../lib/chunk/open_store.ts";
import { isS3Address } from "../../lib/chunk/s3_request.ts";
import { UsageError } from "../../lib/errors.ts";
import type { OptionSpec } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { formatCount, formatSize } from "../sizes.ts";
import { parseCount } from "../values.ts";
import { refuseInsideSource } from "./outside_source.ts";

/** Where chunks go. */
export const STORE_OPTION: OptionSpec = {
  name: "store",
  value: "STORE",
  completion: "directory",
  summary:
    "put the chunks into this store: a directory, or s3+https://HOST/BUCKET/PREFIX with the keys of AWS_ACCESS_KEY_ID " +
    "and AWS_SECRET_ACCESS_KEY or of a profile",
};

/** How they get there. */
export const STORE_OPTION_SPECS: readonly OptionSpec[] = [
  {
    name: "digest",
    value: "NAME",
    choices: CHUNK_DIGESTS,
    defaultText: CHUNK_DIGESTS[0]!,
    summary: "what chunks are called by; all users of a store must take the same",
  },
  {
    name: "zstd-level",
    value: "N",
    defaultText: String(ZSTD_LEVEL_DEFAULT),
    summary: `how hard new chunks are compressed, 1 to ${ZSTD_LEVEL_MAX}`,
  },
  {
    name: "verify-store",
    summary: "read the chunks that are in the store, and fail when one is damaged",
  },
  { name: "dry-run", summary: "write nothing at all, and say what would be new in the store" },
];

/** A store that was opened, and how it is used. */
export interface OpenedUploader {
  readonly uploader: ChunkUploader;
  /** Safe to print. */
  readonly storeName: string;
  readonly digest: ChunkDigest;
  readonly isDryRun: boolean;
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
    refuseWithoutStore(args, others);
    return undefined;
  }
  if (source !== undefined && !isS3Address(text)) refuseInsideSource(text, source);
  const level = args.value("zstd-level");
  const zstdLevel = level === undefined
    ? ZSTD_LEVEL_DEFAULT
    : parseCount(level, "--zstd-level", 1, ZSTD_LEVEL_MAX);
  const isDryRun = args.flag("dry-run");
  const { signal } = io;
  const store = await openChunkStore(text, { env: io.env, signal });
  const verifiesStore = args.flag("verify-store");
  return {
    uploader: new ChunkUploader({ store, zstdLevel, isDryRun, verifiesStore, signal }),
    storeName: store.name,
    digest: (args.value("digest") ?? CHUNK_DIGESTS[0]) as ChunkDigest,
    isDryRun,
  };
}

function refuseWithoutStore(args: ParsedArguments, others: readonly string[]): void {
  const values = ["digest", "zstd-level", ...others].filter((name) =>
    args.value(name) !== undefined
  );
  const flags = ["verify-store", "dry-run"].filter((name) => args.flag(name));
  const [first] = [...values, ...flags];
  if (first === undefined) return;
  throw new UsageError(`--${first}`, "there is no store that it could be for", {
    hint: "name one with --store",
  });
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
  if (path === "-") {
    if (!io.json) return createStdoutSink((bytes) => io.stdout.writeThrough(bytes));
    throw new UsageError("--json", "the index takes standard output, so the report cannot", {
      hint: "write the index to a file, or leave out --json",
    });
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
  readonly chunkBytes: number;
}

/** Puts a report together. */
export function storeReport(
  { storeName, isDryRun, digest }: OpenedUploader,
  chunkBytes: number,
  counts: Readonly<ChunkCounts>,
): StoreReport {
  return { store: storeName, dryRun: isDryRun, digest, chunkBytes, ...counts };
}

/** The same for people. */
export function storeRows(report: StoreReport): readonly (readonly [string, string])[] {
  const { chunks, distinctChunks, zeroChunks, newChunks, reusedChunks } = report;
  const sent = `${formatSize(report.sentBytes)} ${report.dryRun ? "to send" : "sent"}`;
  return [
    ["store", safeLine(report.store)],
    [
      "chunks",
      `${formatCount(chunks)} of ${formatSize(report.chunkBytes)}, ${
        formatCount(distinctChunks)
      } distinct, ${formatCount(zeroChunks)} of zeros`,
    ],
    ["new", `${formatCount(newChunks)} chunks, ${formatSize(report.newBytes)}, ${sent}`],
    ["reused", `${formatCount(reusedChunks)} chunks, ${formatSize(report.reusedBytes)}`],
  ];
}
