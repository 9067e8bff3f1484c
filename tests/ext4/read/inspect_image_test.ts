import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { type ChecksumPair, inspectImage } from "../../../lib/ext4/read/inspect.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { runCommand, withTemporaryDirectory } from "../../oracle/command.ts";
import { unpackFixture } from "../format/fixture_image.ts";

const NAMES = ["csum-4k", "csum-1k", "gdt-csum-1k", "plain-4k", "rare-4k", "kernel", "mmp"];

Deno.test("inspectImage shows right checksums as right, and groups as dumpe2fs does", () => {
  for (const name of NAMES) {
    const bytes = unpackFixture(name);
    const inspection = inspectImage(memoryReader(bytes, name));
    assertEquals(inspection.faults, []);
    const groups = [...inspection.groups()];
    assertEquals(groups.length, inspection.geometry.groupCount);
    const lines = withTemporaryDirectory((scratch) => {
      Deno.writeFileSync(`${scratch}/image`, bytes);
      return runCommand("dumpe2fs", [`${scratch}/image`]).stdout;
    });
    assertChecksums(
      [inspection.checksum],
      [...lines.matchAll(/^Checksum: +0x([0-9a-f]+)$/gm)],
    );
    assertChecksums(
      groups.map(({ checksum }) => checksum),
      [...lines.matchAll(/^Group \d+: \(.*\) csum 0x([0-9a-f]+)/gm)],
    );
    assertChecksums(
      groups.flatMap(({ blockBitmap, inodeBitmap }) => [blockBitmap, inodeBitmap]),
      [...lines.matchAll(/^ +(?:Block|Inode) bitmap at .* csum 0x(?!0{8})([0-9a-f]+)/gm)],
    );
    const theirs = [...lines.matchAll(/(\d+) free blocks, (\d+) free inodes, (\d+) directories/g)];
    assertEquals(
      groups.map((group) =>
        [group.freeBlocksCount, group.freeInodesCount, group.usedDirectoriesCount].join()
      ),
      theirs.map(([, blocks, inodes, directories]) => [blocks, inodes, directories].join()),
    );
    const features = /^Filesystem features: +(.*?) *$/m.exec(lines)![1]!;
    assertEquals(inspection.features.join(" "), features);
    assertEquals(inspection.journal?.blockCount, journalBlocks(lines));
  }
});

/** The bitmap of an unused group has none. Those that there are must be right, and just those that dumpe2fs shows. */
function assertChecksums(
  pairs: readonly (ChecksumPair | undefined)[],
  shown: readonly RegExpMatchArray[],
): void {
  const found = pairs.filter((pair) => pair !== undefined);
  const wanted = shown.map(([, hex]) => parseInt(hex!, 16));
  assertEquals(found.map(({ stored }) => stored), wanted);
  assertEquals(found.map(({ computed }) => computed), wanted);
}

function journalBlocks(lines: string): number | undefined {
  const match = /^Total journal blocks: +(\d+)$/m.exec(lines);
  return match === null ? undefined : Number(match[1]);
}

Deno.test("inspectImage shows what is damaged without a fuss, and refuses what it cannot count with", () => {
  const bytes = unpackFixture("csum-4k");
  bytes[1024 + 0x78]! ^= 1; // the label
  bytes[4096 + 0x0c]! ^= 1; // the first descriptor
  const { checksum, groups, faults } = inspectImage(memoryReader(bytes));
  assertEquals(checksum!.stored === checksum!.computed, false);
  const [group] = groups();
  assertEquals(group!.checksum!.stored === group!.checksum!.computed, false);
  assertEquals(faults.length, 1); // the journal cannot be read
  assertThrows(() => inspectImage(memoryReader(unpackFixture("fields"))), InputError, "s_");
});
