/**
 * The second oracle: the kernel itself. Images are mounted through loop devices and always unmounted again.
 *
 * @module
 */
import { mustRun, runCommand, withTemporaryDirectory } from "./command.ts";
import { isRoot } from "./libc_user.ts";
import { notRun } from "./notice.ts";

/** Set to 1: a kernel that cannot mount makes tests fail instead of leaving their kernel part out. */
const MANDATORY_VARIABLE = "EXT4_MOUNT_TEST";
const UNMOUNT_TRIES = 2400;
const UNMOUNT_PAUSE_MS = 50;

let cachedReason: { readonly reason: string | undefined } | undefined;

/** Why the kernel part of tests cannot run here; undefined when it can. Found out by mounting a tiny image. */
export function kernelUnavailable(): string | undefined {
  cachedReason ??= { reason: tryKernel() };
  return cachedReason.reason;
}

/**
 * Whether the kernel part of a test is to run. Where it cannot, prints the one line that says so, or throws under
 * `EXT4_MOUNT_TEST=1`.
 *
 * @param what the part that would not run
 */
export function kernelOrNotice(what: string): boolean {
  const reason = kernelUnavailable();
  if (reason === undefined) return true;
  if (Deno.env.get(MANDATORY_VARIABLE) === "1") {
    throw new Error(`${MANDATORY_VARIABLE}=1, but the kernel cannot mount images here: ${reason}`);
  }
  notRun(what, reason);
  return false;
}

function tryKernel(): string | undefined {
  if (!isRoot()) return "mounting needs root";
  return withTemporaryDirectory((directory) => {
    const image = `${directory}/probe.ext4`;
    mustRun("mke2fs", ["-q", "-t", "ext4", "-O", "metadata_csum,64bit", image, "1M"]);
    try {
      mountReadOnly(image, () => undefined);
      return undefined;
    } catch (error) {
      return (error as Error).message.trim().split("\n").at(-1)!;
    }
  });
}

/** Mounts an image read-only, works on the mount point, and unmounts. */
export function mountReadOnly<T>(image: string, work: (mountPoint: string) => T): T {
  return withMount(image, "loop,ro,nodev,nosuid", work);
}

/** Mounts an image read-write, works on the mount point, and unmounts. */
export function mountReadWrite<T>(image: string, work: (mountPoint: string) => T): T {
  return withMount(image, "loop,rw,nodev,nosuid", work);
}

function withMount<T>(image: string, options: string, work: (mountPoint: string) => T): T {
  return withTemporaryDirectory((mountPoint) => {
    mustRun("mount", ["-t", "ext4", "-o", options, image, mountPoint]);
    let result: T;
    try {
      result = work(mountPoint);
    } catch (error) {
      // What went wrong in the work matters more, and may be what keeps the mount busy.
      try {
        unmount(mountPoint);
      } catch {
        throw error;
      }
      throw error;
    }
    if (result instanceof Promise) return result.finally(() => unmount(mountPoint)) as T;
    unmount(mountPoint);
    return result;
  });
}

/**
 * Unmounts. A mount can be busy for a moment: something else on the machine looks into it, or another thread of this
 * process is between fork and exec of a program, with copies of all open files. So it is tried again for a while.
 */
export function unmount(mountPoint: string): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  let last = "";
  for (let i = 0; i < UNMOUNT_TRIES; i++) {
    const { status, stderr } = runCommand("umount", [mountPoint]);
    if (status === 0) return;
    last = stderr;
    Atomics.wait(pause, 0, 0, UNMOUNT_PAUSE_MS);
  }
  // Never leave a mount behind: detach it, and say so.
  runCommand("umount", ["-l", mountPoint]);
  throw new Error(`umount ${mountPoint}: still busy, so it was detached: ${last.trim()}`);
}
