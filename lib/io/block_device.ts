/**
 * Block devices as outputs: how large they are, whether something uses them, how they are claimed and zeroed.
 *
 * @module
 */
import { spawn } from "node:child_process";
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { platform } from "node:process";
import { InputError, IoError, throwIfAborted } from "../errors.ts";
import { statIfThere } from "./paths.ts";
import { openFileReader } from "./random_reader.ts";
import { systemCalls } from "./system_calls.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "./system_error.ts";

/** A path is relative to the working directory (openat(2)). */
const AT_FDCWD = -100;
/** Programs that are started do not inherit it. */
const O_CLOEXEC = 0o2000000;

/**
 * Of a device, what is cleared before anything else is changed and written after everything else: superblocks and partition
 * tables lie there, so nothing mounts meanwhile. A first partition begins at 1 MiB; its superblock is in it as well.
 */
export const DEVICE_HEAD_BYTES: number = 2 << 20;
/** Of the head, what comes last: a superblock, or an MBR and the header of a GPT. */
export const DEVICE_FIRST_BYTES = 4096;

/** Whether a path leads to a block device. */
export function isBlockDevice(path: string): boolean {
  return path !== "" && statIfThere(path)?.isBlockDevice() === true;
}

/** What is known of a block device before it is written to. */
export interface DeviceFacts {
  readonly sizeBytes: number;
  /** Of a logical sector: what the sectors of a partition table count. */
  readonly sectorBytes: number;
}

/**
 * Looks at a block device.
 *
 * @throws {IoError} when it cannot be opened
 */
export function deviceFacts(path: string): DeviceFacts {
  const reader = openFileReader(path);
  const { sizeBytes } = reader;
  reader.close();
  return { sizeBytes, sectorBytes: queueNumber(path, "logical_block_size") ?? 512 };
}

/** Throws an InputError for a device that has not so many bytes. */
export function checkRoom(path: string, deviceBytes: number, neededBytes: number): void {
  if (neededBytes <= deviceBytes) return;
  const shown = displayPath(path);
  throw new InputError(shown, `has ${deviceBytes} bytes: the image needs ${neededBytes}`, {
    code: "doesNotFit",
    data: { path: shown, expected: neededBytes, actual: deviceBytes },
  });
}

/** A device that nobody else can mount or claim. */
export interface ClaimedDevice {
  /** For reading and writing; whoever has it closes it. */
  readonly descriptor: number;
  /** Gives the claim back. To be called once the descriptor is closed. */
  release(): void;
}

/**
 * Opens a block device for writing so that nobody else can mount it, swap on it or make a part of another device of it
 * (open(2): O_EXCL without O_CREAT).
 *
 * @throws {IoError} when it is in use, or cannot be opened or claimed
 */
export function claimDevice(path: string): ClaimedDevice {
  const use = deviceUse(path);
  if (use !== undefined) throw busyError(path, use);
  if (isReadOnly(path)) {
    throw new IoError(displayPath(path), "is read-only", { code: "permissionDenied" });
  }
  try {
    // Only Linux claims devices by it.
    const flags = platform === "linux" ? constants.O_EXCL : 0;
    return { descriptor: openSync(path, constants.O_RDWR | flags), release: () => {} };
  } catch (cause) {
    const code = systemErrorFacts(cause)?.code;
    if (code === "EBUSY") throw busyError(path, "is in use");
    // Deno makes O_CREAT | O_EXCL of it, which no file that exists can be opened with.
    if (code !== "EEXIST") throw ioErrorFrom(path, "cannot be opened for writing", cause);
  }
  return claimBySystemCall(path);
}

/** Opens a device a second time, for node:fs of Deno takes only descriptors that it opened itself. */
function claimBySystemCall(path: string): ClaimedDevice {
  const calls = systemCalls();
  if (calls === undefined) {
    throw new IoError(
      displayPath(path),
      "cannot be claimed: Deno alone does not open with O_EXCL",
      {
        code: "permissionDenied",
        hint: "allow the interface to foreign functions (--allow-ffi), or use the built program",
      },
    );
  }
  let descriptor: number;
  try {
    descriptor = openSync(path, "r+");
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened for writing", cause);
  }
  const name = new TextEncoder().encode(`${path}\0`);
  const claim = calls.openat(AT_FDCWD, name, constants.O_RDWR | constants.O_EXCL | O_CLOEXEC);
  if (claim >= 0) return { descriptor, release: () => void calls.close(claim) };
  closeSync(descriptor);
  throw busyError(path, "is in use");
}

function isReadOnly(path: string): boolean {
  const directory = sysDirectory(deviceNumber(statSync(path).rdev));
  return directory !== undefined && textOf(join(directory, "ro")) === "1";
}

function busyError(path: string, use: string): IoError {
  const shown = displayPath(path);
  return new IoError(shown, `${use}: an image would destroy what is on it`, {
    code: "inUse",
    hint: "unmount it, or stop what uses it",
    data: { path: shown, code: "EBUSY" },
  });
}

/** What uses a device or a partition of it, such as `is mounted on /srv`; undefined when nothing is known to. */
function deviceUse(path: string): string | undefined {
  const { rdev } = statSync(path);
  const own = deviceNumber(rdev);
  const directory = sysDirectory(own);
  const parts = directory === undefined ? [] : partitionsIn(directory);
  for (
    const { number, sysPath, name } of [
      { number: own, sysPath: directory, name: undefined },
      ...parts,
    ]
  ) {
    const what = name === undefined ? "" : `has a partition ${name} that `;
    const mounted = mountPointOf(number);
    if (mounted !== undefined) return `${what}is mounted on ${displayPath(mounted)}`;
    if (isSwap(number)) return `${what}is used as swap space`;
    const [holder] = sysPath === undefined ? [] : namesIn(join(sysPath, "holders"));
    if (holder !== undefined) return `${what}is a part of /dev/${holder}`;
  }
  return undefined;
}

interface Partition {
  /** As `8:1`. */
  readonly number: string;
  readonly sysPath: string;
  readonly name: string;
}

function partitionsIn(directory: string): Partition[] {
  return namesIn(directory).flatMap((name) => {
    const sysPath = join(directory, name);
    const number = textOf(join(sysPath, "dev"));
    const isPartition = number !== undefined && textOf(join(sysPath, "partition")) !== undefined;
    return isPartition ? [{ number, sysPath, name }] : [];
  });
}

/** As the kernel writes it, `8:1`. The number of stat(2) has the parts interleaved (makedev(3)). */
function deviceNumber(rdev: number): string {
  const bits = BigInt(rdev);
  const major = ((bits >> 8n) & 0xfffn) | ((bits >> 32n) & ~0xfffn);
  const minor = (bits & 0xffn) | ((bits >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

function sysDirectory(number: string): string | undefined {
  try {
    return realpathSync.native(`/sys/dev/block/${number}`);
  } catch {
    return undefined;
  }
}

/** A number that the queue of a device tells (kernel documentation, ABI/stable/sysfs-block); undefined without it. */
function queueNumber(path: string, name: string): number | undefined {
  const directory = sysDirectory(deviceNumber(statSync(path).rdev));
  if (directory === undefined) return undefined;
  // A partition shares the queue of its disk.
  const text = textOf(join(directory, "queue", name)) ?? textOf(join(directory, "../queue", name));
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

/** proc(5), /proc/pid/mountinfo: the third field is the number of the device, the fifth the mount point. */
function mountPointOf(number: string): string | undefined {
  for (const line of (textOf("/proc/self/mountinfo") ?? "").split("\n")) {
    const fields = line.split(" ");
    if (fields[2] !== number) continue;
    return fields[4]!.replace(
      /\\([0-7]{3})/g,
      (_, octal) => String.fromCharCode(parseInt(octal, 8)),
    );
  }
  return undefined;
}

function isSwap(number: string): boolean {
  const lines = (textOf("/proc/swaps") ?? "").split("\n").slice(1);
  return lines.some((line) => {
    const path = line.split(/\s/)[0]!;
    try {
      const stats = statSync(path);
      return stats.isBlockDevice() && deviceNumber(stats.rdev) === number;
    } catch {
      return false;
    }
  });
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** A process that outlives this one zeroes no more than this, which takes no time that anybody could use the device in. */
const ZEROED_AT_ONCE_BYTES = 2 ** 30;

/**
 * Lets a device make the bytes from its start to `endBytes` zeros without writing them, where it can. The kernel punches
 * holes only into devices that read zeros then, and refuses all others (fallocate(2), FALLOC_FL_PUNCH_HOLE); the program
 * fallocate of util-linux asks it to.
 *
 * @param endBytes a multiple of 4096
 * @param signal ends the work
 * @returns whether they are zeros now
 */
export async function zeroByDevice(
  path: string,
  endBytes: number,
  signal?: AbortSignal,
): Promise<boolean> {
  if (endBytes === 0 || !((queueNumber(path, "write_zeroes_max_bytes") ?? 0) > 0)) return false;
  for (let at = 0; at < endBytes; at += ZEROED_AT_ONCE_BYTES) {
    throwIfAborted(signal);
    const lengthBytes = Math.min(ZEROED_AT_ONCE_BYTES, endBytes - at);
    const words = ["--punch-hole", `--offset=${at}`, `--length=${lengthBytes}`, path];
    if (!await runQuietly("fallocate", words)) return false;
  }
  return true;
}

/** Asks the kernel to read the partition table of a device again. That it cannot is no failure: many have none. */
export async function rereadPartitions(path: string): Promise<void> {
  await runQuietly("blockdev", ["--rereadpt", path]);
}

async function runQuietly(program: string, words: readonly string[]): Promise<boolean> {
  const child = spawn(program, words, { stdio: "ignore" });
  return await new Promise((resolve) => {
    child.on("error", () => resolve(false));
    child.on("close", (code) => resolve(code === 0));
  });
}
