/**
 * Whether a file is attached to a loop device, which is how images are mounted.
 *
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * The loop device that a file is attached to, such as `/dev/loop0`; undefined when it is not, or the system does not
 * tell. A file that another name space attached under another name is not found.
 *
 * @param realPath of the file, without symbolic links
 * @param sysBlock where the kernel lists block devices
 */
export function loopDeviceOf(realPath: string, sysBlock = "/sys/block"): string | undefined {
  let names: string[];
  try {
    names = readdirSync(sysBlock).filter((name) => /^loop\d+$/.test(name)).sort();
  } catch {
    return undefined;
  }
  return names.map((name) => [name, backingFile(join(sysBlock, name))])
    .filter(([, file]) => file === realPath)
    .map(([name]) => `/dev/${name}`)[0];
}

function backingFile(device: string): string | undefined {
  try {
    return readFileSync(join(device, "loop/backing_file"), "utf8").replace(/\n$/, "");
  } catch {
    return undefined;
  }
}
