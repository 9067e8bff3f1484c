/**
 * The directory of layer images: finds images that can be reused, and adds new ones completely or not at all.
 *
 * A CRC-32 of each piece, computed while the image is written, shows whether an image is intact. It detects accidents,
 * not forgery, since anyone who can change an image can change its record as well. Unlike SHA-256, it is as fast as
 * reading.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { setImmediate, setTimeout } from "node:timers/promises";
import { mkdirSync, readFileSync, rmdirSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { zeroBytes } from "../bytes/arithmetic.ts";
import {
  InputError,
  invariant,
  IoError,
  type OptionDifference,
  throwIfAborted,
  UsageError,
} from "../errors.ts";
import { createFileSink } from "../io/file_sink.ts";
import { checkOutput, statIfThere } from "../io/paths.ts";
import { openFileReader } from "../io/random_reader.ts";
import { type ImageSink, nullSink, teeSink, writeWhole } from "../io/sink.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../io/system_error.ts";
import type { Progress } from "../progress.ts";
import { verityPath } from "../verity/format.ts";
import { unfinished } from "./envelope.ts";
import {
  BESIDE,
  CHECKSUM_PIECE_BYTES,
  decodePosition,
  decodeRecord,
  encodePosition,
  encodeRecord,
  type FileChecksums,
  type LayerPosition,
  type LayerRecord,
  optionDifferences,
  type OptionFacts,
  positionFileName,
  positionKey,
  type PositionRecord,
} from "./layered_records.ts";
import { FORMAT_VERSION } from "./plan_image.ts";

/** Checks that a directory exists or can be created. @returns whether it has to be created */
export function checkDirectory(path: string): boolean {
  if (path === "") throw new UsageError("output", "the name is empty");
  const shown = displayPath(path);
  const found = statIfThere(path);
  if (found?.isDirectory()) return false;
  if (found) throw new UsageError(shown, "is not a directory");
  const parent = dirname(path);
  if (statIfThere(parent)?.isDirectory()) return true;
  throw new IoError(shown, `the directory ${displayPath(parent)} does not exist`, {
    code: "notFound",
    hint: "create it first",
  });
}

/** Creates a directory, unless another process has just done so. @returns whether this call created it */
export function makeDirectory(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch (cause) {
    if (systemErrorFacts(cause)?.code === "EEXIST" && statIfThere(path)?.isDirectory()) {
      return false;
    }
    throw ioErrorFrom(path, "cannot be created", cause);
  }
}

/**
 * The path of a file in a directory. Not normalised like join(): only the kernel knows where `..` after a symlink
 * leads.
 */
export function pathIn(directory: string, name: string): string {
  return directory.endsWith("/") ? `${directory}${name}` : `${directory}/${name}`;
}

/** Removes a directory if it is empty. */
export function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // A directory with complete images stays. The original error is the one to report.
  }
}

/** @throws {IoError} when the file cannot be read */
export function readFileWhole(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be read", cause);
  }
}

/** Writes or replaces a small file atomically; a file with the same content is left alone. */
export async function writeFileWhole(
  path: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const found = statIfThere(path);
  const isSame = found?.isFile() && found.size === bytes.length &&
    Buffer.compare(readFileWhole(path), bytes) === 0;
  if (!isSame) await writeWhole(createFileSink(path, { force: true, signal }), bytes);
}

/** The number of pieces between checks for signals. */
const YIELD_AFTER_PIECES = 64;

/** A sink that only computes checksums. */
export class ChecksumSink implements ImageSink {
  readonly #crc32s: number[] = [];
  #endOffset = 0;
  #crc32 = 0;
  #isFinished = false;

  /** The checksums, once the sink is finished. */
  get checksums(): FileChecksums {
    invariant(this.#isFinished, "checksums of a file that has not ended");
    return { sizeBytes: this.#endOffset, crc32s: this.#crc32s };
  }

  write(bytes: Uint8Array, offset: number): void {
    invariant(offset >= this.#endOffset, `a write at ${offset} behind ${this.#endOffset}`);
    this.#addZeros(offset);
    for (let done = 0; done < bytes.length;) {
      const part = bytes.subarray(done, done + this.#leftInPiece());
      this.#add(part);
      done += part.length;
    }
  }

  finish(sizeBytes: number): void {
    invariant(sizeBytes >= this.#endOffset, `the end ${sizeBytes} before ${this.#endOffset}`);
    this.#addZeros(sizeBytes);
    if (sizeBytes % CHECKSUM_PIECE_BYTES !== 0) this.#crc32s.push(this.#crc32);
    this.#isFinished = true;
  }

  abort(): void {}

  #leftInPiece(): number {
    return CHECKSUM_PIECE_BYTES - this.#endOffset % CHECKSUM_PIECE_BYTES;
  }

  #addZeros(endOffset: number): void {
    while (this.#endOffset < endOffset) {
      this.#add(zeroBytes(Math.min(this.#leftInPiece(), endOffset - this.#endOffset)));
    }
  }

  /** @param part at most the rest of the piece */
  #add(part: Uint8Array): void {
    this.#crc32 = crc32(part, this.#crc32);
    this.#endOffset += part.length;
    if (this.#endOffset % CHECKSUM_PIECE_BYTES !== 0) return;
    this.#crc32s.push(this.#crc32);
    this.#crc32 = 0;
  }
}

/** Compares a file with its checksums. @returns how it differs, or undefined */
export async function findDamage(
  path: string,
  wanted: FileChecksums,
  options: { readonly signal?: AbortSignal | undefined; readonly progress: Progress },
): Promise<string | undefined> {
  const reader = openFileReader(path, { what: "an image of a layer" });
  try {
    if (reader.sizeBytes !== wanted.sizeBytes) {
      return `has ${reader.sizeBytes} bytes: wanted ${wanted.sizeBytes}`;
    }
    const task = options.progress.begin("check", wanted.sizeBytes);
    const buffer = new Uint8Array(CHECKSUM_PIECE_BYTES);
    try {
      for (const [i, crc] of wanted.crc32s.entries()) {
        const start = i * CHECKSUM_PIECE_BYTES;
        const count = reader.readAt(buffer, start);
        const found = crc32(buffer.subarray(0, count));
        if (found !== crc) {
          return `was changed in bytes ${start} to ${
            start + count - 1
          }: their checksum is ${found}, wanted ${crc}`;
        }
        task.advance(count);
        if ((i + 1) % YIELD_AFTER_PIECES !== 0) continue;
        await setImmediate();
        throwIfAborted(options.signal);
      }
      return undefined;
    } finally {
      task.end();
    }
  } finally {
    reader.close();
  }
}

/** Options of the store. */
export interface LayerStoreOptions {
  /** The options that reusable images must have been made with. */
  readonly options: OptionFacts;
  /** Replace images that are damaged or were made with other options, instead of failing. Default false. */
  readonly force?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
  /** Write nothing: images are only planned and checksummed. */
  readonly dryRun?: boolean | undefined;
  /** An additional sink for each new image; it is finished before the image gets its name. */
  readonly alsoTo?: ((name: string) => ImageSink) | undefined;
}

/** A record without the fields that the store adds. */
export type RecordBody = Omit<LayerRecord, "formatVersion" | "options" | "checksums" | "hashFile">;

/** A file that is checksummed while it is written, and gets its name when published. */
class CheckedFile {
  readonly #file: ImageSink;
  readonly #checksums = new ChecksumSink();
  /** Receives the bytes, but does not finish the file. */
  readonly sink: ImageSink;

  /** @param others sinks that receive the same bytes and are finished with them */
  constructor(file: ImageSink, others: readonly ImageSink[] = []) {
    this.#file = file;
    this.sink = teeSink(this.#checksums, ...others, unfinished(file));
  }

  /** Available once everything is written. */
  get checksums(): FileChecksums {
    return this.#checksums.checksums;
  }

  async publish(): Promise<void> {
    await this.#file.finish(this.checksums.sizeBytes);
  }

  abort(): void | Promise<void> {
    return this.#file.abort();
  }
}

const RECORD_BYTES_MAX = 1 << 28;
/** A record is written right after its image. After these tries, its writer is assumed dead. */
const RECORD_WAIT_TRIES = 5;
const RECORD_WAIT_MILLISECONDS = 200;

/** The images of layers in one directory. */
export class LayerStore {
  readonly #directory: string;
  readonly #options: LayerStoreOptions;
  /** Records of images that were checked. Other processes may add more at any time. */
  readonly #known = new Map<string, LayerRecord>();

  constructor(directory: string, options: LayerStoreOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  /**
   * The record of an image that exists, is intact and was made with the same options. Undefined if there is no image,
   * if it may be replaced, or if it has no record ({@link LayerStore.isUnrecorded}).
   *
   * @param name the name of the file, without extension
   * @throws {IoError} when the image can neither be reused nor replaced
   */
  async find(name: string, diffId: string): Promise<LayerRecord | undefined> {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const found = await this.#prove(name, diffId);
    if (found !== undefined) this.#known.set(name, found);
    return found;
  }

  /**
   * Writes an image and its record. The image gets its name first. If the process is killed before the record is
   * written, the image is still complete, and {@link LayerStore.adopt} takes it over.
   *
   * @param write writes the image, and its hash tree if that has a separate file, and returns the content of the record
   * @throws {IoError} with code EEXIST when another process published the image first
   */
  async add(
    name: string,
    write: (sink: ImageSink, hashSink: ImageSink | undefined) => Promise<RecordBody>,
  ): Promise<LayerRecord> {
    const { signal, force = false, dryRun = false, alsoTo } = this.#options;
    const path = this.#pathOf(name, "ext4");
    const hashTree = this.hashTreeFile(name);
    const image = new CheckedFile(
      dryRun ? nullSink : createFileSink(path, { force, signal }),
      alsoTo === undefined ? [] : [alsoTo(name)],
    );
    let record: LayerRecord;
    try {
      const body = await write(image.sink, hashTree?.sink);
      record = this.#record(body, image.checksums, hashTree);
      // An existing record belongs to an image that is gone or about to be replaced.
      if (!dryRun && (force || statIfThere(path) === undefined)) {
        try {
          unlinkSync(this.#pathOf(name, "json"));
        } catch {
          // A record without an image is ignored.
        }
      }
      await image.publish();
      // The tree is published after the image and before the record.
      await hashTree?.publish();
    } catch (error) {
      await image.abort();
      await hashTree?.abort();
      throw error;
    }
    return await this.#keepRecord(name, record);
  }

  /** Creates the file for an image's hash tree; undefined when the tree has no separate file. */
  hashTreeFile(name: string): CheckedFile | undefined {
    const { options, dryRun = false, signal } = this.#options;
    if (options["verity"] !== BESIDE) return undefined;
    if (dryRun) return new CheckedFile(nullSink);
    // A tree without an image is a leftover of a killed writer.
    const path = verityPath(this.#pathOf(name, "ext4"));
    return new CheckedFile(createFileSink(path, { force: true, signal }));
  }

  /** Whether an image has no record: its writer has not written it yet, or was killed. */
  isUnrecorded(name: string): boolean {
    return !this.#options.force && statIfThere(this.#pathOf(name, "json")) === undefined &&
      statIfThere(this.#pathOf(name, "ext4"))?.isFile() === true;
  }

  /**
   * Adds the missing record of an image if the image is exactly what would be written. Undefined if its writer has
   * added the record meanwhile.
   *
   * @param checksums the checksums of what would be written
   * @param hashTree the hash tree, already written; undefined when it has no separate file
   * @throws {IoError} when the image differs
   */
  async adopt(
    name: string,
    body: RecordBody,
    checksums: FileChecksums,
    hashTree?: CheckedFile,
  ): Promise<LayerRecord | undefined> {
    const path = this.#pathOf(name, "ext4");
    const damage = await findDamage(path, checksums, this.#options);
    if (damage === undefined) {
      await hashTree?.publish();
      return await this.#keepRecord(name, this.#record(body, checksums, hashTree));
    }
    for (let tries = 0; tries < RECORD_WAIT_TRIES; tries++) {
      if (!this.isUnrecorded(name)) return undefined;
      await setTimeout(RECORD_WAIT_MILLISECONDS);
      throwIfAborted(this.#options.signal);
    }
    const recordPath = displayPath(this.#pathOf(name, "json"));
    throw unfitError(path, {
      why:
        `its record ${recordPath} is missing, and it differs from what would be written: it ${damage}`,
    });
  }

  /** The usable record of a layer at a position, if any. */
  positionRecord(position: LayerPosition): PositionRecord | undefined {
    const path = this.#pathOf(positionFileName(position), "json");
    const record = readRecordFile(path, decodePosition);
    return record === undefined || "why" in record || record.position !== positionKey(position)
      ? undefined
      : record;
  }

  /** Records a layer at a position. */
  async addPosition(position: LayerPosition, record: PositionRecord): Promise<void> {
    if (this.#options.dryRun) return;
    const path = this.#pathOf(positionFileName(position), "json");
    await writeFileWhole(path, encodePosition(record), this.#options.signal);
  }

  /** Ignores signals, so that the record always follows the image. */
  async #keepRecord(name: string, record: LayerRecord): Promise<LayerRecord> {
    if (!this.#options.dryRun) {
      await writeFileWhole(this.#pathOf(name, "json"), encodeRecord(record), undefined);
    }
    this.#known.set(name, record);
    return record;
  }

  #record(
    body: RecordBody,
    checksums: FileChecksums,
    hashTree: CheckedFile | undefined,
  ): LayerRecord {
    const { options } = this.#options;
    const hashFile = hashTree?.checksums;
    return {
      formatVersion: FORMAT_VERSION,
      ...body,
      options,
      checksums,
      ...hashFile === undefined ? {} : { hashFile },
    };
  }

  #pathOf(name: string, ending: "ext4" | "json"): string {
    return pathIn(this.#directory, `${name}.${ending}`);
  }

  async #prove(name: string, diffId: string): Promise<LayerRecord | undefined> {
    const path = this.#pathOf(name, "ext4");
    const found = statIfThere(path);
    if (found === undefined) {
      try {
        if (!this.#options.dryRun) checkOutput(path);
        return undefined;
      } catch (error) {
        // It was created between the two checks.
        if (!isTaken(error)) throw error;
        return await this.#prove(name, diffId);
      }
    }
    if (!found.isFile()) checkOutput(path, { force: true });
    const record = readRecordFile(this.#pathOf(name, "json"), decodeRecord);
    if (record === undefined) return undefined;
    const fault = "why" in record ? record : await this.#faultOf(name, record, diffId);
    if (!("why" in record) && fault === undefined) return record;
    if (this.#options.force) return undefined;
    throw unfitError(path, fault!);
  }

  async #faultOf(
    name: string,
    record: LayerRecord,
    diffId: string,
  ): Promise<Unfitness | undefined> {
    if (record.diffId !== diffId) {
      const shown = displayPath(this.#pathOf(name, "json"));
      return { why: `${shown} is the record of another layer, ${record.diffId}` };
    }
    if (record.formatVersion !== FORMAT_VERSION) {
      return { why: `its format version is ${record.formatVersion}: wanted ${FORMAT_VERSION}` };
    }
    const differences = optionDifferences(record.options, this.#options.options);
    if (differences.length > 0) return { why: "it was made with other options", differences };
    const path = this.#pathOf(name, "ext4");
    const damage = await findDamage(path, record.checksums, this.#options);
    if (damage !== undefined) return { why: `it is damaged: it ${damage}` };
    if (record.hashFile === undefined) return undefined;
    const treePath = verityPath(path);
    const shown = displayPath(treePath);
    if (statIfThere(treePath)?.isFile() !== true) {
      return { why: `its hash tree ${shown} is missing` };
    }
    const treeDamage = await findDamage(treePath, record.hashFile, this.#options);
    return treeDamage === undefined
      ? undefined
      : { why: `its hash tree ${shown} is damaged: it ${treeDamage}` };
  }
}

/** A record, or why it is unusable; undefined if there is none. */
function readRecordFile<T extends object>(
  path: string,
  decode: (bytes: Uint8Array, what: string) => T,
): T | Unfitness | undefined {
  const shown = displayPath(path);
  const found = statIfThere(path);
  if (found === undefined) return undefined;
  if (!found.isFile() || found.size > RECORD_BYTES_MAX) return { why: `${shown} is not a record` };
  try {
    return decode(readFileWhole(path), shown);
  } catch (error) {
    if (error instanceof InputError) return { why: error.message };
    throw error;
  }
}

/** Why an image cannot be reused. */
interface Unfitness {
  readonly why: string;
  readonly differences?: readonly OptionDifference[] | undefined;
}

/** Whether an error means that another process has created the file meanwhile. */
export function isTaken(error: unknown): boolean {
  return error instanceof IoError && error.data["code"] === "EEXIST";
}

function unfitError(path: string, { why, differences = [] }: Unfitness): IoError {
  const shown = displayPath(path);
  return new IoError(shown, `cannot be reused: ${why}`, {
    differences,
    hint: "name another directory",
    remedies: [{ option: "force", change: "set", to: "replace it" }],
    data: { path: shown, code: "EEXIST" },
  });
}
