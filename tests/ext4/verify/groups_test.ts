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
