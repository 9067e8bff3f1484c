/**
 * Locks between processes: a file with the number of the process that has it, and when that process began.
 *
 * @module
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { UsageError } from "../lib/errors.ts";

const TRIES_MAX = 10;

/**
 * Takes a lock for this process. That of a process that was killed counts no more.
 *
 * @param what is locked, for the error
 * @returns gives it back
 * @throws {UsageError} when another process has it
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

/** A small file; empty when it cannot be read. */
export function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** When a process began, in ticks: its number may belong to another one by now. proc(5), field 22. */
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
