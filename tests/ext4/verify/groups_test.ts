import { assertEquals } from "@std/assert";
import { problemsOf, viewAt } from "./damage.ts";

Deno.test("a descriptor is held against its checksum, the shape of the image and its flags", async () => {
  const cases: [offset: number, value: number, problem: string][] = [
    [0x08, 60_000, "bg_inode_table"],
    [0x00, 0, "bg_block_bitmap"],
    [0x1c, 9999, "bg_itable_unused"],
  ];
  for (const [offset, value, problem] of cases) {
    const problems = await problemsOf("gdt-csum-1k", (image) => {
      viewAt(image.descriptorBytes(1)).setUint16(offset, value, true);
    });
    assertEquals(problems.includes("group descriptor: checksum"), true);
    assertEquals(
      problems.includes(`group descriptor: ${problem}`),
      true,
      `${problem}: ${problems}`,
    );
  }
});

Deno.test("two groups with one bitmap are two owners of a block", async () => {
  const problems = await problemsOf("gdt-csum-1k", (image) => {
    image.descriptorBytes(1).set(image.descriptorBytes(0).subarray(0, 4));
  });
  assertEquals(problems.includes("image: block with two owners"), true);
});

Deno.test("without group checksums, marks of what was never used are a note, and damage over inodes in use", async () => {
  const [flags, itableUnused] = [0x12, 0x1c];
  for (const [offset, isDamage] of [[flags, true], [itableUnused, false]] as const) {
    const problems = await problemsOf("plain-4k", (image) => {
      viewAt(image.descriptorBytes(0)).setUint16(offset, 1, true);
    });
    const marks = "group descriptor: marks of what was never used, without group checksums";
    assertEquals(problems.includes(marks), true, `${problems}`);
    const inodes = "group descriptor: inodes marked as never used";
    assertEquals(problems.includes(inodes), isDamage, `${problems}`);
  }
});
