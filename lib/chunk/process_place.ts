/**
 * Where a process is, so that what it left in a store can be told from what it still works at.
 *
 * @module
 */
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import process from "node:process";
import { systemErrorFacts } from "../io/system_error.ts";

let ownPlace: string | undefined;
let ownKernel: string | undefined;

/**
 * Where the number of a process means that process: a host and, as containers have their own numbers, a namespace
 * (pid_namespaces(7)).
 */
export function processPlace(): string {
  if (ownPlace !== undefined) return ownPlace;
  let namespace = "";
  try {
    namespace = readlinkSync("/proc/self/ns/pid").replace(/\D/g, "");
  } catch {
    // Systems without namespaces.
  }
  return ownPlace = `${hostname().replace(/[^A-Za-z0-9.]/g, "_").slice(0, 64)}.${namespace}`;
}

/**
 * The same for a store that other hosts reach, of which two may have one name: with what names this boot of the kernel
 * (random(4)). It ends with a dot where the system does not say that; nobody can tell then whether a process is still there.
 */
export function kernelPlace(): string {
  if (ownKernel !== undefined) return ownKernel;
  let boot = "";
  try {
    boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").replace(/[^0-9a-f]/g, "");
  } catch {
    // Only Linux has it.
  }
  return ownKernel = `${processPlace()}.${boot}`;
}

/** Whether there is a process of that number. */
export function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // Somebody else's may not be signalled, but is there.
    return systemErrorFacts(error)?.code !== "ESRCH";
  }
}
