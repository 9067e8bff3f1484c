/**
 * `blessfs chunk IMAGE --store STORE -o FILE.caibx`.
 *
 * @module
 */
import { MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { checkChunkSize } from "../../lib/chunk/chunk.ts";
import { ChunkSink, createIndexSink } from "../../lib/chunk/chunk_sink.ts";
import { readFileInto, readStreamInto } from "../../lib/chunk/read_file.ts";
import { UsageError } from "../../lib/errors.ts";
import { type ImageSink, teeSink } from "../../lib/io/sink.ts";
import type { Command } from "../command.ts";
import { JSON_OPTION } from "../command.ts";
import { safeLine } from "../errors_output.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { formatCount, formatDuration, formatSize, parseSize, sizeOption } from "../sizes.ts";
import { aligned } from "../text.ts";
import {
  indexTarget,
  openUploader,
  STORE_OPTION,
  STORE_OPTION_SPECS,
  type StoreReport,
  storeReport,
  storeRows,
} from "./chunk_options.ts";

/** The command. */
export const chunkCommand: Command = {
  name: "chunk",
  summary: "put an existing image into a chunk store of casync and desync",
  examples: [
    {
      purpose: "Put an image into a store in a directory",
      line: "blessfs chunk python.ext4 --store /srv/chunks -o python.caibx",
    },
    {
      purpose: "Put it into a bucket",
      line: "blessfs chunk vm.ext4 --store s3+https://host/bucket/chunks -o vm.caibx",
    },
    {
      purpose: "Ask how much of an image is new",
      line: "blessfs chunk python.ext4 --store /srv/chunks --dry-run",
    },
  ],
  description: [
    "The index is byte for byte that of `casync make --chunk-size=131072:131072:131072`. Chunks are stored as casync and " +
    "desync store them, each once. All of them are in the store before the index gets its name.",
    "`casync extract --store=http://host/chunks FILE.caibx IMAGE` and `desync extract -s STORE FILE.caibx IMAGE` get the " +
    "image back; `desync mount-index -s STORE FILE.caibx DIR` shows it without fetching more than is read.",
    "Many may write to one store at once, from several hosts.",
  ],
  positionals: [{
    name: "IMAGE",
    summary: "a file or a block device, or - for standard input",
    completion: "file",
  }],
  options: [
    { ...STORE_OPTION, required: true },
    {
      name: "output",
      short: "o",
      value: "FILE.caibx",
      completion: "file",
      summary: "the index to make; - writes it to standard output. Left out only with --dry-run",
    },
    {
      name: "grid",
      key: "chunkBytes",
      value: "SIZE",
      defaultText: sizeOption(MERGED_DEFAULTS.gridBytes),
      summary: "the size of chunks: the grid that the image was made for",
    },
    { name: "force", short: "f", summary: "replace an index that exists" },
    ...STORE_OPTION_SPECS,
    JSON_OPTION,
  ],
  run,
};

async function run(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const image = args.positional("IMAGE");
  const index = args.value("output");
  const grid = args.value("grid");
  const chunkBytes = grid === undefined ? MERGED_DEFAULTS.gridBytes : parseSize(grid, "--grid");
  checkChunkSize(chunkBytes, "--grid");
  if (image === "-" && io.stdin.isTerminal) {
    throw new UsageError("IMAGE", "`-` is standard input, and that is a terminal");
  }
  if (index === undefined && !args.flag("dry-run")) {
    throw new UsageError("--output", "there is no name for the index", {
      hint: "name one with -o FILE.caibx, or ask only what would be new with --dry-run",
    });
  }
  const target = index === undefined
    ? undefined
    : indexTarget(index, args, io, { sourcePaths: image === "-" ? [] : [image] });
  const opened = (await openUploader(args, io))!;
  const chunks = new ChunkSink(opened.uploader, { chunkBytes, digest: opened.digest });
  const withIndex = target !== undefined && !opened.isDryRun;
  const sink = withIndex ? teeSink(chunks, createIndexSink(chunks, target)) : chunks;
  const sizeBytes = await readInto(image, sink, io);
  const report = storeReport(opened, chunkBytes, chunks.counts);
  const elapsedMs = Math.round(io.now() - started);
  const written = withIndex ? index! : null;
  if (io.json) await io.writeJson({ image, index: written, sizeBytes, ...report, elapsedMs });
  else if (!io.quiet) {
    await tell(reportText(report, { image, index: written, sizeBytes, elapsedMs }), written, io);
  }
}

/** Reads the image; whatever goes wrong, the sink is aborted. */
async function readInto(image: string, sink: ImageSink, io: CommandIo): Promise<number> {
  const { signal, progress } = io;
  try {
    if (image === "-") return await readStreamInto(io.stdin.chunks(), sink, { signal, progress });
    return await readFileInto(image, sink, { signal, progress });
  } catch (error) {
    await sink.abort();
    throw error;
  }
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
    ["size", `${formatSize(sizeBytes)} (${formatCount(sizeBytes)} bytes)`],
    ["index", index === null ? "none: a dry run" : safeLine(index)],
    ...storeRows(report),
    ["time", formatDuration(elapsedMs)],
  ]);
}
