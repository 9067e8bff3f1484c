/**
 * Where a merged image goes: a file, standard output, a chunk store, several of them.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { ChunkSink, createIndexSink } from "../../lib/chunk/chunk_sink.ts";
import { UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { createStdoutSink, type ImageSink, teeSink } from "../../lib/io/sink.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";
import { indexTarget, openUploader, type StoreReport, storeReport } from "./chunk_options.ts";
import { refuseInsideSource } from "./outside_source.ts";

/** For an image that only goes to a chunk store. */
export const NO_IMAGE = "none";

/** What is said of the store, and which index was written. */
export type StoredReport = StoreReport & { readonly index: string | null };

/** Where the image goes. */
export interface Outputs {
  readonly sink: ImageSink;
  /** Once the image is there; undefined when it went to no store. */
  storeReport(): StoredReport | undefined;
}

/** The chunks first, then the image, and the index last: who sees it finds everything in the store. */
export async function openOutputs(
  args: ParsedArguments,
  io: CommandIo,
  gridBytes: number,
): Promise<Outputs> {
  const source = args.positional("SOURCE");
  const image = args.value("output")!;
  const index = args.value("index");
  const file = image === NO_IMAGE ? undefined : outputSink(image, source, args, io);
  const indexSink = index === undefined ? undefined : openIndex(index, args, io);
  if (args.value("store") !== undefined && index === undefined && !args.flag("dry-run")) {
    throw new UsageError("--store", "there is no name for the index of the chunks", {
      hint: "name one with --index FILE.caibx, or ask only what would be new with --dry-run",
    });
  }
  const opened = await openUploader(args, io, { others: ["index"], source });
  if (opened === undefined) {
    if (file !== undefined) return { sink: file, storeReport: () => undefined };
    throw new UsageError("--output", "`none` without --store would make nothing", {
      hint: "write ./none for a file of that name",
    });
  }
  const chunks = new ChunkSink(opened.uploader, { chunkBytes: gridBytes, digest: opened.digest });
  const sinks: ImageSink[] = [chunks];
  if (!opened.isDryRun) {
    if (file !== undefined) sinks.push(file);
    if (indexSink !== undefined) sinks.push(createIndexSink(chunks, indexSink));
  }
  return {
    sink: teeSink(...sinks),
    storeReport: () => ({
      index: opened.isDryRun ? null : index ?? null,
      ...storeReport(opened, gridBytes, chunks.counts),
    }),
  };
}

function openIndex(index: string, args: ParsedArguments, io: CommandIo): ImageSink {
  const image = args.value("output")!;
  const source = args.positional("SOURCE");
  if (index === "-" && image === "-") {
    throw new UsageError("--index", "the image takes standard output, so the index cannot");
  }
  const sourcePath = localPath(source);
  const target = indexTarget(index, args, io, {
    sourcePaths: sourcePath === undefined ? [] : [sourcePath],
    image: image === "-" || image === NO_IMAGE ? undefined : image,
  });
  if (index !== "-") refuseInsideSource(index, source);
  return target;
}

function outputSink(
  image: string,
  source: string,
  args: ParsedArguments,
  io: CommandIo,
): ImageSink {
  const sourcePath = localPath(source);
  if (image === "-") {
    if (!io.json) return createStdoutSink((bytes) => io.stdout.writeThrough(bytes));
    throw new UsageError("--json", "the image takes standard output, so the report cannot", {
      hint: "write the image to a file, or leave out --json",
    });
  }
  const force = args.flag("force");
  const sink = createFileSink(image, {
    force,
    signal: io.signal,
    sourcePaths: sourcePath === undefined ? [] : [sourcePath],
  });
  refuseInsideSource(image, source);
  return sink;
}

/** The path of this machine that a source names. */
function localPath(source: string): string | undefined {
  const name = parseSourceName(source, existsSync);
  return "path" in name ? name.path : undefined;
}
