/**
 * Keeps writing to a store and pruning it apart. A chunk that a writer finds in the store is in no index
 * until its run has ended, so it must not be pruned meanwhile.
 *
 * Each run leaves a mark in the store first and looks for other marks then, so of two that begin at once at least one sees
 * the other. Several may write at a time; a prune runs alone. A mark that a crash left behind is removed by the
 * next run under the same kernel; elsewhere it counts until it is older than the grace period, by the clock of the store.
 *
 * @module
 */
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { basename } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { IoError, throwIfAborted } from "../errors.ts";
import { systemErrorFacts } from "../io/system_error.ts";
import { type ChunkStore, LOCK_FOLDER, type StoredObject } from "./chunk.ts";

/** What is done to a store. */
type StoreUse = "write" | "prune";

/** A mark that was left. */
export interface StoreLock {
  /** The store's time when the mark was left, milliseconds since 1970. */
  readonly nowMs: number;
  /** Takes the mark away. Never fails: a mark that stays ages. */
  release(): Promise<void>;
}

/** How other marks are treated. */
interface StoreLockOptions {
  /** Marks older than this count no longer. */
  readonly graceMs: number;
  readonly signal?: AbortSignal | undefined;
  /** The pause between looks while a writer waits for a prune; for tests. */
  readonly pauseMs?: number | undefined;
  /** Called once when a writer waits, with the mark that it waits for. */
  readonly onWait?: ((path: string) => void) | undefined;
}

/** A day: longer than a run takes. */
export const GRACE_MS_DEFAULT = 24 * 3600 * 1000;
const PAUSE_MS = 2000;
/** How long the removal of a mark may take. */
const RELEASE_MS = 10_000;
const NAME_TRIES = 10_000;

let lockCount = 0;

/**
 * Leaves a mark, and waits or fails while another mark forbids the use: a writer waits for a prune; a prune does not wait for
 * writers, which may be many.
 *
 * @throws {IoError} when a store that is to be pruned is being written to or pruned
 */
export async function lockStore(
  store: ChunkStore,
  use: StoreUse,
  options: StoreLockOptions,
): Promise<StoreLock> {
  const { graceMs, signal, pauseMs = PAUSE_MS } = options;
  let { onWait } = options;
  const own = await leaveMark(store, use);
  const release = () => store.remove(own, AbortSignal.timeout(RELEASE_MS)).catch(() => {});
  try {
    for (;;) {
      throwIfAborted(signal);
      const marks = await marksIn(store, signal);
      const ownMs = marks.find(({ path }) => path === own)?.storedMs;
      // To a server that does not list at once what was stored, nothing is old.
      const nowMs = ownMs ?? Math.max(0, ...marks.map(({ storedMs }) => storedMs));
      if (ownMs === undefined && use === "prune") {
        throw lockFault(store, "does not list what was just stored in it", own);
      }
      const others: StoredObject[] = [];
      for (const mark of marks) {
        if (mark.path === own) continue;
        if (isLeftOver(mark)) await store.remove(mark.path, signal);
        else if (nowMs - mark.storedMs < graceMs) others.push(mark);
      }
      const pruner = others.find(({ path }) => path.startsWith(`${LOCK_FOLDER}/prune`));
      if (use === "prune" && others.length > 0) {
        const what = pruner === undefined ? "is being written to" : "is being pruned already";
        throw lockFault(store, what, others[0]!.path);
      }
      if (pruner === undefined) return { nowMs, release };
      onWait?.(pruner.path);
      onWait = undefined;
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
  } catch (error) {
    await release();
    throw error;
  }
}

/** The name is of this machine and process, and numbered, so that it needs no chance. */
async function leaveMark(store: ChunkStore, use: StoreUse): Promise<string> {
  for (let tries = 0; tries < NAME_TRIES; tries++) {
    const path = `${LOCK_FOLDER}/${use}-${kernelPlace()}-${process.pid}-${++lockCount}`;
    if (await store.mark(path)) return path;
  }
  throw lockFault(store, "there is no free name for a mark", LOCK_FOLDER);
}

/** Whether a mark is one of a process under this kernel that is gone. */
function isLeftOver({ path }: StoredObject): boolean {
  const [, place, pid] = basename(path).split("-");
  return place === kernelPlace() && !place.endsWith(".") && pid !== undefined &&
    !isRunning(Number(pid));
}

async function marksIn(
  store: ChunkStore,
  signal: AbortSignal | undefined,
): Promise<StoredObject[]> {
  const marks: StoredObject[] = [];
  for await (const mark of store.list(LOCK_FOLDER, signal)) marks.push(mark);
  return marks;
}

function lockFault(store: ChunkStore, why: string, path: string): IoError {
  return new IoError(store.name, `${why} (${path})`, {
    hint: "try again when it has ended; remove that object if it is left over from a crash",
    data: { path },
  });
}

let ownPlace: string | undefined;
let ownKernel: string | undefined;

/**
 * Where the number of a process means that process: a host and, as containers have their own numbers, a namespace
 * (pid_namespaces(7)).
 */
export function processPlace(): string {
  if (ownPlace !== undefined) return ownPlace;
  const host = hostname().replace(/[^A-Za-z0-9.]/g, "_").slice(0, 64);
  const namespace = textIfThere(() => readlinkSync("/proc/self/ns/pid"));
  return ownPlace = `${host}.${namespace.replace(/\D/g, "")}`;
}

/**
 * The same for a store that other hosts reach, of which two may have one name: with what names this boot of the kernel
 * (random(4)). It ends with a dot where the system does not say that; then it cannot be known whether a process still runs.
 */
export function kernelPlace(): string {
  if (ownKernel !== undefined) return ownKernel;
  const boot = textIfThere(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8"));
  return ownKernel = `${processPlace()}.${boot.replace(/[^0-9a-f]/g, "")}`;
}

/** Only Linux has /proc. */
function textIfThere(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

/** Whether there is a process of that number. */
export function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // A process of another user may not be signalled, but is there.
    return systemErrorFacts(error)?.code !== "ESRCH";
  }
}
