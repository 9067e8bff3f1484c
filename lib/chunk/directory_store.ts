/**
 * A chunk store in a directory, `DIR/1234/1234....cacnk`, as `casync --store=DIR` and `desync --store DIR` read it.
 *
 * @module
 */
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import {
  InputError,
  InterruptedError,
  IoError,
  optionError,
  throwIfAborted,
  UsageError,
} from "../errors.ts";
import { type FileOperations, NODE_FILE_OPERATIONS } from "../io/file_sink.ts";
import { realPathOf, statIfThere } from "../io/paths.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../io/system_error.ts";
import { chunkFolder, chunkPath, STORED_BYTES_MAX } from "./chunk.ts";
import type { ChunkStore, PutOutcome } from "./chunk_store.ts";

/** What a store in a directory needs. */
export interface DirectoryStoreOptions {
  /** When it is aborted, what is half-written is removed at once. */
  readonly signal?: AbortSignal | undefined;
  /** Another file system, for tests. */
  readonly files?: FileOperations;
}

const MAX_NAME_TRIES = 1000;
/** `desync prune` removes what a crash left under such a name; casync passes over it. */
const PART_PREFIX = ".tmp-cacnk";

let partCount = 0;

/**
 * A store in a directory. A chunk is written beside its name, brought to the disk, and then linked to its name, which
 * fails when it is taken: so it is never seen half, and never replaced, however many write at once.
 */
export class DirectoryStore implements ChunkStore {
  readonly name: string;
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  readonly #files: FileOperations;
  /** Folders with names that are not on the disk yet. */
  readonly #unsynced = new Set<string>();
  readonly #parts = new Set<string>();
  readonly #folders = new Set<string>();

  constructor(path: string, options: DirectoryStoreOptions = {}) {
    if (path === "") throw optionError("store", "the name is empty");
    this.name = displayPath(path);
    this.#path = realPathOf(path);
    this.#signal = options.signal;
    this.#files = options.files ?? NODE_FILE_OPERATIONS;
    this.#signal?.addEventListener("abort", () => this.#removeParts());
  }

  /** The directory must be there, or the one that it is to be made in. */
  open(): Promise<void> {
    return new Promise((resolve) => resolve(this.#check()));
  }

  has(id: string): boolean {
    const path = join(this.#path, chunkPath(id));
    const found = statIfThere(path);
    if (found === undefined) return false;
    if (found.isFile() && found.size > 0) return true;
    const why = found.isFile() ? "is empty: wanted a chunk" : "is no file: wanted a chunk";
    throw new InputError(displayPath(path), why, {
      hint: "remove it, and it will be stored again",
      data: { path: displayPath(path) },
    });
  }

  get(id: string): Promise<Uint8Array> {
    return new Promise((resolve) => resolve(this.#read(join(this.#path, chunkPath(id)))));
  }

  async put(id: string, stored: Uint8Array): Promise<PutOutcome> {
    throwIfAborted(this.#signal);
    const folder = this.#makeFolder(id);
    const path = join(this.#path, chunkPath(id));
    const { descriptor, partPath } = this.#createPart(folder);
    try {
      await this.#fill(descriptor, stored, partPath);
      throwIfAborted(this.#signal);
      return this.#publish(partPath, path);
    } finally {
      this.#removePart(partPath);
    }
  }

  settle(): Promise<void> {
    for (const folder of this.#unsynced) {
      try {
        this.#files.syncDirectory(folder);
      } catch {
        // Some file systems cannot sync a directory; the chunks themselves are safe and have their names.
      }
    }
    this.#unsynced.clear();
    return Promise.resolve();
  }

  #check(): void {
    const found = statIfThere(this.#path);
    if (found?.isDirectory()) return;
    if (found) throw new UsageError(this.name, "is no directory: wanted one for the chunks");
    const parent = dirname(this.#path);
    if (statIfThere(parent)?.isDirectory()) return;
    throw new IoError(this.name, `the directory ${displayPath(parent)} does not exist`, {
      hint: "create it first",
    });
  }

  #makeFolder(id: string): string {
    const folder = join(this.#path, chunkFolder(id));
    if (this.#folders.has(folder)) return folder;
    try {
      const made = mkdirSync(folder, { recursive: true });
      // The store itself may be new, too.
      if (made !== undefined && made !== folder) this.#unsynced.add(dirname(made));
      if (made !== undefined) this.#unsynced.add(this.#path);
    } catch (cause) {
      throw ioErrorFrom(folder, "cannot be created", cause);
    }
    this.#folders.add(folder);
    return folder;
  }

  #createPart(folder: string): { readonly descriptor: number; readonly partPath: string } {
    for (let tries = 1;; tries++) {
      const partPath = join(folder, `${PART_PREFIX}-${process.pid}-${++partCount}`);
      try {
        const descriptor = this.#files.openExclusive(partPath);
        this.#parts.add(partPath);
        return { descriptor, partPath };
      } catch (cause) {
        const isTaken = systemErrorFacts(cause)?.code === "EEXIST";
        if (!isTaken || tries === MAX_NAME_TRIES) {
          throw ioErrorFrom(partPath, "cannot be created", cause);
        }
      }
    }
  }

  async #fill(descriptor: number, stored: Uint8Array, partPath: string): Promise<void> {
    let isOpen = true;
    try {
      for (let done = 0; done < stored.length;) {
        const count = this.#files.write(descriptor, stored.subarray(done), done);
        if (count <= 0) throw new Error("nothing was written");
        done += count;
      }
      await this.#files.sync(descriptor);
      isOpen = false;
      this.#files.close(descriptor);
    } catch (cause) {
      if (isOpen) this.#closeQuietly(descriptor);
      if (this.#signal?.aborted) {
        throw new InterruptedError("interrupted", "the work was told to stop");
      }
      throw ioErrorFrom(partPath, `cannot write ${stored.length} bytes`, cause);
    }
  }

  #publish(partPath: string, path: string): PutOutcome {
    try {
      this.#files.link(partPath, path);
    } catch (cause) {
      if (systemErrorFacts(cause)?.code === "EEXIST") return "present";
      return this.#publishByRename(partPath, path);
    }
    this.#unsynced.add(dirname(path));
    return "added";
  }

  /**
   * For file systems without links. Two that are here at the same time both rename, each a whole chunk with the same
   * content.
   */
  #publishByRename(partPath: string, path: string): PutOutcome {
    if (statIfThere(path) !== undefined) return "present";
    try {
      this.#files.rename(partPath, path);
    } catch (cause) {
      throw ioErrorFrom(path, "cannot be given its name", cause);
    }
    this.#parts.delete(partPath);
    this.#unsynced.add(dirname(path));
    return "added";
  }

  #read(path: string): Uint8Array {
    try {
      const { size } = statSync(path);
      if (size <= STORED_BYTES_MAX) return readFileSync(path);
      throw new InputError(
        displayPath(path),
        `has ${size} bytes: a chunk has at most ${STORED_BYTES_MAX}`,
      );
    } catch (cause) {
      if (cause instanceof InputError) throw cause;
      throw ioErrorFrom(path, "cannot be read", cause);
    }
  }

  #removeParts(): void {
    for (const partPath of [...this.#parts]) this.#removePart(partPath);
  }

  #removePart(partPath: string): void {
    if (!this.#parts.delete(partPath)) return;
    try {
      this.#files.unlink(partPath);
    } catch {
      // Nobody sees a part; the error that led here is the one to tell.
    }
  }

  #closeQuietly(descriptor: number): void {
    try {
      this.#files.close(descriptor);
    } catch {
      // What is written is thrown away.
    }
  }
}
