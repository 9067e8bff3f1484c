import { assertEquals } from "@std/assert";
import { groupHasSuperblock, makeGeometry } from "../../../lib/ext4/plan/groups.ts";

Deno.test("groupHasSuperblock is true of 0, 1 and the powers of 3, 5 and 7", () => {
  const groups = Array.from({ length: 400 }, (_, group) => group);
  assertEquals(
    groups.filter((group) => groupHasSuperblock(group, "sparse")),
    [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125, 243, 343],
  );
  assertEquals(groups.filter((group) => groupHasSuperblock(group, "none")), [0]);
});

Deno.test("makeGeometry spreads inodes over groups in whole blocks of their table", () => {
  const options = { wide: true, backups: "sparse" } as const;
  const one = makeGeometry(options, 1, 12);
  assertEquals(one.inodesPerGroup, 16);
  assertEquals(one.inodeTableBlocks, 1);
  assertEquals(one.descriptorBlocks, 1);
  assertEquals(one.reserved, [{ startBlock: 0, blockCount: 2 }]);
  const many = makeGeometry(options, 65, 17);
  assertEquals(many.inodesPerGroup, 32);
  assertEquals(many.descriptorBlocks, 2);
  assertEquals(
    many.reserved.map(({ startBlock }) => startBlock / 32_768),
    [0, 1, 3, 5, 7, 9, 25, 27, 49],
  );
  assertEquals(many.reserved.every(({ blockCount }) => blockCount === 3), true);
});

Deno.test("makeGeometry halves descriptors without 64bit", () => {
  const backups = "none";
  assertEquals(makeGeometry({ backups, wide: true }, 128, 8).descriptorBlocks, 2);
  const narrow = makeGeometry({ backups, wide: false }, 128, 8);
  assertEquals([narrow.descriptorSizeBytes, narrow.descriptorBlocks], [32, 1]);
  assertEquals(narrow.reserved, [{ startBlock: 0, blockCount: 2 }]);
});
