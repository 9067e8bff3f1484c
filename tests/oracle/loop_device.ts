/**
 * Files as block devices.
 *
 * @module
 */
import { mustRun } from "./command.ts";
import { kernelOrNotice } from "./kernel.ts";

/**
 * Attaches a file to a loop device, read-only, works on it, and detaches it. Where that cannot be done, prints the line
 * that says so.
 *
 * @param what the part of the test that would not run
 * @returns whether the work was done
 */
export function withLoopDevice(file: string, what: string, work: (device: string) => void): boolean;
export function withLoopDevice(
  file: string,
  what: string,
  work: (device: string) => Promise<void>,
): Promise<boolean>;
export function withLoopDevice(
  file: string,
  what: string,
  work: (device: string) => void | Promise<void>,
): boolean | Promise<boolean> {
  return attached(["--read-only", file], what, work);
}

/** The same, attached so that it can be written to. */
export async function withWritableLoopDevice(
  file: string,
  what: string,
  work: (device: string) => Promise<void>,
): Promise<boolean> {
  return await attached([file], what, work);
}

function attached(
  words: readonly string[],
  what: string,
  work: (device: string) => void | Promise<void>,
): boolean | Promise<boolean> {
  if (!kernelOrNotice(what)) return false;
  const device = mustRun("losetup", ["--find", "--show", ...words]).trim();
  const detach = () => void mustRun("losetup", ["--detach", device]);
  let result;
  try {
    result = work(device);
  } catch (error) {
    detach();
    throw error;
  }
  if (result instanceof Promise) return result.finally(detach).then(() => true);
  detach();
  return true;
}
