/**
 * The directory of images. Each image in it is complete or absent:
 *
 *     HEX.ext4          an image, named by the SHA-256 of its bytes
 *     layers/KEY/       layer images made with the same options by `bless layered`
 *     HEX.json          the sidecar of an image, written before it; without a sidecar there is no image
 *     .serve/           job directories, registry layers, figures; nothing in it needs to be kept
 *
 * @module
 */
import {
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import {
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import * as v from "valibot";
import { UsageError } from "../lib/errors.ts";
import { JOB_MARK } from "./program.ts";
import { ImageRecordSchema } from "./schemas.ts";

const PathSchema = v.pipe(v.string(), v.regex(/^(?:layers\/[0-9a-f]+\/)?[0-9a-zA-Z._@-]+$/));
const SidecarSchema = v.object({
  version: v.literal(1),
  key: v.nullable(v.string()),
  /** All files of the image, relative to the directory. */
  files: v.array(PathSchema),
  /** The image files among them, by position: one, or one per layer. */
  images: v.array(PathSchema),
  record: ImageRecordSchema,
});

type Sidecar = v.InferOutput<typeof SidecarSchema>;

export interface MadeFile {
  readonly from: string;
  /** Path relative to the directory. */
  readonly to: string;
}

export class ImageDirectory {
  readonly root: string;
  #unlock: () => void = () => {};
  /** The images that use each file. */
  readonly #users = new Map<string, Set<string>>();
  #queue: Promise<unknown> = Promise.resolve();
  #stageCount = 0;

  private constructor(root: string) {
    this.root = root;
  }

  /**
   * Opens the directory, creates it if it is missing, and removes anything left by a server that was killed.
   *
   * @throws {UsageError} when another server is using it
   */
  static async open(root: string): Promise<ImageDirectory> {
    const directory = new ImageDirectory(root);
    mkdirSync(join(root, ".serve"), { recursive: true });
    mkdirSync(join(root, "layers"), { recursive: true });
    directory.#unlock = takeLock(join(root, ".serve", "lock"), root);
    try {
      await directory.#sweep();
    } catch (error) {
      directory.close();
      throw error;
    }
    return directory;
  }

  get workDir(): string {
    return join(this.root, ".serve", "work");
  }

  /** Layers fetched from registries. */
  get blobDir(): string {
    return join(this.root, ".serve", "blobs");
  }

  /** The database of serve/tasks.ts. */
  get cellsPath(): string {
    return join(this.root, ".serve", "cells.db");
  }

  /** Unlocks the directory, so that another server can use it. */
  close(): void {
    this.#unlock();
  }

  /** Creates a new directory for one run of a job. */
  async stage(jobId: string): Promise<string> {
    const path = join(this.workDir, `${jobId}-${process.pid}-${++this.#stageCount}`);
    await mkdir(path, { recursive: true });
    return path;
  }

  async unstage(path: string): Promise<void> {
    await rm(path, { recursive: true, force: true });
  }

  /** A file fetched from a chunk store; kept while the server runs. */
  restoredPath(digest: string): string {
    return join(this.root, ".serve", "restored", `${digest.slice("sha256:".length)}.ext4`);
  }

  async keepRestored(digest: string, from: string): Promise<string> {
    const path = this.restoredPath(digest);
    await mkdir(dirname(path), { recursive: true });
    await rename(from, path);
    return path;
  }

  /** Runs changes of the directory one at a time. */
  exclusive<T>(change: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(change, change);
    this.#queue = next.catch(() => {});
    return next;
  }

  /** Whether an image is here with all its files. */
  async has(digest: string): Promise<boolean> {
    const sidecar = await this.sidecar(digest);
    return sidecar?.files.every((file) => existsSync(join(this.root, file))) ?? false;
  }

  /** Gives the files and their sidecar their final names; must be called in `exclusive`. */
  async publish(sidecar: Sidecar, files: readonly MadeFile[], stage: string): Promise<void> {
    const path = this.#sidecarPath(sidecar.record.digest);
    const partPath = join(stage, "sidecar.json");
    await writeDurably(partPath, `${JSON.stringify(sidecar)}\n`);
    await rename(partPath, path);
    await syncDirectory(this.root);
    const directories = new Set([this.root]);
    for (const { from, to } of files) {
      const target = join(this.root, to);
      directories.add(dirname(target));
      await mkdir(dirname(target), { recursive: true });
      await syncFile(from);
      await rename(from, target);
    }
    for (const directory of directories) await syncDirectory(directory);
    this.#use(sidecar);
  }

  /** Removes an image: first the files that no other image uses, then its sidecar; must be called in `exclusive`. */
  async remove(digest: string): Promise<void> {
    const sidecar = await this.sidecar(digest);
    if (sidecar === undefined) return;
    for (const file of sidecar.files) {
      const users = this.#users.get(file);
      users?.delete(digest);
      if (users !== undefined && users.size > 0) continue;
      this.#users.delete(file);
      await rm(join(this.root, file), { force: true });
    }
    await rm(this.#sidecarPath(digest), { force: true });
  }

  /** The sidecar of an image; undefined if the image is not here. */
  async sidecar(digest: string): Promise<Sidecar | undefined> {
    return await readSidecar(this.#sidecarPath(digest));
  }

  async digests(): Promise<string[]> {
    return (await readdir(this.root)).flatMap((name) => {
      const hex = /^([0-9a-f]{64})\.json$/.exec(name)?.[1];
      return hex === undefined ? [] : [`sha256:${hex}`];
    });
  }

  /** The file of an image at a position; undefined if it is not here. */
  async filePath(digest: string, position: number): Promise<string | undefined> {
    const sidecar = await this.sidecar(digest);
    const name = sidecar?.images[position];
    const path = name === undefined ? undefined : join(this.root, name);
    return path !== undefined && existsSync(path) ? path : undefined;
  }

  /** Puts existing layer images into a job's own directory, so that they are reused. */
  async offerLayers(key: string, diffIds: readonly string[], target: string): Promise<void> {
    const pool = join(this.root, "layers", key);
    const names = await readdir(pool).catch(() => [] as string[]);
    const wanted = diffIds.map((diffId) => diffId.slice(diffId.indexOf(":") + 1));
    for (const name of names) {
      if (!wanted.some((hex) => name.startsWith(hex))) continue;
      await linkOrCopy(join(pool, name), join(target, name));
    }
  }

  /** Removes the least recently used layers until at most `bytesMax` remain. */
  async trimBlobs(bytesMax: number, inUse: ReadonlySet<string>): Promise<void> {
    const directory = join(this.blobDir, "sha256");
    const names = await readdir(directory).catch(() => [] as string[]);
    const files: { path: string; sizeBytes: number; usedMs: number }[] = [];
    for (const name of names) {
      if (!/^[0-9a-f]{64}$/.test(name)) continue;
      const facts = await stat(join(directory, name)).catch(() => undefined);
      if (facts === undefined) continue;
      files.push({ path: join(directory, name), sizeBytes: facts.size, usedMs: facts.mtimeMs });
    }
    let total = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    for (const file of files.sort((a, b) => a.usedMs - b.usedMs)) {
      if (total <= bytesMax) return;
      if (inUse.has(`sha256:${basename(file.path)}`)) continue;
      await rm(file.path, { force: true });
      total -= file.sizeBytes;
    }
  }

  /** Returns which of these registry layers are here, and marks them as used. */
  async presentBlobs(digests: readonly string[]): Promise<Set<string>> {
    const present = new Set<string>();
    const now = new Date();
    for (const digest of digests) {
      const path = join(this.blobDir, "sha256", digest.slice("sha256:".length));
      const isThere = await utimes(path, now, now).then(() => true, () => false);
      if (isThere) present.add(digest);
    }
    return present;
  }

  #sidecarPath(digest: string): string {
    return join(this.root, `${digest.slice("sha256:".length)}.json`);
  }

  #use({ files, record }: Sidecar): void {
    for (const file of files) {
      const users = this.#users.get(file) ?? new Set();
      this.#users.set(file, users.add(record.digest));
    }
  }

  async #sweep(): Promise<void> {
    await killLeftovers(this.workDir);
    await rm(this.workDir, { recursive: true, force: true });
    await rm(join(this.root, ".serve", "restored"), { recursive: true, force: true });
    await mkdir(this.workDir, { recursive: true });
    for (const name of await readdir(join(this.blobDir, "sha256")).catch(() => [] as string[])) {
      if (name.includes(".part-")) await rm(join(this.blobDir, "sha256", name), { force: true });
    }
    await this.#sweepImages();
    await this.#sweepLayers();
  }

  /** Removes images without a sidecar, and sidecars with a missing file. */
  async #sweepImages(): Promise<void> {
    for (const name of await readdir(this.root)) {
      const path = join(this.root, name);
      if (/^[0-9a-f]{64}\.ext4$/.test(name)) {
        if (!existsSync(path.replace(/ext4$/, "json"))) await rm(path);
      } else if (/^[0-9a-f]{64}\.json$/.test(name)) {
        const sidecar = await readSidecar(path);
        const isWhole = sidecar?.files.every((file) => existsSync(join(this.root, file))) ?? false;
        if (isWhole) this.#use(sidecar!);
        else await rm(path);
      }
    }
  }

  /** Removes layer images that belong to no image. */
  async #sweepLayers(): Promise<void> {
    for (const key of await readdir(join(this.root, "layers"))) {
      for (const name of await readdir(join(this.root, "layers", key))) {
        const file = `layers/${key}/${name}`;
        if (!this.#users.has(file)) await rm(join(this.root, file), { force: true });
      }
    }
  }
}

async function readSidecar(path: string): Promise<Sidecar | undefined> {
  try {
    return v.parse(SidecarSchema, JSON.parse(await readFile(path, "utf8")));
  } catch {
    return undefined;
  }
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch {
    await copyFile(from, to, constants.COPYFILE_FICLONE);
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, "w");
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A new name is only durable once its directory has been synced. */
async function syncDirectory(path: string): Promise<void> {
  try {
    await syncFile(path);
  } catch (error) {
    // Windows cannot open directories.
    if (process.platform !== "win32") throw error;
  }
}

const LEFTOVER_WAIT_MS = 5000;

/** Kills the job processes of a server that was killed. They do no harm, but their output would never be removed. */
async function killLeftovers(workDir: string): Promise<void> {
  if (process.platform !== "linux") return;
  const untilMs = Date.now() + LEFTOVER_WAIT_MS;
  for (;;) {
    const pids = leftoversOf(workDir);
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has already exited.
      }
    }
    if (pids.length === 0 || Date.now() > untilMs) return;
    await delay(20);
  }
}

function leftoversOf(workDir: string): number[] {
  const mark = `\0${JOB_MARK}=${workDir}/`;
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)
    .filter((pid) => pid !== process.pid)
    .filter((pid) => `\0${readIfThere(`/proc/${pid}/environ`)}`.includes(mark));
}

const TRIES_MAX = 10;

/**
 * Takes a lock for this process. The lock of a process that was killed is ignored.
 *
 * @param what what is locked, for the error
 * @returns a function that releases the lock
 * @throws {UsageError} when another process holds it
 */
export function takeLock(path: string, what: string): () => void {
  const mine = `${process.pid} ${startOf(process.pid) ?? "?"}\n`;
  for (let tries = 1;; tries++) {
    try {
      writeFileSync(path, mine, { flag: "wx" });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as { code?: string }).code !== "EEXIST" || tries === TRIES_MAX) throw error;
    }
    const [pid = "", start = ""] = readIfThere(path).trim().split(" ");
    if (pid !== "" && isAlive(Number(pid), start)) {
      throw new UsageError(what, `is in use by another server, process ${pid}`, {
        hint: "give each server its own",
      });
    }
    rmSync(path, { force: true });
  }
}

/** The content of a small file; empty if it cannot be read. */
export function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** When a process started, in clock ticks, because its number may have been reused. proc(5), field 22. */
function startOf(pid: number): string | undefined {
  const text = readIfThere(`/proc/${pid}/stat`);
  return text === "" ? undefined : text.slice(text.lastIndexOf(")") + 2).split(" ")[19];
}

function isAlive(pid: number, start: string): boolean {
  if (process.platform === "linux") return startOf(pid) === start;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}
