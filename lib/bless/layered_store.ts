/**
 * The directory that layers' images lie in: finding one that can be used again, and adding one so that it is there
 * whole or not at all.
 *
 * @module
 */
import { unlinkSync } from "node:fs";
import { join } from "node:path";
import { InputError, IoError } from "../errors.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import type { WriteResult } from "../ext4/write/write_image.ts";
import { writeImage } from "../ext4/write/write_image.ts";
import { createFileSink } from "../io/file_sink.ts";
import { checkOutput } from "../io/output_path.ts";
import type { ImageSink } from "../io/sink.ts";
import { displayPath } from "../io/system_error.ts";
import { teeSink } from "../io/tee_sink.ts";
import type { Progress } from "../progress.ts";
import { ChecksumSink, type FileChecksums, findDamage } from "./layered_checksums.ts";
import { readFileWhole, statIfThere, writeFileWhole } from "./layered_files.ts";
import {
  decodeRecord,
  describeOptionDifference,
  encodeRecord,
  type LayerRecord,
  type OptionFacts,
} from "./layered_record.ts";

/** How the store works. */
export interface LayerStoreOptions {
  /** What every image must have been made with. */
  readonly options: OptionFacts;
  /** Replace images that are not whole or were made with other options, instead of refusing them. */
  readonly force: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly progress: Progress;
}

/** What the record says beside what the store itself knows. */
export type RecordBody = Omit<LayerRecord, "options" | "checksums">;

const RECORD_BYTES_MAX = 1 << 28;

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
   * none, or one that may be replaced.
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
   * Writes an image and its record. The record comes first, so that an image without one was not made here.
   *
   * @param bodyOf makes the record of what was written
   */
  async add(
    name: string,
    plan: ImagePlan,
    bodyOf: (written: WriteResult) => RecordBody,
  ): Promise<LayerRecord> {
    const { signal, force, progress } = this.#options;
    const imagePath = this.#pathOf(name, "ext4");
    const recordPath = this.#pathOf(name, "json");
    const file = createFileSink(imagePath, { force, ...signal === undefined ? {} : { signal } });
    const checksums = new ChecksumSink();
    let isRecorded = false;
    try {
      const written = await writeImage(plan, teeSink(checksums, heldSink(file)), {
        signal,
        progress,
      });
      const record = this.#record(bodyOf(written), checksums.checksums);
      await writeFileWhole(recordPath, encodeRecord(record), signal);
      isRecorded = true;
      await file.finish(record.checksums.sizeBytes);
      this.#known.set(name, record);
      return record;
    } catch (error) {
      await file.abort();
      if (isRecorded && statIfThere(imagePath) === undefined) removeQuietly(recordPath);
      throw error;
    }
  }

  /** Notes that the image of a layer is right on other layers too. */
  async addChain(name: string, record: LayerRecord, chainKey: string): Promise<LayerRecord> {
    const extended = { ...record, chains: [...record.chains, chainKey] };
    await writeFileWhole(this.#pathOf(name, "json"), encodeRecord(extended), this.#options.signal);
    this.#known.set(name, extended);
    return extended;
  }

  #record(body: RecordBody, checksums: FileChecksums): LayerRecord {
    return { ...body, options: this.#options.options, checksums };
  }

  #pathOf(name: string, ending: "ext4" | "json"): string {
    return join(this.#directory, `${name}.${ending}`);
  }

  async #prove(name: string, diffId: string): Promise<LayerRecord | undefined> {
    const path = this.#pathOf(name, "ext4");
    const found = statIfThere(path);
    if (found === undefined) {
      checkOutput(path);
      return undefined;
    }
    if (!found.isFile()) checkOutput(path, { force: true });
    const record = this.#readRecord(this.#pathOf(name, "json"), diffId);
    const fault = typeof record === "string" ? record : await this.#faultOf(path, record);
    if (typeof record !== "string" && fault === undefined) return record;
    if (this.#options.force) return undefined;
    const shown = displayPath(path);
    throw new IoError(shown, `cannot be used again: ${fault}`, {
      hint: "use --force to replace it, or name another directory",
      data: { path: shown, code: "EEXIST" },
    });
  }

  async #faultOf(path: string, record: LayerRecord): Promise<string | undefined> {
    const difference = describeOptionDifference(record.options, this.#options.options);
    if (difference !== "") return `it was made with ${difference}`;
    const damage = await findDamage(path, record.checksums, this.#options);
    return damage === undefined ? undefined : `it is not what was made: it ${damage}`;
  }

  /** The record, or why there is none that can be used. */
  #readRecord(path: string, diffId: string): LayerRecord | string {
    const shown = displayPath(path);
    const found = statIfThere(path);
    if (found === undefined) return `its record ${shown} is missing, so nothing says what it is`;
    if (!found.isFile() || found.size > RECORD_BYTES_MAX) return `${shown} is not its record`;
    try {
      const record = decodeRecord(readFileWhole(path), shown);
      if (record.diffId === diffId) return record;
      return `${shown} is the record of another layer, ${record.diffId}`;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      return error.message;
    }
  }
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
