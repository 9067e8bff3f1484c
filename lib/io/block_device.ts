/**
 * Block devices as outputs: their size, whether they are in use, and how they are claimed and zeroed.
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

/** Makes a path relative to the working directory (openat(2)). */
const AT_FDCWD = -100;
/** Child processes do not inherit the descriptor. */
const O_CLOEXEC = 0o2000000;

/**
 * The start of a device, which is cleared before any other change and written last: superblocks and partition tables are
 * there, so nothing mounts meanwhile. A first partition begins at 1 MiB; its superblock is included.
 */
export const DEVICE_HEAD_BYTES: number = 2 << 20;
/** The part of the head written last: a superblock, or an MBR and the GPT header. */
export const DEVICE_FIRST_BYTES = 4096;

/** Whether a path leads to a block device. */
export function isBlockDevice(path: string): boolean {
  return path !== "" && statIfThere(path)?.isBlockDevice() === true;
}

/** The facts about a block device before it is written. */
export interface DeviceFacts {
  readonly sizeBytes: number;
  /** The size of a logical sector, the unit of partition tables. */
  readonly sectorBytes: number;
}

/**
 * Reads the facts of a block device.
 *
 * @throws {IoError} if it cannot be opened
 */
export function deviceFacts(path: string): DeviceFacts {
  const reader = openFileReader(path);
  const { sizeBytes } = reader;
  reader.close();
  return { sizeBytes, sectorBytes: queueNumber(path, "logical_block_size") ?? 512 };
}

/** Throws an InputError if the device is smaller than `neededBytes`. */
export function checkRoom(path: string, deviceBytes: number, neededBytes: number): void {
  if (neededBytes <= deviceBytes) return;
  const shown = displayPath(path);
  throw new InputError(shown, `has ${deviceBytes} bytes: the image needs ${neededBytes}`, {
    code: "doesNotFit",
    data: { path: shown, expected: neededBytes, actual: deviceBytes },
  });
}

/** A device that nothing else can mount or claim. */
export interface ClaimedDevice {
  /** Open for reading and writing; the owner must close it. */
  readonly descriptor: number;
  /** Releases the claim. Call it after closing the descriptor. */
  release(): void;
}

/**
 * Opens a block device for writing so that nothing else can mount it, swap on it or make it part of another device
 * (open(2): O_EXCL without O_CREAT).
 *
 * @throws {IoError} if it is in use, or cannot be opened or claimed
 */
export function claimDevice(path: string): ClaimedDevice {
  const use = deviceUse(path);
  if (use !== undefined) throw busyError(path, use);
  if (isReadOnly(path)) {
    throw new IoError(displayPath(path), "is read-only", { code: "permissionDenied" });
  }
  try {
    // Only Linux uses it to claim devices.
    const flags = platform === "linux" ? constants.O_EXCL : 0;
    return { descriptor: openSync(path, constants.O_RDWR | flags), release: () => {} };
  } catch (cause) {
    const code = systemErrorFacts(cause)?.code;
    if (code === "EBUSY") throw busyError(path, "is in use");
    // Deno turns this into O_CREAT | O_EXCL, which fails for any existing file.
    if (code !== "EEXIST") throw ioErrorFrom(path, "cannot be opened for writing", cause);
  }
  return claimBySystemCall(path);
}

/** Opens a device a second time, because Deno's node:fs accepts only descriptors it opened itself. */
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

/** How a device or one of its partitions is used, such as `is mounted on /srv`; undefined if no use is known. */
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
  /** Such as `8:1`. */
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

/** The number in the kernel's notation, `8:1`. In stat(2), the parts are interleaved (makedev(3)). */
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

/** A number from a device's queue (kernel documentation, ABI/stable/sysfs-block); undefined if it is missing. */
function queueNumber(path: string, name: string): number | undefined {
  const directory = sysDirectory(deviceNumber(statSync(path).rdev));
  if (directory === undefined) return undefined;
  // A partition shares the queue of its disk.
  const text = textOf(join(directory, "queue", name)) ?? textOf(join(directory, "../queue", name));
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

/** proc(5), /proc/pid/mountinfo: the third field is the device number, the fifth the mount point. */
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

/** A child process that outlives this one zeroes at most this much, too quickly for the device to be reused meanwhile. */
const ZEROED_AT_ONCE_BYTES = 2 ** 30;

/**
 * Makes a device zero its bytes from the start to `endBytes` without writing them, if it can. The kernel punches holes only
 * in devices that then read as zeros, and refuses on all others (fallocate(2), FALLOC_FL_PUNCH_HOLE); this uses the
 * fallocate program of util-linux.
 *
 * @param endBytes a multiple of 4096
 * @param signal aborting it stops the work
 * @returns whether the bytes are now zeros
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

/** Asks the kernel to reread a device's partition table. Failure is ignored: many devices have none. */
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
