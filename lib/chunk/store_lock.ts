/**
 * Prevents writing to a store and pruning it at the same time. A chunk that a writer finds in the store is in no index
 * until the run has ended, so it must not be pruned meanwhile.
 *
 * Each run first leaves a mark in the store and then looks for other marks, so of two runs that start together, at
 * least one sees the other. Several runs may write at a time; a prune runs alone. A mark left by a crash is removed by
 * the next run under the same kernel; elsewhere it counts until it is older than the grace period, by the store's
 * clock.
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

type StoreUse = "write" | "prune";

/** A mark in a store. */
export interface StoreLock {
  /** The store's time when the mark was made, in milliseconds since 1970. */
  readonly nowMs: number;
  /** Removes the mark. Never fails: a mark that stays expires. */
  release(): Promise<void>;
}

interface StoreLockOptions {
  /** Marks older than this are ignored. */
  readonly graceMs: number;
  readonly signal?: AbortSignal | undefined;
  /** The pause between checks while a writer waits for a prune; for tests. */
  readonly pauseMs?: number | undefined;
  /** Called once when a writer waits, with the path of the mark that it waits for. */
  readonly onWait?: ((path: string) => void) | undefined;
}

/** A day: longer than a run takes. */
export const GRACE_MS_DEFAULT = 24 * 3600 * 1000;
const PAUSE_MS = 2000;
/** The time limit for removing a mark. */
const RELEASE_MS = 10_000;
const NAME_TRIES = 10_000;

let lockCount = 0;

/**
 * Leaves a mark, then waits or fails while another mark forbids the use: a writer waits for a prune, but a prune does
 * not wait for writers, since there may be many.
 *
 * @throws {IoError} when the store is to be pruned, but is being written to or pruned
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
      // If a server does not list the new mark at once, the newest listed mark gives the time.
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

/** The name identifies this machine and process and is numbered, so it needs no randomness. */
async function leaveMark(store: ChunkStore, use: StoreUse): Promise<string> {
  for (let tries = 0; tries < NAME_TRIES; tries++) {
    const path = `${LOCK_FOLDER}/${use}-${kernelPlace()}-${process.pid}-${++lockCount}`;
    if (await store.mark(path)) return path;
  }
  throw lockFault(store, "there is no free name for a mark", LOCK_FOLDER);
}

/** Whether a mark belongs to a process of this kernel that no longer runs. */
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
 * Identifies where a PID is valid: a host and, since containers have their own PIDs, a PID namespace
 * (pid_namespaces(7)).
 */
export function processPlace(): string {
  if (ownPlace !== undefined) return ownPlace;
  const host = hostname().replace(/[^A-Za-z0-9.]/g, "_").slice(0, 64);
  const namespace = textIfThere(() => readlinkSync("/proc/self/ns/pid"));
  return ownPlace = `${host}.${namespace.replace(/\D/g, "")}`;
}

/**
 * Like `processPlace`, for stores shared between hosts, which may have equal names: adds the boot ID of the kernel
 * (random(4)). Ends with a dot if the system has no boot ID; whether a process still runs is then unknown.
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

/** Whether a process with that PID exists. */
export function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // A process of another user exists even if it may not be signalled.
    return systemErrorFacts(error)?.code !== "ESRCH";
  }
}
