/**
 * `blessfs chunk`: an image that is there already, into a chunk store.
 *
 * @module
 */
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { checkChunkSize } from "../../lib/chunk/chunk.ts";
import { ChunkSink, createIndexSink } from "../../lib/chunk/chunk_sink.ts";
import { readFileInto, readStreamInto } from "../../lib/io/file_source.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { type ImageSink, teeSink } from "../../lib/io/sink.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import { aligned } from "../text.ts";
import { formatDuration, parseSize } from "../values.ts";
import { exactSize, refuseTerminal } from "./outputs.ts";
import {
  cutOptions,
  indexTarget,
  openUploader,
  type StoreReport,
  storeReport,
  storeRows,
} from "./store.ts";

/** The file that standard input comes from, where it comes from one. */
const STDIN_PATH = "/dev/stdin";

/** `blessfs chunk IMAGE --store STORE -o FILE.caibx`. */
export async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const image = args.positional("IMAGE");
  const index = args.value("output");
  const chunkBytes = args.parsed("grid", parseSize) ?? MERGED_DEFAULTS.gridBytes;
  checkChunkSize(chunkBytes, "--grid");
  if (image === "-") refuseTerminal("IMAGE", io);
  if (index === undefined && !args.flag("dry-run")) {
    throw new UsageError("--output", "there is no name for the index", {
      hint: "name one with -o FILE.caibx, or ask only what would be new with --dry-run",
    });
  }
  const target = index === undefined
    ? undefined
    : indexTarget(index, args, io, { sourcePaths: [image === "-" ? STDIN_PATH : image] });
  const opened = (await openUploader(args, io))!;
  const chunks = new ChunkSink(opened.uploader, cutOptions(opened, chunkBytes));
  const withIndex = target !== undefined && !opened.dryRun;
  const sink = withIndex ? teeSink(chunks, createIndexSink(chunks, target)) : chunks;
  const sizeBytes = await readInto(image, { sink, chunks }, io).finally(() => opened.close());
  const report = storeReport(opened, chunkBytes, chunks.counts);
  const elapsedMs = Math.round(io.now() - started);
  const written = withIndex ? index! : null;
  if (io.json) await io.writeReport({ image, index: written, sizeBytes, ...report, elapsedMs });
  else if (!io.quiet) {
    await tell(reportText(report, { image, index: written, sizeBytes, elapsedMs }), written, io);
  }
}

/** Reads the image; whatever goes wrong, the sink is aborted. */
async function readInto(
  image: string,
  { sink, chunks }: { readonly sink: ImageSink; readonly chunks: ChunkSink },
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

/** Runtimes open something empty where standard input is closed. */
async function* notEmpty(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  for await (const piece of stream) {
    sizeBytes += piece.length;
    yield piece;
  }
  if (sizeBytes > 0) return;
  throw new InputError("standard input", "is empty or closed: wanted a disk image or any file");
}

/** Where the index takes standard output, the report goes beside it. */
async function tell(text: string, index: string | null, io: CommandIo): Promise<void> {
  if (index === "-") io.stderr.write(text);
  else await io.stdout.write(text);
}

interface Told {
  readonly image: string;
  readonly index: string | null;
  readonly sizeBytes: number;
  readonly elapsedMs: number;
}

function reportText(report: StoreReport, { image, index, sizeBytes, elapsedMs }: Told): string {
  return aligned([
    ["image", safeLine(image)],
    ["size", exactSize(sizeBytes)],
    ["index", index === null ? "none: a dry run" : safeLine(index)],
    ...storeRows(report),
    ["time", formatDuration(elapsedMs)],
  ]);
}
