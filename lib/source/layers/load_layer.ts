/**
 * Loads one layer: opens its file, creates a spool if it needs one, and reads it in a worker or in this thread.
 *
 * @module
 */
import { closeSync } from "node:fs";
import { tmpdir } from "node:os";
import { setImmediate, setTimeout } from "node:timers/promises";
import { InputError, IoError, throwIfAborted } from "../../errors.ts";
import { Digester } from "../../bytes/digest.ts";
import { INFLATES_IN_PLACE, SNIFF_BYTES, sniffCompression } from "../../io/inflate.ts";
import {
  createUnlinkedFile,
  PartedSpool,
  reopenDescriptor,
  singleFile,
  type SpoolParts,
  type SpoolTarget,
  SpoolWriter,
} from "../../io/spool.ts";
import { descriptorReader, SharedDescriptor } from "../../io/random_reader.ts";
import type { ProgressTask } from "../../progress.ts";
import type { TarEntry } from "../../tar/entry.ts";
import { LeftToTar } from "../directory_tar.ts";
import {
  DEFAULT_SOURCE_LIMITS,
  type ImageBudget,
  type LayerSource,
  type ResolvedOptions,
  type StoredFile,
  type StoredInPlace,
  type StoredOutput,
  type StoredStream,
} from "../types.ts";
import {
  bigPieces,
  filePieces,
  type LayerFacts,
  type LayerJob,
  type LayerListener,
  PIECE_BYTES,
  readLayer,
  type StoredPieces,
} from "./read_layer.ts";
import type { LayerWorker, WorkerInput } from "./worker.ts";

/** Starting a worker costs more than reading this much. */
const DEFAULT_INLINE_LAYER_BYTES = 256 << 10;

/** Spools are divided into parts of this size. The last part takes any excess. */
const DEFAULT_SPOOL_PART_BYTES = 64 << 20;
/** Layers hardly ever inflate to more than this many times their stored size. */
const USUAL_RATIO = 4;
/** The maximum number of open files for an image's spools, unless it has more layers. */
export const SPOOL_FILES_MAX = 64;
/** The files that an image's workers open in total, with a margin for other files. */
const WORKER_FILES = SPOOL_FILES_MAX + 16;

/** A layer that has been read, and the storage of its uncompressed tar. */
export interface ReadLayer {
  readonly facts: LayerFacts;
  readonly entries: readonly TarEntry[];
  readonly file: SharedDescriptor | PartedSpool | StoredInPlace["files"];
  readonly offsetBytes: number;
}

/** The resources available for reading a layer. */
export interface LoadContext {
  readonly options: ResolvedOptions;
  readonly signal: AbortSignal;
  /** A worker for this layer alone, started if there is none. */
  readonly worker: () => LayerWorker;
  /** Whether a layer in a file may be read in this thread, however long it is, because the thread is otherwise idle. */
  readonly isIdleHere: boolean;
  readonly budget: ImageBudget;
  /** The maximum number of parts in its spool; each is an open file. */
  readonly spoolPartsMax: number;
  /** Counts stored bytes. */
  readonly progress: ProgressTask;
}

/**
 * Reads a layer and checks it against what is known about it.
 *
 * @returns the layer with a reference to its file, which the caller releases
 */
export async function loadLayer(source: LayerSource, context: LoadContext): Promise<ReadLayer> {
  const { stored } = source;
  switch (stored.kind) {
    case "file":
      return await loadFile(source, stored, context);
    case "stream":
      return await loadStream(source, stored, context);
    case "output":
      return await loadOutput(source, stored, context);
    case "loaded":
      throw new Error("Invariant broken: a loaded layer is not loaded again");
  }
}

async function loadFile(
  source: LayerSource,
  stored: StoredFile,
  context: LoadContext,
): Promise<ReadLayer> {
  const { offsetBytes, lengthBytes } = stored;
  const file = stored.open();
  let spool: Spool | undefined;
  try {
    const reader = descriptorReader(file.descriptor, source.name, offsetBytes + lengthBytes);
    const head = new Uint8Array(Math.min(SNIFF_BYTES, lengthBytes));
    reader.readAt(head, offsetBytes);
    if (sniffCompression(head) !== "none") spool = makeSpool(lengthBytes, context);
    const input: WorkerInput = {
      kind: "file",
      descriptor: file.descriptor,
      offsetBytes,
      lengthBytes,
    };
    const pieces = () => filePieces(reader.readAt, offsetBytes, lengthBytes);
    const read = await run(source, { input, pieces, sizeBytes: lengthBytes, spool }, context);
    const keeper = spool ? spool.file : file;
    return { ...read, file: keeper.share(), offsetBytes: spool ? 0 : offsetBytes };
  } finally {
    file.release();
    spool?.file.release();
  }
}

async function loadStream(
  source: LayerSource,
  stored: StoredStream,
  context: LoadContext,
): Promise<ReadLayer> {
  const sizeBytes = source.sizeBytes ?? Infinity;
  const spool = makeSpool(sizeBytes, context);
  try {
    const stream = stored.open(context.signal);
    const input: WorkerInput = { kind: "stream", stream };
    const pieces = () => bigPieces(stream);
    const read = await run(source, { input, pieces, sizeBytes, spool }, context);
    return { ...read, file: spool.file.share(), offsetBytes: 0 };
  } finally {
    spool.file.release();
  }
}

/** Reads bytes in place; returns undefined, with nothing counted, if only the external program can produce them. */
async function loadInPlace(
  { name }: LayerSource,
  stored: StoredInPlace,
  { budget, progress, signal }: LoadContext,
): Promise<ReadLayer | undefined> {
  const digester = new Digester();
  const entries: TarEntry[] = [];
  let [countedEntries, bytes] = [0, 0];
  try {
    for (const piece of stored.pieces((entry) => entries.push(entry))) {
      throwIfAborted(signal);
      digester.update(piece);
      bytes += piece.length;
      progress.advance(piece.length);
      budget.takeUnpacked(piece.length, name);
      budget.takeEntries(entries.length - countedEntries, name);
      countedEntries = entries.length;
      // Handle signals and timers.
      await setImmediate();
    }
    const digest = digester.digest();
    const facts: LayerFacts = {
      digest,
      diffId: digest,
      storedBytes: bytes,
      uncompressedBytes: bytes,
      compression: "none",
      statedUuid: undefined,
      warnings: [],
    };
    return { facts, entries, file: stored.files.share(), offsetBytes: 0 };
  } catch (error) {
    if (!(error instanceof LeftToTar)) throw error;
    budget.takeEntries(-countedEntries, name);
    budget.takeUnpacked(-bytes, name);
    progress.advance(-bytes);
    return undefined;
  } finally {
    stored.files.release();
  }
}

/**
 * The file that the external program writes is the uncompressed tar and is used as it is. It is read in this thread, which
 * is idle while the program works, and the entries need not be posted to it.
 */
async function loadOutput(
  source: LayerSource,
  stored: StoredOutput,
  context: LoadContext,
): Promise<ReadLayer> {
  const inPlace = stored.inPlace?.();
  const read = inPlace && await loadInPlace(source, inPlace, context);
  if (read !== undefined) return read;
  const file = new SharedDescriptor(createUnlinkedFile(context.options.tmpdir ?? tmpdir()));
  try {
    const { descriptor } = file;
    const complete = stored.writeTo(descriptor, context.signal);
    let ended: { readonly failure?: unknown } | undefined;
    complete.then(() => ended = {}, (failure) => ended = { failure });
    const isComplete = () => {
      if (ended && "failure" in ended) throw ended.failure;
      return ended !== undefined;
    };
    const { readAt } = descriptorReader(descriptor, source.name, Infinity);
    const pieces = () => growingPieces(readAt, isComplete);
    const feed = { input: undefined, pieces, sizeBytes: Infinity, spool: undefined };
    const read = await run(source, feed, context);
    if (read.facts.compression !== "none") {
      throw new InputError(
        source.name,
        `is compressed with ${read.facts.compression}: wanted a tar`,
        { code: "wrongKind" },
      );
    }
    return { ...read, file: file.share(), offsetBytes: 0 };
  } finally {
    file.release();
  }
}

interface Feed {
  /** Undefined if it is read in this thread, however long it is. */
  readonly input: WorkerInput | undefined;
  readonly pieces: () => StoredPieces;
  readonly sizeBytes: number;
  readonly spool: Spool | undefined;
}

async function run(
  source: LayerSource,
  { input, pieces, sizeBytes, spool }: Feed,
  context: LoadContext,
): Promise<Pick<ReadLayer, "facts" | "entries">> {
  const { budget, progress } = context;
  const entries: TarEntry[] = [];
  const listener: LayerListener = {
    entries: (batch) => {
      budget.takeEntries(batch.length, source.name);
      for (const entry of batch) entries.push(entry);
    },
    progress: (storedBytes, uncompressedBytes) => {
      progress.advance(storedBytes);
      budget.takeUnpacked(uncompressedBytes, source.name);
    },
    stopped: () => context.signal.aborted,
  };
  const job = layerJob(source, context.options);
  const isQuick = input?.kind === "file" && (spool === undefined || !INFLATES_IN_PLACE);
  const inlineBytes = context.isIdleHere && isQuick ? Infinity : DEFAULT_INLINE_LAYER_BYTES;
  const inline = sizeBytes <= (context.options.inlineLayerBytes ?? inlineBytes);
  if (input === undefined || inline || !canShare(input, spool)) {
    const writer = spool && new SpoolWriter(spool.target);
    const facts = await readLayer(job, unhurried(pieces()), writer, listener);
    return { facts, entries };
  }
  const facts = await context.worker().run(job, input, spool?.target, listener);
  return { facts, entries };
}

function layerJob(source: LayerSource, options: ResolvedOptions): LayerJob {
  return {
    name: source.name,
    mediaType: source.mediaType,
    sizeBytes: source.sizeBytes,
    wantedDigest: source.digest,
    wantedDiffId: source.diffId,
    verifyDiffId: options.verifyDiffIds ?? true,
    limits: { ...DEFAULT_SOURCE_LIMITS, ...options.limits },
    tarLimits: options.tarLimits ?? {},
    ignoreZeros: options.ignoreZeros ?? false,
    content: source.content ?? "tar",
  };
}

interface Spool {
  readonly file: SharedDescriptor | PartedSpool;
  readonly target: SpoolTarget;
}

function makeSpool(storedBytes: number, { options, spoolPartsMax }: LoadContext): Spool {
  const directory = options.tmpdir ?? tmpdir();
  const partBytes = options.spoolPartBytes ?? DEFAULT_SPOOL_PART_BYTES;
  const partCount = Math.min(Math.ceil(storedBytes * USUAL_RATIO / partBytes), spoolPartsMax);
  const parted = partCount > 1 ? makePartedSpool(directory, { partCount, partBytes }) : undefined;
  if (parted) return parted;
  const descriptor = createUnlinkedFile(directory);
  return { file: new SharedDescriptor(descriptor), target: singleFile(descriptor, directory) };
}

/** Undefined if this process may not open that many files. Each part is one file here and another in the worker. */
function makePartedSpool(directory: string, parts: SpoolParts): Spool | undefined {
  let file: PartedSpool;
  try {
    file = new PartedSpool(directory, parts);
  } catch (error) {
    if (error instanceof IoError && error.data["code"] === "EMFILE") return undefined;
    throw error;
  }
  const { target } = file;
  if (canReopen(target.descriptors[0]!, WORKER_FILES)) return { file, target };
  file.release();
  return undefined;
}

/** Whether another thread can open the files that this one has open. */
function canShare(input: WorkerInput, spool: Spool | undefined): boolean {
  const descriptor = input.kind === "file" ? input.descriptor : spool?.target.descriptors[0];
  return descriptor === undefined || canReopen(descriptor, 1);
}

function canReopen(descriptor: number, times: number): boolean {
  const opened: number[] = [];
  while (opened.length < times) {
    const again = reopenDescriptor(descriptor, "r");
    if (again === undefined) break;
    opened.push(again);
  }
  for (const again of opened) closeSync(again);
  return opened.length === times;
}

/** Passes pieces on, handling signals and timers in between. */
async function* unhurried(pieces: StoredPieces): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    yield piece;
    await setImmediate();
  }
}

/** The error for an image that refers to one blob with two different diff ids. */
export function diffIdConflict(source: LayerSource, found: string): InputError {
  return new InputError(source.name, `its diff id is ${found}: wanted ${source.diffId}`, {
    code: "digestMismatch",
    data: { expected: source.diffId ?? null, actual: found },
  });
}

/** How long to wait for more data: about the time a program takes to write one piece. */
const WAIT_MILLISECONDS = 4;

/**
 * The content of a file that is being written, from its start, in full pieces of PIECE_BYTES and a last one, all through
 * one buffer. If the file ends before it is complete, it is checked again a little later.
 *
 * @param readAt fills `target` as far as the file currently goes, and returns that length
 * @param isComplete whether nothing more will be written; may throw to give up
 */
export async function* growingPieces(
  readAt: (target: Uint8Array, position: number) => number,
  isComplete: () => boolean,
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(PIECE_BYTES);
  let position = 0;
  let filledBytes = 0;
  for (;;) {
    // Ask before reading: otherwise, bytes written in between would be missed.
    const isLast = isComplete();
    const count = readAt(buffer.subarray(filledBytes), position);
    position += count;
    filledBytes += count;
    if (filledBytes === buffer.length) {
      yield buffer;
      filledBytes = 0;
    } else if (isLast) {
      if (filledBytes > 0) yield buffer.subarray(0, filledBytes);
      return;
    } else await setTimeout(WAIT_MILLISECONDS);
  }
}
