/**
 * Tasks that a server runs in separate processes: resolving a source to an image, and computing the digest of an image
 * and which of its cells are new. The latter reads every byte of the image.
 *
 * Known cells are kept in a database by the first eight bytes of their digests, with the number of images that contain
 * them. It only serves figures: if it is lost, all cells count as new again.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, fstatSync, openSync, readSync } from "node:fs";
import type { DatabaseSync } from "node:sqlite";
import { isZero } from "../lib/bytes/arithmetic.ts";
import { openImage, type SourceOptions } from "../lib/source/source.ts";
import { parseSourceName } from "../lib/source/source_name.ts";
import { openDatabaseFile } from "./state/sqlite.ts";

export interface ResolvedSource {
  /** `sha256:HEX` of the manifest; null if there is none. */
  readonly manifestDigest: string | null;
  /**
   * Identifies the content if there is no manifest: the digest of a file. Null for a directory tree, which has none.
   */
  readonly contentDigest: string | null;
  readonly kind: string;
  readonly config: unknown;
  /** From the bottom layer up. */
  readonly layers: readonly {
    readonly digest: string | null;
    readonly diffId: string | null;
    readonly sizeBytes: number | null;
  }[];
}

/** Opens a source, reads its manifest and config, and closes it. */
export async function resolveSource(
  source: string,
  options: SourceOptions,
): Promise<ResolvedSource> {
  const image = await openImage(source, options);
  try {
    const { manifestDigest = null, kind, config = null } = image;
    const layers = image.layers.map(({ digest = null, diffId = null, sizeBytes = null }) => ({
      digest,
      diffId,
      sizeBytes,
    }));
    const contentDigest = manifestDigest === null ? await digestOfFile(source) : null;
    return { manifestDigest, contentDigest, kind, config, layers };
  } finally {
    image.close();
  }
}

/** The digest of a source that is a file; null for a directory. */
async function digestOfFile(source: string): Promise<string | null> {
  const name = parseSourceName(source, existsSync);
  if (name.kind !== "tar" && name.kind !== "ext4" && name.kind !== "path") return null;
  const hash = createHash("sha256");
  try {
    for await (const piece of createReadStream(name.path)) hash.update(piece as Uint8Array);
  } catch (error) {
    if ((error as { code?: string }).code === "EISDIR") return null;
    throw error;
  }
  return `sha256:${hash.digest("hex")}`;
}

/** The maximum length of a map of a whole image. */
const MAP_LENGTH_MAX = 1024;
const READ_CELLS_BYTES = 1 << 20;

export interface MeasuredFile {
  /** `sha256:HEX` of its bytes. */
  readonly digest: string;
  readonly sizeBytes: number;
  readonly newCells: number;
  readonly sharedCells: number;
  readonly newBytes: number;
  readonly sharedBytes: number;
  /**
   * A map of the file from beginning to end: `n` new, `s` shared, `.` zeros. A letter for several cells is the first of
   * these that occurs among them.
   */
  readonly map: string;
}

/** Measures files and adds their cells to the database. */
export function measureFiles(
  paths: readonly string[],
  gridBytes: number,
  cellsPath: string,
): Promise<{ readonly files: readonly MeasuredFile[] }> {
  const cells = new CellDatabase(cellsPath);
  try {
    const files = paths.map((path) => {
      const { digest, sizeBytes, hashes } = hashCells(path, gridBytes);
      return { digest, sizeBytes, ...cells.add(digest, gridBytes, sizeBytes, hashes) };
    });
    return Promise.resolve({ files });
  } finally {
    cells.close();
  }
}

/** Removes the cells of images from the database. */
export function forgetImages(cellsPath: string, digests: readonly string[]): void {
  const cells = new CellDatabase(cellsPath);
  try {
    for (const digest of digests) cells.forget(digest);
  } finally {
    cells.close();
  }
}

interface HashedFile {
  readonly digest: string;
  readonly sizeBytes: number;
  /** One per cell; 0 stands for zeros. */
  readonly hashes: BigInt64Array;
}

function hashCells(path: string, gridBytes: number): HashedFile {
  const descriptor = openSync(path, "r");
  try {
    const sizeBytes = fstatSync(descriptor).size;
    const whole = createHash("sha256");
    const hashes = new BigInt64Array(Math.ceil(sizeBytes / gridBytes));
    const cellsAtOnce = Math.max(1, Math.floor(READ_CELLS_BYTES / gridBytes));
    const buffer = new Uint8Array(cellsAtOnce * gridBytes);
    for (let cell = 0; cell < hashes.length;) {
      const piece = readWhole(descriptor, buffer, cell * gridBytes);
      whole.update(piece);
      for (let at = 0; at < piece.length; at += gridBytes, cell++) {
        const bytes = piece.subarray(at, at + gridBytes);
        hashes[cell] = isZero(bytes) ? 0n : hashOf(bytes);
      }
    }
    return { digest: `sha256:${whole.digest("hex")}`, sizeBytes, hashes };
  } finally {
    closeSync(descriptor);
  }
}

/** Fills the buffer from `position` on, or up to the end of the file. */
function readWhole(descriptor: number, buffer: Uint8Array, position: number): Uint8Array {
  let length = 0;
  while (length < buffer.length) {
    const read = readSync(descriptor, buffer, length, buffer.length - length, position + length);
    if (read === 0) break;
    length += read;
  }
  if (length === 0) throw new Error("Invariant broken: the image became shorter");
  return buffer.subarray(0, length);
}

function hashOf(bytes: Uint8Array): bigint {
  const hash = createHash("sha256").update(bytes).digest().readBigInt64LE(0);
  return hash === 0n ? 1n : hash;
}

class CellDatabase {
  readonly #database: DatabaseSync;

  constructor(path: string) {
    this.#database = openDatabaseFile(path);
    for (
      const statement of [
        "PRAGMA busy_timeout = 60000",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = NORMAL",
        `CREATE TABLE IF NOT EXISTS cells (
          grid INTEGER NOT NULL, hash INTEGER NOT NULL, images INTEGER NOT NULL,
          PRIMARY KEY (grid, hash)) WITHOUT ROWID`,
        // Keep the first result, so that a job that runs again reports the same.
        `CREATE TABLE IF NOT EXISTS files (
          digest TEXT NOT NULL, grid INTEGER NOT NULL, hashes BLOB NOT NULL, answer TEXT NOT NULL,
          PRIMARY KEY (digest, grid))`,
      ]
    ) this.#database.exec(statement);
  }

  close(): void {
    this.#database.close();
  }

  add(
    digest: string,
    grid: number,
    sizeBytes: number,
    hashes: BigInt64Array,
  ): Omit<MeasuredFile, "digest" | "sizeBytes"> {
    return this.#transaction(() => {
      const known = this.#database.prepare("SELECT answer FROM files WHERE digest = ? AND grid = ?")
        .get(digest, grid) as { answer: string } | undefined;
      if (known !== undefined) return JSON.parse(known.answer);
      const answer = this.#count(grid, sizeBytes, hashes);
      this.#database.prepare("INSERT INTO files (digest, grid, hashes, answer) VALUES (?, ?, ?, ?)")
        .run(digest, grid, new Uint8Array(hashes.buffer), JSON.stringify(answer));
      return answer;
    });
  }

  #count(grid: number, sizeBytes: number, hashes: BigInt64Array) {
    const insert = this.#database.prepare(
      `INSERT INTO cells (grid, hash, images) VALUES (?, ?, 1)
       ON CONFLICT (grid, hash) DO UPDATE SET images = images + 1 RETURNING images`,
    );
    const letters: string[] = [];
    const counts = { newCells: 0, sharedCells: 0, newBytes: 0, sharedBytes: 0 };
    const seen = new Map<bigint, string>();
    hashes.forEach((hash, cell) => {
      if (hash === 0n) return void letters.push(".");
      const before = seen.get(hash);
      if (before !== undefined) return void letters.push(before);
      const { images } = insert.get(grid, hash) as { images: number };
      const kind = images === 1 ? "new" : "shared";
      const bytes = Math.min(grid, sizeBytes - cell * grid);
      counts[`${kind}Cells`]++;
      counts[`${kind}Bytes`] += bytes;
      seen.set(hash, kind[0]!);
      letters.push(kind[0]!);
    });
    return { ...counts, map: shortened(letters) };
  }

  forget(digest: string): void {
    this.#transaction(() => {
      const rows = this.#database.prepare("SELECT grid, hashes FROM files WHERE digest = ?")
        .all(digest) as { grid: number; hashes: Uint8Array }[];
      const leave = this.#database.prepare(
        "UPDATE cells SET images = images - 1 WHERE grid = ? AND hash = ?",
      );
      const remove = this.#database.prepare(
        "DELETE FROM cells WHERE grid = ? AND hash = ? AND images <= 0",
      );
      for (const { grid, hashes } of rows) {
        const bytes = Uint8Array.from(hashes);
        for (const hash of new Set(new BigInt64Array(bytes.buffer))) {
          leave.run(grid, hash);
          remove.run(grid, hash);
        }
      }
      this.#database.prepare("DELETE FROM files WHERE digest = ?").run(digest);
    });
  }

  #transaction<T>(work: () => T): T {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const result = work();
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
  }
}

/** A map of at most `MAP_LENGTH_MAX` letters; of several cells, the most significant letter is kept. */
function shortened(letters: readonly string[]): string {
  const length = Math.min(letters.length, MAP_LENGTH_MAX);
  let map = "";
  for (let i = 0; i < length; i++) {
    const from = Math.floor(i * letters.length / length);
    const part = letters.slice(from, Math.floor((i + 1) * letters.length / length));
    map += ["n", "s"].find((letter) => part.includes(letter)) ?? ".";
  }
  return map;
}
