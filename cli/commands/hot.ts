/**
 * `--hot` and `--prefetch`: what a boot reads first, and where that came to lie.
 *
 * @module
 */
import type { HotFiles, HotOptions } from "../../lib/bless/hot.ts";
import type { BlessReport } from "../../lib/bless/report.ts";
import type { ChunkDigest } from "../../lib/chunk/chunk.ts";
import { UsageError } from "../../lib/errors.ts";
import { openInputFile, SharedDescriptor } from "../../lib/io/random_reader.ts";
import { type ImageSink, writeWhole } from "../../lib/io/sink.ts";
import { parseHotList } from "../../lib/source/hot_list.ts";
import type { ParsedArguments } from "../command.ts";
import { safeLine } from "../errors.ts";
import type { Rows } from "../text.ts";
import { formatCount, formatSize } from "../values.ts";
import type { Outputs } from "./outputs.ts";

/** In place of a list: what the entry point reads. A list of that name is written ./entrypoint. */
const ENTRYPOINT = "entrypoint";

/** What is hot, by the arguments. */
export function parseHot(args: ParsedArguments): HotOptions {
  const named = args.value("hot");
  return {
    hot: named === undefined ? undefined : hotFiles(named),
    hotDigest: args.text("digest") as ChunkDigest,
  };
}

function hotFiles(named: string): HotFiles {
  if (named === ENTRYPOINT) return { kind: "entrypoint" };
  const { descriptor, sizeBytes } = openInputFile(named, { what: "a list of files" });
  const file = new SharedDescriptor(descriptor);
  const reader = file.reader(safeLine(named), 0, sizeBytes);
  try {
    const bytes = new Uint8Array(sizeBytes);
    const count = reader.readAt(bytes, 0);
    const name = safeLine(named);
    return { kind: "list", name, list: parseHotList(bytes.subarray(0, count), name) };
  } finally {
    reader.close();
  }
}

/** Where `--prefetch` goes; undefined without it. Checked before anything is made. */
export function prefetchSink(args: ParsedArguments, outputs: Outputs): ImageSink | undefined {
  const path = args.value("prefetch");
  if (path === undefined) return undefined;
  if (args.value("hot") !== undefined) return outputs.file(path, "--prefetch");
  throw new UsageError("--prefetch", "nothing is hot without --hot", {
    hint: "name the files that a boot reads with --hot FILE, or --hot entrypoint",
  });
}

/** Writes what a store or a server needs to have the cells ready. */
export async function writePrefetch(sink: ImageSink, report: BlessReport): Promise<void> {
  const { uuid, grid, prefetch } = report;
  const none = { offset: 0, length: 0, digest: null, cells: [] };
  const document = { version: 1, uuid, grid, ...prefetch ?? none };
  await writeWhole(sink, new TextEncoder().encode(`${JSON.stringify(document, undefined, 2)}\n`));
}

/** The rows of a report. */
export function hotRows({ hot, prefetch }: BlessReport): Rows {
  if (hot === undefined) return [];
  const missing = hot.missing === 0 ? "" : `, ${formatCount(hot.missing)} paths not found`;
  const placed = prefetch === undefined
    ? "nothing: they have no blocks"
    : `${formatSize(prefetch.length)} at ${formatSize(prefetch.offset)}, ` +
      `${formatCount(prefetch.cells.length)} cells`;
  return [
    ["hot", `${formatCount(hot.files)} files, ${formatSize(hot.bytes)}${missing}`],
    ["prefetch", placed],
  ];
}
