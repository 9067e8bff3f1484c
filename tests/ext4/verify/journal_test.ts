import { assertEquals } from "@std/assert";
import type { FixtureImage } from "../format/fixture_image.ts";
import { problemsOf, viewAt } from "./damage.ts";

function journalBlock(image: FixtureImage): DataView<ArrayBufferLike> {
  const journal = image.usedInodes().find(({ number }) => number === 8)!;
  return viewAt(image.fileBlocks(journal).get(0)!.bytes);
}

Deno.test("the journal's superblock is held against its inode", async () => {
  const cases: [at: number, value: number, problem: string][] = [
    [0x0c, 1024, "journal: s_blocksize"],
    [0x10, 0x7fffffff, "journal: s_maxlen"],
    [0x14, 0, "journal: s_first"],
    [0x1c, 7, "journal: s_start without needs_recovery"],
    [0x28, 0x8000, "journal: s_feature_incompat"],
    [0x40, 2, "journal: s_nr_users"],
  ];
  for (const [at, value, problem] of cases) {
    const problems = await problemsOf("csum-4k", (image) => {
      journalBlock(image).setUint32(at, value);
    });
    assertEquals(problems.includes(problem), true, `${problem}: ${problems}`);
  }
});

Deno.test("the copy of the journal's map in the superblock equals its inode", async () => {
  const problems = await problemsOf("gdt-csum-1k", ({ bytes }) => {
    bytes[1024 + 0x10c + 8]! ^= 1;
  });
  assertEquals(problems, ["superblock: s_jnl_blocks[2]"]);
});
