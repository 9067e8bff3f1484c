/**
 * Which groups begin with a superblock.
 *
 * @module
 */
import { COMPAT, RO_COMPAT } from "./constants.ts";
import type { Superblock } from "./superblock.ts";

/**
 * Whether a group begins with a superblock: the primary one, or a backup. sparse_super2 names the groups with a backup,
 * sparse_super has the rule of isSparseBackupGroup(), and without either every group has one.
 */
export function groupHasSuperblock(
  superblock: Pick<Superblock, "featureCompat" | "featureRoCompat" | "backupGroups">,
  groupIndex: number,
): boolean {
  if (groupIndex === 0) return true;
  if ((superblock.featureCompat & COMPAT.SPARSE_SUPER2) !== 0) {
    return superblock.backupGroups.includes(groupIndex);
  }
  if ((superblock.featureRoCompat & RO_COMPAT.SPARSE_SUPER) === 0) return true;
  return isSparseBackupGroup(groupIndex);
}

/**
 * Whether sparse_super keeps a backup in a group: 1, and the powers of 3, 5 and 7.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { isSparseBackupGroup } from "./backup_groups.ts";
 * const groups = Array.from({ length: 30 }, (_, group) => group);
 * assertEquals(groups.filter(isSparseBackupGroup), [1, 3, 5, 7, 9, 25, 27]);
 * ```
 */
export function isSparseBackupGroup(groupIndex: number): boolean {
  return groupIndex === 1 || [3, 5, 7].some((base) => isPowerOf(base, groupIndex));
}

function isPowerOf(base: number, value: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}
