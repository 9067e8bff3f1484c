/**
 * A chunk store in a directory, `DIR/1234/1234....cacnk`, readable with `casync --store=DIR` and `desync --store DIR`.
 *
 * @module
 */
import {
  type Dirent,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  type Stats,
} from "node:fs";
import { setImmediate } from "node:timers/promises";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { InputError, IoError, optionError, throwIfAborted, UsageError } from "../errors.ts";
import { type FileOperations, NODE_FILE_OPERATIONS } from "../io/file_sink.ts";
import { realPathOf, statIfThere } from "../io/paths.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../io/system_error.ts";
import { isRunning, processPlace } from "./store_lock.ts";
import {
  chunkFolder,
  chunkIdOf,
  chunkPath,
  type ChunkStore,
  LOCK_FOLDER,
  missingChunk,
  notAChunk,
  type PutOutcome,
  sizeFault,
  STORED_BYTES_MAX,
  type StoredObject,
} from "./chunk.ts";

/** Options of a directory store. */
interface DirectoryStoreOptions {
  /** When aborted, half-written files are removed at once. */
  readonly signal?: AbortSignal | undefined;
  /** Whether the directory must exist already. Default false. */
  readonly mustExist?: boolean | undefined;
  /** Replaces the file system in tests. */
  readonly files?: FileOperations | undefined;
}

const MAX_NAME_TRIES = 1000;
/** The number of syncs between checks for signals. */
const YIELD_AFTER_SYNCS = 64;
/** `desync prune` removes files with such names, which crashes leave behind; casync ignores them. */
const PART_PREFIX = ".tmp-cacnk";
/** The owner of a part: its host and PID namespace, and its PID. */
const PART_NAME = /^\.tmp-cacnk-(.+)-(\d+)-\d+$/;

let partCount = 0;

/**
 * A store in a directory. A chunk is written to a temporary file, flushed, and then linked to its name, which fails if
 * the name is taken. A chunk is therefore never visible in part and never replaced, however many processes write at
 * once.
 */
export class DirectoryStore implements ChunkStore {
  readonly name: string;
  readonly #path: string;
  readonly #signal: AbortSignal | undefined;
  readonly #mustExist: boolean;
  readonly #files: FileOperations;
  /** Folders with entries that are not flushed yet. */
  readonly #unsynced = new Set<string>();
  /** Chunks that existed before. */
  readonly #found: string[] = [];
  readonly #parts = new Set<string>();
  readonly #folders = new Set<string>();

  constructor(path: string, options: DirectoryStoreOptions = {}) {
    if (path === "") throw optionError("store", "the name is empty");
    this.name = displayPath(path);
    this.#path = realPathOf(path);
    this.#signal = options.signal;
    this.#mustExist = options.mustExist ?? false;
    this.#files = options.files ?? NODE_FILE_OPERATIONS;
    this.#signal?.addEventListener("abort", () => {
      for (const partPath of [...this.#parts]) this.#removePart(partPath);
    });
  }

  /** Checks that the directory or its parent exists. */
  open(): Promise<void> {
    return new Promise((resolve) => resolve(this.#check()));
  }

  has(id: string, contentBytes: number): boolean {
    const path = join(this.#path, chunkPath(id));
    let found: Stats | undefined;
    try {
      found = statIfThere(path);
    } catch (error) {
      if (systemErrorFacts((error as Error).cause)?.code !== "ELOOP") throw error;
    }
    if (found === undefined) {
      const link = statIfThere(path, lstatSync);
      if (link === undefined) return false;
      // A dangling link occupies a chunk's name, and would stop casync and every later put.
      if (link.isSymbolicLink()) {
        throw notAChunk(displayPath(path), displayPath(path), "is a link to nothing");
      }
      // Another process has stored the chunk since the first check.
      return this.has(id, contentBytes);
    }
    const why = found.isFile() ? sizeFault(found.size, contentBytes) : "is not a file";
    if (why !== undefined) throw notAChunk(displayPath(path), displayPath(path), why);
    this.#found.push(id);
    return true;
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

  /** Also flushes existing chunks: they may be in memory only if another process has just stored them. */
  async settle(): Promise<void> {
    let count = 0;
    for (const id of this.#found) {
      const path = join(this.#path, chunkPath(id));
      this.#syncPath(path);
      this.#unsynced.add(dirname(path));
      if (++count % YIELD_AFTER_SYNCS === 0) await setImmediate();
      throwIfAborted(this.#signal);
    }
    for (const folder of this.#unsynced) this.#syncPath(folder);
    this.#found.length = 0;
    this.#unsynced.clear();
  }

  async *list(folder?: string): AsyncGenerator<StoredObject> {
    if (folder !== undefined) return yield* this.#listPaths(this.#pathsIn(folder));
    for (const entry of entriesOf(this.#path)) {
      await setImmediate();
      yield* this.#listPaths(entry.isDirectory() ? this.#pathsIn(entry.name) : [entry.name]);
    }
  }

  mark(path: string): Promise<boolean> {
    return new Promise((resolve) => resolve(this.#mark(join(this.#path, path))));
  }

  remove(path: string): Promise<void> {
    return new Promise((resolve) => resolve(this.#remove(join(this.#path, path))));
  }

  #pathsIn(folder: string): string[] {
    return entriesOf(join(this.#path, folder)).map(({ name }) => `${folder}/${name}`);
  }

  *#listPaths(paths: readonly string[]): Generator<StoredObject> {
    for (const path of paths) {
      const stats = statIfThere(join(this.#path, path), lstatSync);
      if (stats === undefined || stats.isDirectory()) continue;
      yield { path, id: chunkIdOf(path), sizeBytes: stats.size, storedMs: stats.mtimeMs };
    }
  }

  #mark(path: string): boolean {
    for (let tries = 1;; tries++) {
      try {
        mkdirSync(dirname(path), { recursive: true });
        this.#files.close(this.#files.openExclusive(path));
        return true;
      } catch (cause) {
        const code = systemErrorFacts(cause)?.code;
        if (code === "EEXIST") return false;
        // Another process may have removed the empty folder meanwhile.
        if (code !== "ENOENT" || tries === MAX_NAME_TRIES) {
          throw ioErrorFrom(path, "cannot be created", cause);
        }
      }
    }
  }

  #remove(path: string): void {
    try {
      this.#files.unlink(path);
      if (basename(dirname(path)) === LOCK_FOLDER) rmdirSync(dirname(path));
    } catch (cause) {
      const code = systemErrorFacts(cause)?.code;
      if (code === "ENOENT" || code === "ENOTEMPTY" || code === "EEXIST") return;
      throw ioErrorFrom(path, "cannot be removed", cause);
    }
  }

  #syncPath(path: string): void {
    try {
      this.#files.syncDirectory(path);
    } catch (cause) {
      // Some file systems cannot sync a directory and report that; the chunks still have their names.
      if (["EINVAL", "ENOTSUP", "EOPNOTSUPP"].includes(systemErrorFacts(cause)?.code ?? "")) return;
      throw ioErrorFrom(path, "cannot be flushed to the disk", cause);
    }
  }

  #check(): void {
    const found = statIfThere(this.#path);
    if (found?.isDirectory()) return;
    if (found) throw new UsageError(this.name, "is not a directory: wanted one for the chunks");
    if (this.#mustExist) {
      throw new IoError(this.name, "does not exist: wanted a directory of chunks", {
        code: "notFound",
        remedies: [{ option: "createStore", change: "set", to: "make it" }],
      });
    }
    const parent = dirname(this.#path);
    if (statIfThere(parent)?.isDirectory()) return;
    throw new IoError(this.name, `the directory ${displayPath(parent)} does not exist`, {
      code: "notFound",
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
      if (made === undefined) this.#removeAbandoned(folder);
    } catch (cause) {
      throw ioErrorFrom(folder, "cannot be created", cause);
    }
    this.#folders.add(folder);
    return folder;
  }

  /** Removes parts left by killed processes of this host. Those of other hosts may still be in progress. */
  #removeAbandoned(folder: string): void {
    for (const { name } of entriesOf(folder)) {
      const [, place, pid] = PART_NAME.exec(name) ?? [];
      if (place === processPlace() && !isRunning(Number(pid))) this.#remove(join(folder, name));
    }
  }

  #createPart(folder: string): { readonly descriptor: number; readonly partPath: string } {
    for (let tries = 1;; tries++) {
      const partPath = join(
        folder,
        `${PART_PREFIX}-${processPlace()}-${process.pid}-${++partCount}`,
      );
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
      try {
        if (isOpen) this.#files.close(descriptor);
      } catch {
        // The written data is discarded anyway.
      }
      throwIfAborted(this.#signal);
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
   * For file systems without hard links. Two concurrent writers may both rename; each chunk is complete and has the
   * same content.
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
    const shown = displayPath(path);
    const size = statIfThere(path)?.size;
    if (size === undefined) throw missingChunk(shown, shown);
    if (size > STORED_BYTES_MAX) {
      const why = `has ${size} bytes: a chunk has at most ${STORED_BYTES_MAX}`;
      throw new InputError(shown, why, { code: "limitExceeded" });
    }
    try {
      return readFileSync(path);
    } catch (cause) {
      throw ioErrorFrom(path, "cannot be read", cause);
    }
  }

  #removePart(partPath: string): void {
    if (!this.#parts.delete(partPath)) return;
    try {
      this.#files.unlink(partPath);
    } catch {
      // A part is never visible as a chunk, and the original error is the one to report.
    }
  }
}

/** The sorted entries of a folder; empty if it does not exist. */
function entriesOf(path: string): Dirent[] {
  try {
    const entries = readdirSync(path, { withFileTypes: true });
    return entries.sort((a, b) => a.name < b.name ? -1 : 1);
  } catch (cause) {
    if (systemErrorFacts(cause)?.code === "ENOENT") return [];
    throw ioErrorFrom(path, "cannot be listed", cause);
  }
}
