/**
 * The file system identity of one thread.
 *
 * @module
 */
import { checked, libc } from "./libc_calls.ts";

const SETGROUPS_CALL = Deno.build.arch === "aarch64" ? 159n : 116n;

/** Whether this process is root. */
export function isRoot(): boolean {
  return Deno.build.os === "linux" && libc().geteuid() === 0;
}

/**
 * Runs `work` with the file access rights of a user who is in no group but their own. Only this thread changes, and
 * only what the kernel checks for files (setfsuid(2) also drops the capabilities to override permissions), so `work`
 * must not wait for anything.
 */
export function asUser<T>(uid: number, gid: number, work: () => T): T {
  const { getgroups, syscall, setfsuid, setfsgid } = libc();
  const groups = new Uint32Array(checked(() => getgroups(0, null), "getgroups", ""));
  checked(() => getgroups(groups.length, groups), "getgroups", "");
  const setGroups = (list: Uint32Array<ArrayBuffer>) =>
    checked(() => syscall(SETGROUPS_CALL, BigInt(list.length), list), "setgroups", "");
  try {
    setGroups(new Uint32Array(0));
    setfsgid(gid);
    setfsuid(uid);
    // Each call returns the value before it; asking for an impossible one changes nothing.
    if (setfsuid(0xffffffff) !== uid) throw new Error(`setfsuid: cannot become user ${uid}`);
    return work();
  } finally {
    setfsuid(0);
    setfsgid(0);
    setGroups(groups);
  }
}
