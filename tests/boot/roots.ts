/**
 * The root that machines are booted from.
 *
 * @module
 */
import { env } from "node:process";
import { hasCommand, runCommand } from "../oracle/command.ts";

/** Names a tar to use in place of one that mmdebstrap makes, which takes minutes and a mirror of Debian's. */
const READY_ROOT = "BLESSFS_BOOT_ROOT";

/**
 * Makes a tar of Debian with systemd as docs/VM.md does.
 *
 * @returns undefined when it is there, or why it cannot be made
 */
export function makeSystemdRoot(path: string): string | undefined {
  const ready = env[READY_ROOT];
  if (ready !== undefined) {
    const { status, stderr } = runCommand("cp", [ready, path]);
    return status === 0 ? undefined : stderr;
  }
  if (!hasCommand("mmdebstrap")) return "mmdebstrap is not installed";
  const packages = "systemd-sysv,udev,dbus,kmod,iproute2";
  const words = ["--variant=minbase", `--include=${packages}`, "bookworm", path];
  const { status, stderr } = runCommand("mmdebstrap", words);
  return status === 0 ? undefined : `mmdebstrap failed: ${stderr.slice(-500)}`;
}
