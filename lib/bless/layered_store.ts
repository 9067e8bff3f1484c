/**
 * The directory that layers' images lie in: finding one that can be used again, and adding one so that it is there whole or
 * not at all.
 *
 * An image is proved to be whole by the CRC-32 of each of its pieces, made while it was written. CRC-32 finds accidents, not
 * forgery: whoever can change an image can change its record too. It is read at the speed of memory, where SHA-256 takes
 * several times as long as reading.
 *
 * @module
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import { mkdirSync, readFileSync, rmdirSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
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
import { type ImageSink, nullSink, teeSink } from "../io/sink.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../io/system_error.ts";
import type { Progress } from "../progress.ts";
import {
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

/**
 * Checks that a directory is there or can be made.
 *
 * @returns whether it is still to be made
 * @throws {UsageError} when it can never be one
 * @throws {IoError} when what is above it is missing
 */
export function checkDirectory(path: string): boolean {
  if (path === "") throw new UsageError("output", "the name is empty");
  const shown = displayPath(path);
  const found = statIfThere(path);
  if (found?.isDirectory()) return false;
  if (found) throw new UsageError(shown, "is no directory: wanted one for the layers' images");
  const parent = dirname(path);
  if (statIfThere(parent)?.isDirectory()) return true;
  throw new IoError(shown, `the directory ${displayPath(parent)} does not exist`, {
    hint: "create it first",
  });
}

/**
 * Makes a directory, unless another process has just done so.
 *
 * @returns whether it was made here
 * @throws {IoError} when it cannot be made
 */
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

/** The path of a name in a directory. Not shortened as join() does it: what `..` behind a link is, the kernel says. */
export function pathIn(directory: string, name: string): string {
  return directory.endsWith("/") ? `${directory}${name}` : `${directory}/${name}`;
}

/** Takes a directory away again unless something is in it. */
export function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // Whole images stay; and the error that led here is the one to tell.
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

/**
 * Writes a small file so that it has its name when it is whole, and replaces what is there.
 *
 * @throws {IoError} when it cannot be written
 */
export async function writeFileWhole(
  path: string,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const sink = createFileSink(path, { force: true, ...signal === undefined ? {} : { signal } });
  try {
    await sink.write(bytes, 0);
    await sink.finish(bytes.length);
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

const ZEROS = new Uint8Array(CHECKSUM_PIECE_BYTES);
/** Signals are served after so many pieces. */
const YIELD_AFTER_PIECES = 64;

/** A sink that keeps the checksums of what it is given, and nothing else. */
export class ChecksumSink implements ImageSink {
  readonly #crc32s: number[] = [];
  #endOffset = 0;
  #crc32 = 0;
  #isFinished = false;

  /** The checksums of the whole. */
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
      this.#add(ZEROS.subarray(0, Math.min(this.#leftInPiece(), endOffset - this.#endOffset)));
    }
  }

  /** @param part no more than what is left in the piece */
  #add(part: Uint8Array): void {
    this.#crc32 = crc32(part, this.#crc32);
    this.#endOffset += part.length;
    if (this.#endOffset % CHECKSUM_PIECE_BYTES !== 0) return;
    this.#crc32s.push(this.#crc32);
    this.#crc32 = 0;
  }
}

/**
 * Reads a file and says how it differs from what it was when it was whole; undefined when it does not.
 *
 * @throws {InputError} when it is not there
 * @throws {IoError} when it cannot be read
 * @throws {InterruptedError} when the signal is aborted
 */
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

/** How the store works. */
export interface LayerStoreOptions {
  /** What every image must have been made with. */
  readonly options: OptionFacts;
  /** Replace images that are not whole or were made with other options, instead of refusing them. */
  readonly force: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
  /** Write nothing: images are made, but not kept. */
  readonly isDryRun?: boolean;
  /** Gets the bytes of each image that is made, before the image has its name. */
  readonly alsoTo?: ((name: string) => ImageSink) | undefined;
}

/** What the record says beside what the store itself knows. */
export type RecordBody = Omit<LayerRecord, "formatVersion" | "options" | "checksums">;

const RECORD_BYTES_MAX = 1 << 28;
/** Whoever made an image writes its record at once. One that comes no sooner than this will not come. */
const RECORD_WAIT_TRIES = 5;
const RECORD_WAIT_MILLISECONDS = 200;

/** The images of layers in one directory. */
export class LayerStore {
  readonly #directory: string;
  readonly #options: LayerStoreOptions;
  /** Images that were proved to be whole. Others may come at any time: another process may make them. */
  readonly #known = new Map<string, LayerRecord>();

  constructor(directory: string, options: LayerStoreOptions) {
    this.#directory = directory;
    this.#options = options;
  }

  /**
   * The record of an image that is there, proved to be whole and made with the same options. Undefined when there is
   * none, one that may be replaced, or one without a record ({@link LayerStore.isUnrecorded}).
   *
   * @param name of the file, without its ending
   * @throws {IoError} when there is one that can neither be used nor replaced
   */
  async find(name: string, diffId: string): Promise<LayerRecord | undefined> {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const found = await this.#prove(name, diffId);
    if (found !== undefined) this.#known.set(name, found);
    return found;
  }

  /**
   * Writes an image and its record. The image gets its name first. Should the record not follow, for the process may be
   * killed in between, the image is whole all the same, and {@link LayerStore.adopt} takes it over.
   *
   * @param write writes the image and says what its record is to say
   * @throws {IoError} with the code EEXIST when another process was faster
   */
  async add(
    name: string,
    write: (sink: ImageSink) => Promise<RecordBody>,
  ): Promise<LayerRecord> {
    const { signal, force, isDryRun = false, alsoTo } = this.#options;
    const imagePath = this.#pathOf(name, "ext4");
    const file = isDryRun
      ? nullSink
      : createFileSink(imagePath, { force, ...signal === undefined ? {} : { signal } });
    const checksums = new ChecksumSink();
    const others = alsoTo === undefined ? [] : [alsoTo(name)];
    let record: LayerRecord;
    try {
      const body = await write(teeSink(checksums, ...others, heldSink(file)));
      record = this.#record(body, checksums.checksums);
      // What is there belongs to an image that is gone, or goes now.
      if (!isDryRun && (force || statIfThere(imagePath) === undefined)) {
        removeQuietly(this.#pathOf(name, "json"));
      }
      await file.finish(record.checksums.sizeBytes);
    } catch (error) {
      await file.abort();
      throw error;
    }
    return await this.#keepRecord(name, record);
  }

  /** Whether there is an image without a record: its maker has not come to write one, or was stopped before it. */
  isUnrecorded(name: string): boolean {
    return !this.#options.force && statIfThere(this.#pathOf(name, "json")) === undefined &&
      statIfThere(this.#pathOf(name, "ext4"))?.isFile() === true;
  }

  /**
   * Takes over an image without a record when it is just what would be made. Undefined when its maker has written the
   * record meanwhile.
   *
   * @param checksums what would be made
   * @throws {IoError} when it is something else
   */
  async adopt(
    name: string,
    body: RecordBody,
    checksums: FileChecksums,
  ): Promise<LayerRecord | undefined> {
    const path = this.#pathOf(name, "ext4");
    const damage = await findDamage(path, checksums, this.#options);
    if (damage === undefined) return await this.#keepRecord(name, this.#record(body, checksums));
    for (let tries = 0; tries < RECORD_WAIT_TRIES; tries++) {
      if (!this.isUnrecorded(name)) return undefined;
      await setTimeout(RECORD_WAIT_MILLISECONDS);
      throwIfAborted(this.#options.signal);
    }
    const recordPath = displayPath(this.#pathOf(name, "json"));
    throw unfitError(path, {
      why: `its record ${recordPath} is missing, and it is not what would be made: it ${damage}`,
    });
  }

  /** What is known of a layer in a position; undefined where nothing usable is. */
  positionRecord(position: LayerPosition): PositionRecord | undefined {
    const path = this.#pathOf(positionFileName(position), "json");
    const found = statIfThere(path);
    if (!found?.isFile() || found.size > RECORD_BYTES_MAX) return undefined;
    try {
      const record = decodePosition(readFileWhole(path), displayPath(path));
      return record.position === positionKey(position) ? record : undefined;
    } catch (error) {
      if (error instanceof InputError) return undefined;
      throw error;
    }
  }

  /** Keeps what is known of a layer in a position. */
  async addPosition(position: LayerPosition, record: PositionRecord): Promise<void> {
    if (this.#options.isDryRun) return;
    const path = this.#pathOf(positionFileName(position), "json");
    await writeFileWhole(path, encodePosition(record), this.#options.signal);
  }

  /** Signals wait: the image is there, and its record shall be. */
  async #keepRecord(name: string, record: LayerRecord): Promise<LayerRecord> {
    if (!this.#options.isDryRun) {
      await writeFileWhole(this.#pathOf(name, "json"), encodeRecord(record), undefined);
    }
    this.#known.set(name, record);
    return record;
  }

  #record(body: RecordBody, checksums: FileChecksums): LayerRecord {
    return { formatVersion: FORMAT_VERSION, ...body, options: this.#options.options, checksums };
  }

  #pathOf(name: string, ending: "ext4" | "json"): string {
    return pathIn(this.#directory, `${name}.${ending}`);
  }

  async #prove(name: string, diffId: string): Promise<LayerRecord | undefined> {
    const path = this.#pathOf(name, "ext4");
    const found = statIfThere(path);
    if (found === undefined) {
      try {
        if (!this.#options.isDryRun) checkOutput(path);
        return undefined;
      } catch (error) {
        // It came between the two looks.
        if (!isTaken(error)) throw error;
        return await this.#prove(name, diffId);
      }
    }
    if (!found.isFile()) checkOutput(path, { force: true });
    const record = this.#readRecord(this.#pathOf(name, "json"), diffId);
    if (record === undefined) return undefined;
    const fault = "why" in record ? record : await this.#faultOf(path, record);
    if (!("why" in record) && fault === undefined) return record;
    if (this.#options.force) return undefined;
    throw unfitError(path, fault!);
  }

  async #faultOf(path: string, record: LayerRecord): Promise<Unfitness | undefined> {
    if (record.formatVersion !== FORMAT_VERSION) {
      return { why: `its format version is ${record.formatVersion}: wanted ${FORMAT_VERSION}` };
    }
    const differences = optionDifferences(record.options, this.#options.options);
    if (differences.length > 0) return { why: "it was made with other options", differences };
    const damage = await findDamage(path, record.checksums, this.#options);
    return damage === undefined ? undefined : { why: `it is not what was made: it ${damage}` };
  }

  /** The record, or why it cannot be used; undefined when there is none. */
  #readRecord(path: string, diffId: string): LayerRecord | Unfitness | undefined {
    const shown = displayPath(path);
    const found = statIfThere(path);
    if (found === undefined) return undefined;
    if (!found.isFile() || found.size > RECORD_BYTES_MAX) {
      return { why: `${shown} is not its record` };
    }
    try {
      const record = decodeRecord(readFileWhole(path), shown);
      if (record.diffId === diffId) return record;
      return { why: `${shown} is the record of another layer, ${record.diffId}` };
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      return { why: error.message };
    }
  }
}

/** Why an image cannot be used again. */
interface Unfitness {
  readonly why: string;
  readonly differences?: readonly OptionDifference[];
}

/** Whether an error says that a name was taken: by another process, where it was free before. */
export function isTaken(error: unknown): boolean {
  return error instanceof IoError && error.data["code"] === "EEXIST";
}

function unfitError(path: string, { why, differences = [] }: Unfitness): IoError {
  const shown = displayPath(path);
  return new IoError(shown, `cannot be used again: ${why}`, {
    differences,
    hint: "name another directory",
    remedies: [{ option: "force", change: "set", to: "replace it" }],
    data: { path: shown, code: "EEXIST" },
  });
}

/** Passes an image on, but leaves its end to the caller. */
function heldSink(sink: ImageSink): ImageSink {
  return {
    write: (bytes, offset) => sink.write(bytes, offset),
    finish: () => {},
    abort: () => sink.abort(),
  };
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // A record without an image is passed over, so it does no harm.
  }
}
