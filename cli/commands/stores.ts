/**
 * `blessfs restore`, `blessfs prune` and `blessfs store verify`.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { type ChunkIndex, decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import type { ChunkStore } from "../../lib/chunk/chunk.ts";
import { openChunkStore, pruneStore, verifyStore } from "../../lib/chunk/store.ts";
import { restoreFile } from "../../lib/chunk/restore.ts";
import { UsageError } from "../../lib/errors.ts";
import { openFault } from "../../lib/io/random_reader.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { EXIT, safeLine } from "../errors.ts";
import { formatCount, formatDuration, formatSize } from "../values.ts";

export async function runRestore(args: ParsedArguments, io: CommandIo): Promise<void> {
  const started = io.now();
  const [indexPath, output] = [args.positional("INDEX"), args.text("output")];
  if (output === "-") {
    throw new UsageError("--output -", "chunks come in any order: wanted a file or a device");
  }
  const index = await readIndex(indexPath, io);
  const store = await openStore(args, io);
  const counts = await restoreFile(index, output, {
    store,
    seeds: args.values("seed") ?? [],
    force: args.flag("force"),
    signal: io.signal,
    progress: io.progress,
  });
  const elapsedMs = Math.round(io.now() - started);
  const report = { index: indexPath, output, store: store.name, ...counts, elapsedMs };
  await io.answer(report, [
    ["output", safeLine(output)],
    ["size", `${formatSize(counts.sizeBytes)}, ${formatCount(counts.chunks)} chunks`],
    ["fetched", formatSize(counts.fetchedBytes)],
    ["from seeds", formatSize(counts.seedBytes)],
    ["there", formatSize(counts.keptBytes)],
    ["zeros", formatSize(counts.zeroBytes)],
    ["time", formatDuration(elapsedMs)],
  ]);
}

export async function runPrune(args: ParsedArguments, io: CommandIo): Promise<0 | 1> {
  const indexes: ChunkIndex[] = [];
  for (const path of args.positionals("INDEX")) indexes.push(await readIndex(path, io));
  const store = await openStore(args, io);
  const dryRun = args.flag("dry-run");
  const graceMs = args.read("grace", parseTime);
  const options = { indexes, graceMs, dryRun, signal: io.signal, progress: io.progress };
  const counts = await pruneStore(store, options);
  const { missingChunks } = counts;
  const of = (chunks: number, bytes: number) =>
    `${formatCount(chunks)} chunks, ${formatSize(bytes)}`;
  await io.answer({ store: store.name, dryRun, ...counts }, [
    ["store", safeLine(store.name)],
    ["kept", of(counts.keptChunks, counts.keptBytes)],
    ["too young", of(counts.youngChunks, counts.youngBytes)],
    [dryRun ? "would go" : "removed", of(counts.removedChunks, counts.removedBytes)],
    ["leftovers", formatCount(counts.leftovers)],
  ]);
  if (missingChunks === 0) return EXIT.done;
  const missing = `${formatCount(missingChunks)} chunks that the indexes name are missing`;
  io.stderr.write(`blessfs: ${safeLine(store.name)}: ${missing}\n`);
  return EXIT.answerNo;
}

export async function runVerify(args: ParsedArguments, io: CommandIo): Promise<0 | 1> {
  const { signal, progress } = io;
  const store = await openStore(args, io);
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

function openStore(args: ParsedArguments, { env, signal }: CommandIo): Promise<ChunkStore> {
  return openChunkStore(args.text("store"), { env, signal });
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
  return decodeChunkIndex(Buffer.concat(pieces), "standard input");
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
