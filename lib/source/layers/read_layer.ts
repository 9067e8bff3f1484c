/**
 * Reads one layer: its stored bytes are hashed, inflated, hashed again, indexed and spooled, all in one pass. The same code
 * runs in a worker and, for small layers, in the calling thread.
 *
 * @module
 */
import { InputError, InterruptedError, invariant, limitError } from "../../errors.ts";
import { type DigestAlgorithm, Digester, parseDigest } from "../../bytes/digest.ts";
import {
  type Compression,
  createInflater,
  type Inflater,
  SNIFF_BYTES,
  sniffCompression,
} from "../../io/inflate.ts";
import type { SpoolWriter } from "../../io/spool.ts";
import type { TarEntry } from "../../tar/entry.ts";
import { TarIndexer } from "../../tar/indexer.ts";
import type { TarLimits } from "../../tar/header.ts";
import { uuidOfComment } from "../../tar/pax.ts";
import {
  contentFault,
  HEAD_BYTES,
  isTarHeader,
  isZeroLed,
  recogniseContent,
} from "../source_file.ts";
import { checkSize, digestFault, layerCompression } from "../documents.ts";
import { type SourceLimits, unpackedFault } from "../types.ts";

/** Stored bytes are read, and written to a spool, in pieces of this size. */
export const PIECE_BYTES = 1 << 20;
/** Entries are passed on in batches, which are much faster to post to another thread. */
const BATCH_ENTRIES = 512;

/** What to read, as plain data. */
export interface LayerJob {
  /** The layer's name in messages. */
  readonly name: string;
  readonly mediaType: string | undefined;
  /** Size of the stored bytes; undefined if not stated. */
  readonly sizeBytes: number | undefined;
  readonly wantedDigest: string | undefined;
  readonly wantedDiffId: string | undefined;
  readonly verifyDiffId: boolean;
  readonly limits: SourceLimits;
  readonly tarLimits: Partial<TarLimits>;
  readonly ignoreZeros: boolean;
  /** What the stored bytes inflate to. */
  readonly content: "tar" | "bytes";
}

/** A warning about a layer, with its count. */
export interface LayerWarning {
  readonly kind: string;
  readonly what: string;
  readonly why: string;
  readonly count: number;
}

/** What is known about a layer after reading it. */
export interface LayerFacts {
  readonly digest: string;
  readonly diffId: string;
  readonly storedBytes: number;
  readonly uncompressedBytes: number;
  readonly compression: Compression;
  /** The UUID of the image that the tar was exported from. */
  readonly statedUuid: string | undefined;
  readonly warnings: readonly LayerWarning[];
}

/** Callbacks while a layer is read. */
export interface LayerListener {
  entries(batch: readonly TarEntry[]): void;
  /** Called after each piece with the numbers of stored and uncompressed bytes in it. */
  progress(storedBytes: number, uncompressedBytes: number): void;
  /** Whether to stop; called often. */
  stopped(): boolean;
}

/**
 * Stored bytes in order. A piece may be reused once the next is requested. The first has at least SNIFF_BYTES unless the
 * data is shorter.
 */
export type StoredPieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * Reads a layer.
 *
 * @param spool takes the uncompressed tar; undefined if the stored bytes are that tar and remain readable
 * @throws {InputError} if the layer is damaged or not the expected one
 * @throws {IoError} if reading or spooling fails
 */
export async function readLayer(
  job: LayerJob,
  pieces: StoredPieces,
  spool: SpoolWriter | undefined,
  listener: LayerListener,
): Promise<LayerFacts> {
  const layer = new LayerReader(job, spool, listener);
  try {
    for await (const piece of pieces) await layer.push(piece);
    return await layer.end();
  } finally {
    layer.close();
  }
}

class LayerReader {
  readonly #job: LayerJob;
  readonly #spool: SpoolWriter | undefined;
  readonly #listener: LayerListener;
  readonly #storedDigester: Digester;
  readonly #diffDigester: Digester;
  readonly #indexer: TarIndexer;
  readonly #warnings = new Map<string, { what: string; why: string; count: number }>();
  #batch: TarEntry[] = [];
  #compression: Compression | undefined;
  #inflater: Inflater | undefined;
  #storedBytes = 0;
  #uncompressedBytes = 0;
  /** How many of them have been reported to the listener. */
  #reportedBytes = 0;
  /** The first bytes, to identify content that is not a tar. */
  readonly #head = new Uint8Array(HEAD_BYTES);
  #headLength = 0;
  /** The first error in the content. The digest shows whether the file was damaged later or created that way. */
  #contentFault: InputError | undefined;

  constructor(job: LayerJob, spool: SpoolWriter | undefined, listener: LayerListener) {
    this.#job = job;
    this.#spool = spool;
    this.#listener = listener;
    const { wantedDigest, wantedDiffId, name } = job;
    this.#storedDigester = new Digester(algorithmOf(wantedDigest, name));
    this.#diffDigester = new Digester(algorithmOf(wantedDiffId, name));
    this.#indexer = new TarIndexer({
      name,
      emit: (entry) => this.#emit(entry),
      warn: (kind, what, why) => this.#warn(kind, what, why),
      limits: job.tarLimits,
      ignoreZeros: job.ignoreZeros,
    });
  }

  async push(piece: Uint8Array): Promise<void> {
    this.#checkStopped();
    this.#storedBytes += piece.length;
    const { sizeBytes, name } = this.#job;
    if (sizeBytes !== undefined && this.#storedBytes > sizeBytes) {
      throw new InputError(name, `is longer than the ${sizeBytes} bytes that were announced`);
    }
    const inspected = this.#inspect(() => this.#pushContent(piece));
    // Meanwhile the decoder may be working in another thread.
    this.#storedDigester.update(piece);
    await inspected;
    this.#reportProgress(piece.length);
  }

  async end(): Promise<LayerFacts> {
    this.#checkStopped();
    const { name, sizeBytes, wantedDigest } = this.#job;
    await this.#inspect(() => this.#endContent());
    this.#reportProgress(0);
    if (sizeBytes !== undefined) checkSize(this.#storedBytes, sizeBytes, name);
    const digest = this.#storedDigester.digest();
    if (wantedDigest !== undefined && digest !== wantedDigest) {
      throw digestFault(name, digest, wantedDigest);
    }
    if (this.#contentFault) throw this.#contentFault;
    this.#spool?.flush();
    const diffId = this.#isOneDigest ? digest : this.#diffDigester.digest();
    this.#checkDiffId(diffId);
    this.#flush();
    return {
      digest,
      diffId,
      storedBytes: this.#storedBytes,
      uncompressedBytes: this.#uncompressedBytes,
      compression: this.#compression ?? "none",
      statedUuid: uuidOfComment(this.#indexer.firstComment),
      warnings: [...this.#warnings].map(([kind, warning]) => ({ kind, ...warning })),
    };
  }

  close(): void {
    this.#inflater?.close();
  }

  #reportProgress(storedBytes: number): void {
    this.#listener.progress(storedBytes, this.#uncompressedBytes - this.#reportedBytes);
    this.#reportedBytes = this.#uncompressedBytes;
  }

  /** Runs a step that examines the content. After a content error, the remaining stored bytes are only hashed. */
  async #inspect(step: () => Promise<void>): Promise<void> {
    if (this.#contentFault) return;
    try {
      await step();
    } catch (error) {
      // A limit stops reading at once, because it also limits the time spent.
      if (!(error instanceof InputError) || "limit" in error.data) throw error;
      if (this.#job.wantedDigest === undefined) throw error;
      this.#contentFault = error;
    }
  }

  async #pushContent(piece: Uint8Array): Promise<void> {
    if (this.#compression === undefined) this.#begin(piece);
    if (this.#inflater) await this.#inflater.push(piece);
    else this.#take(piece);
  }

  async #endContent(): Promise<void> {
    await this.#inflater?.end();
    if (this.#job.content === "bytes") return;
    if (this.#uncompressedBytes > 0) return this.#index(() => this.#indexer.end());
    // An empty layer is not a tar, but some images have them; the diff id confirms it.
    if (this.#job.wantedDiffId === undefined) {
      throw new InputError(this.#job.name, "is empty: wanted a tar", { code: "wrongKind" });
    }
  }

  #begin(head: Uint8Array): void {
    const { name, mediaType } = this.#job;
    const compression = sniffCompression(head.subarray(0, SNIFF_BYTES));
    this.#compression = compression;
    const stated = mediaType === undefined ? undefined : layerCompression(mediaType);
    if (stated !== undefined && stated !== compression) {
      const found = compression === "none" ? "not compressed" : `compressed with ${compression}`;
      this.#warn("mediaTypeMismatch", name, `is ${found}, though its type is ${mediaType}`);
    }
    if (compression !== "none") {
      this.#inflater = createInflater(compression, {
        name,
        emit: (bytes) => this.#take(bytes),
        warn: (kind, what, why) => this.#warn(kind, what, why),
      });
    }
  }

  /** Uncompressed layers need only one digest, and hashing is most of the work of reading them. */
  get #isOneDigest(): boolean {
    return this.#compression === "none" &&
      this.#storedDigester.algorithm === this.#diffDigester.algorithm;
  }

  /** Processes the next bytes of the uncompressed tar. */
  #take(bytes: Uint8Array): void {
    this.#checkStopped();
    this.#uncompressedBytes += bytes.length;
    this.#checkUnpacked();
    if (!this.#isOneDigest) this.#diffDigester.update(bytes);
    if (this.#job.content === "tar") {
      const count = Math.min(bytes.length, HEAD_BYTES - this.#headLength);
      this.#head.set(bytes.subarray(0, count), this.#headLength);
      this.#headLength += count;
      this.#index(() => this.#indexer.push(bytes));
    }
    this.#spool?.append(bytes);
  }

  /** Runs a step of the indexer. If the content was never a tar, the error says what it is. */
  #index(step: () => void): void {
    try {
      step();
    } catch (error) {
      const isTar = this.#indexer.headerCount > 0;
      if (isTar || !(error instanceof InputError) || "limit" in error.data) throw error;
      const head = this.#head.subarray(0, this.#headLength);
      if (isTarHeader(head) || (isZeroLed(head) && !recogniseContent(head))) throw error;
      throw contentFault(this.#job.name, head, "a tar");
    }
  }

  #checkStopped(): void {
    if (this.#listener.stopped()) {
      throw new InterruptedError("interrupted", "the layer is given up");
    }
  }

  #checkUnpacked(): void {
    const { name, limits } = this.#job;
    const { unpackedBytes, unpackedRatio, unpackedRatioFloorBytes } = limits;
    const found = this.#uncompressedBytes;
    if (found > unpackedBytes) throw unpackedFault(name, unpackedBytes);
    if (found > unpackedRatioFloorBytes && found > unpackedRatio * this.#storedBytes) {
      throw limitError(
        name,
        `${this.#storedBytes} bytes inflate to more than ${unpackedRatio} times as many`,
        { name: "unpackedRatio", expected: unpackedRatio, data: { unpackedBytes: found } },
      );
    }
  }

  #checkDiffId(diffId: string): void {
    const { name, wantedDiffId, verifyDiffId } = this.#job;
    if (wantedDiffId === undefined || diffId === wantedDiffId) return;
    const why = `its diff id is ${diffId}: wanted ${wantedDiffId}`;
    if (!verifyDiffId) return this.#warn("diffIdMismatch", name, why);
    throw new InputError(name, why, { data: { expected: wantedDiffId, actual: diffId } });
  }

  #emit(entry: TarEntry): void {
    this.#batch.push(entry);
    if (this.#batch.length === BATCH_ENTRIES) this.#flush();
  }

  #flush(): void {
    if (this.#batch.length > 0) this.#listener.entries(this.#batch);
    this.#batch = [];
  }

  #warn(kind: string, what: string, why: string): void {
    const known = this.#warnings.get(kind);
    if (known) known.count++;
    else this.#warnings.set(kind, { what, why, count: 1 });
  }
}

/** The algorithm of a digest to verify; otherwise the usual one. */
function algorithmOf(digest: string | undefined, what: string): DigestAlgorithm {
  return digest === undefined ? "sha256" : parseDigest(digest, what).algorithm;
}

/** Reads a part of an open file in pieces, all through one buffer. */
export function* filePieces(
  readAt: (target: Uint8Array, position: number) => number,
  offsetBytes: number,
  lengthBytes: number,
): Generator<Uint8Array> {
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, lengthBytes));
  for (let at = 0; at < lengthBytes;) {
    const wanted = buffer.subarray(0, Math.min(buffer.length, lengthBytes - at));
    const count = readAt(wanted, offsetBytes + at);
    invariant(count <= wanted.length, "a reader returns no more than it was asked for");
    if (count === 0) return;
    yield wanted.subarray(0, count);
    at += count;
  }
}

/**
 * Combines a stream's pieces into large ones, each in its own buffer and all but the last full.
 *
 * @param newBuffer supplies the next buffer of PIECE_BYTES
 */
export async function* bigPieces(
  stream: AsyncIterable<Uint8Array>,
  newBuffer: () => Uint8Array = () => new Uint8Array(PIECE_BYTES),
): AsyncGenerator<Uint8Array> {
  let buffer = newBuffer();
  let length = 0;
  for await (const piece of stream) {
    for (let at = 0; at < piece.length;) {
      const count = Math.min(piece.length - at, PIECE_BYTES - length);
      buffer.set(piece.subarray(at, at + count), length);
      at += count;
      length += count;
      if (length < PIECE_BYTES) continue;
      yield buffer;
      buffer = newBuffer();
      length = 0;
    }
  }
  if (length > 0) yield buffer.subarray(0, length);
}
