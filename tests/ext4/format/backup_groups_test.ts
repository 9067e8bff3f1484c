import { assertEquals } from "@std/assert";
import {
  groupHasSuperblock,
  isSparseBackupGroup,
} from "../../../lib/ext4/format/group_descriptor.ts";

type Words = Parameters<typeof groupHasSuperblock>[0];

function wordsOf(words: Partial<Words> = {}): Words {
  return { featureCompat: 0, featureRoCompat: 0, backupGroups: [0, 0], ...words };
}

Deno.test("isSparseBackupGroup is true of 1 and of the powers of 3, 5 and 7, however large", () => {
  for (const group of [1, 3, 5, 7, 49, 343, 3 ** 19, 5 ** 13, 7 ** 11]) {
    assertEquals(isSparseBackupGroup(group), true, `${group}`);
  }
  for (const group of [0, 2, 15, 21, 35, 3 ** 19 + 1, 5 ** 13 - 1]) {
    assertEquals(isSparseBackupGroup(group), false, `${group}`);
  }
});

Deno.test("groupHasSuperblock knows all three ways of keeping backups", () => {
  const groupsOf = (superblock: Words): number[] =>
    Array.from({ length: 60 }, (_, group) => group)
      .filter((group) => groupHasSuperblock(superblock, group));
  assertEquals(groupsOf(wordsOf()).length, 60);
  const sparse = wordsOf({ featureRoCompat: 0x1 });
  assertEquals(groupsOf(sparse), [0, 1, 3, 5, 7, 9, 25, 27, 49]);
  const sparse2 = wordsOf({ featureCompat: 0x200, backupGroups: [1, 40] });
  assertEquals(groupsOf(sparse2), [0, 1, 40]);
});
