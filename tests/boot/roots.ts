/**
 * The roots that machines are booted from.
 *
 * @module
 */
import { env } from "node:process";
import { hasCommand, runCommand } from "../oracle/command.ts";

/** A root, and the variable that names a tar of it: making one takes minutes and a mirror of Debian's. */
interface RootKind {
  readonly packages: string;
  readonly variable: string;
}

/** As in docs/VM.md. */
export const SYSTEMD_ROOT: RootKind = {
  packages: "systemd-sysv,udev,dbus,kmod,iproute2",
  variable: "BLESSFS_BOOT_ROOT",
};

/** With what a server has. */
export const SERVER_ROOT: RootKind = {
  packages:
    `${SYSTEMD_ROOT.packages},openssh-server,cron,rsyslog,chrony,nginx,python3,less,vim-tiny,curl`,
  variable: "BLESSFS_BOOT_SERVER_ROOT",
};

/**
 * Makes a tar of Debian with systemd.
 *
 * @returns undefined when it is there, or why it cannot be made
 */
export function makeRoot(path: string, { packages, variable }: RootKind): string | undefined {
  const ready = env[variable];
  if (ready !== undefined) {
    const { status, stderr } = runCommand("cp", [ready, path]);
    return status === 0 ? undefined : stderr;
  }
  if (!hasCommand("mmdebstrap")) return "mmdebstrap is not installed";
  const words = ["--variant=minbase", `--include=${packages}`, "bookworm", path];
  const { status, stderr } = runCommand("mmdebstrap", words);
  return status === 0 ? undefined : `mmdebstrap failed: ${stderr.slice(-500)}`;
}
