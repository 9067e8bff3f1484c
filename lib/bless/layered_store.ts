/**
 * The directory that layers' images lie in: finding one that can be used again, and adding one so that it is there
 * whole or not at all.
 *
 * @module
 */
import { unlinkSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { InputError, IoError, type OptionDifference, throwIfAborted } from "../errors.ts";
import type { ImagePlan } from "../ext4/plan/image_plan.ts";
import type { WriteResult } from "../ext4/write/write_image.ts";
import { writeImage } from "../ext4/write/write_image.ts";
import { createFileSink } from "../io/file_sink.ts";
import { checkOutput, statIfThere } from "../io/paths.ts";
import { type ImageSink, nullSink, teeSink } from "../io/sink.ts";
import { displayPath } from "../io/system_error.ts";
import type { Progress } from "../progress.ts";
import { ChecksumSink, type FileChecksums, findDamage } from "./layered_checksums.ts";
import { FORMAT_VERSION } from "./plan_image.ts";
import { pathIn, readFileWhole, writeFileWhole } from "./layered_files.ts";
import {
  decodePlacement,
  encodePlacement,
  type LayerPlace,
  type LayerPlacement,
  placeKey,
  placementFileName,
} from "./layered_placement.ts";
import {
  decodeRecord,
  encodeRecord,
  type LayerRecord,
  optionDifferences,
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
   * @param bodyOf makes the record of what was written
   * @throws {IoError} with the code EEXIST when another process was faster
   */
  async add(
    name: string,
    plan: ImagePlan,
    bodyOf: (written: WriteResult) => RecordBody,
  ): Promise<LayerRecord> {
    const { signal, force, progress, isDryRun = false, alsoTo } = this.#options;
    const imagePath = this.#pathOf(name, "ext4");
    const file = isDryRun
      ? nullSink
      : createFileSink(imagePath, { force, ...signal === undefined ? {} : { signal } });
    const checksums = new ChecksumSink();
    const others = alsoTo === undefined ? [] : [alsoTo(name)];
    let record: LayerRecord;
    try {
      const written = await writeImage(plan, teeSink(checksums, ...others, heldSink(file)), {
        signal,
        progress,
      });
      record = this.#record(bodyOf(written), checksums.checksums);
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

  /** What is known of a layer in its place; undefined for nothing that can be used. */
  placementOf(place: LayerPlace): LayerPlacement | undefined {
    const path = this.#pathOf(placementFileName(place), "json");
    const found = statIfThere(path);
    if (!found?.isFile() || found.size > RECORD_BYTES_MAX) return undefined;
    try {
      const placement = decodePlacement(readFileWhole(path), displayPath(path));
      return placement.place === placeKey(place) ? placement : undefined;
    } catch (error) {
      if (error instanceof InputError) return undefined;
      throw error;
    }
  }

  /** Keeps what is known of a layer in its place. */
  async addPlacement(place: LayerPlace, placement: LayerPlacement): Promise<void> {
    if (this.#options.isDryRun) return;
    const path = this.#pathOf(placementFileName(place), "json");
    await writeFileWhole(path, encodePlacement(placement), this.#options.signal);
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
