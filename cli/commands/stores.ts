/**
 * `blessfs restore`, `blessfs prune` and `blessfs store verify`.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { type ChunkIndex, decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { openChunkStore, pruneStore, verifyStore } from "../../lib/chunk/store.ts";
import { restoreFile } from "../../lib/chunk/restore.ts";
import { GRACE_MS_DEFAULT } from "../../lib/chunk/store_lock.ts";
import { UsageError } from "../../lib/errors.ts";
import { openFault } from "../../lib/io/random_reader.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { EXIT, safeLine } from "../errors.ts";
import { aligned } from "../text.ts";
import { formatCount, formatDuration, formatSize } from "../values.ts";

/** `blessfs restore INDEX --store STORE -o OUTPUT`. */
export async function runRestore(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const [indexPath, output] = [args.positional("INDEX"), args.value("output")!];
  if (output === "-") {
    throw new UsageError("--output -", "chunks come in any order: wanted a file or a device");
  }
  const index = await readIndex(indexPath, io);
  const store = await openChunkStore(args.value("store")!, { env: io.env, signal: io.signal });
  const counts = await restoreFile(index, output, {
    store,
    seeds: args.values("seed") ?? [],
    force: args.flag("force"),
    signal: io.signal,
    progress: io.progress,
  });
  const elapsedMs = Math.round(io.now() - started);
  const report = { index: indexPath, output, store: store.name, ...counts, elapsedMs };
  if (io.json) return await io.writeReport(report);
  if (io.quiet) return;
  await io.stdout.write(aligned([
    ["output", safeLine(output)],
    ["size", `${formatSize(counts.sizeBytes)}, ${formatCount(counts.chunks)} chunks`],
    ["fetched", formatSize(counts.fetchedBytes)],
    ["from seeds", formatSize(counts.seedBytes)],
    ["there", formatSize(counts.keptBytes)],
    ["zeros", formatSize(counts.zeroBytes)],
    ["time", formatDuration(elapsedMs)],
  ]));
}

/** `blessfs prune INDEX... --store STORE`. */
export async function runPrune(args: ParsedArguments, io: CommandIo): Promise<0 | 1> {
  const indexes: ChunkIndex[] = [];
  for (const path of args.positionals("INDEX")) indexes.push(await readIndex(path, io));
  const store = await openChunkStore(args.value("store")!, { env: io.env, signal: io.signal });
  const dryRun = args.flag("dry-run");
  const graceMs = args.parsed("grace", parseTime) ?? GRACE_MS_DEFAULT;
  const options = { indexes, graceMs, dryRun, signal: io.signal, progress: io.progress };
  const counts = await pruneStore(store, options);
  const { missingChunks } = counts;
  if (io.json) await io.writeReport({ store: store.name, dryRun: dryRun, ...counts });
  else if (!io.quiet) {
    const of = (chunks: number, bytes: number) =>
      `${formatCount(chunks)} chunks, ${formatSize(bytes)}`;
    await io.stdout.write(aligned([
      ["store", safeLine(store.name)],
      ["kept", of(counts.keptChunks, counts.keptBytes)],
      ["too young", of(counts.youngChunks, counts.youngBytes)],
      [dryRun ? "would go" : "removed", of(counts.removedChunks, counts.removedBytes)],
      ["leftovers", formatCount(counts.leftovers)],
    ]));
  }
  if (missingChunks === 0) return EXIT.done;
  io.stderr.write(
    `blessfs: ${safeLine(store.name)}: ${
      formatCount(missingChunks)
    } chunks that the indexes name are missing\n`,
  );
  return EXIT.answerNo;
}

/** `blessfs store verify --store STORE`. */
export async function runVerify(args: ParsedArguments, io: CommandIo): Promise<0 | 1> {
  const { signal, progress } = io;
  const store = await openChunkStore(args.value("store")!, { env: io.env, signal });
  const found = await verifyStore(store, { signal, progress });
  const { chunks, storedBytes, contentBytes, damaged } = found;
  if (io.json) await io.writeReport({ store: store.name, ...found });
  else {
    for (const { path, why } of damaged) {
      await io.stdout.write(`${safeLine(`${store.name}/${path}`)}: is damaged: ${why}\n`);
    }
    if (!io.quiet) {
      const sizes = `${formatSize(storedBytes)} of ${formatSize(contentBytes)}`;
      const state = damaged.length === 0 ? "clean" : `${formatCount(damaged.length)} damaged`;
      await io.stdout.write(
        `${safeLine(store.name)}: ${state}, ${formatCount(chunks)} chunks, ${sizes}\n`,
      );
    }
  }
  return damaged.length === 0 ? EXIT.done : EXIT.answerNo;
}

async function readIndex(path: string, io: CommandIo): Promise<ChunkIndex> {
  if (path !== "-") {
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(path);
    } catch (cause) {
      throw openFault(path, "an index of chunks (.caibx)", cause);
    }
    return decodeChunkIndex(bytes, safeLine(path));
  }
  const pieces: Uint8Array[] = [];
  for await (const piece of io.stdin.chunks()) pieces.push(piece.slice());
  return decodeChunkIndex(
    new Uint8Array(await new Blob(pieces as Uint8Array<ArrayBuffer>[]).arrayBuffer()),
    "standard input",
  );
}

const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Reads a time such as `30m`, `24h`, `7d` or `0`. */
function parseTime(text: string, what: string): number {
  const [, number, unit] = /^(\d{1,6})([smhd])$/.exec(text === "0" ? "0s" : text) ?? [];
  if (number !== undefined) return Number(number) * UNIT_MS[unit!]!;
  throw new UsageError(what, `\`${safeLine(text)}\`: wanted a time such as 30m, 24h or 7d`);
}
