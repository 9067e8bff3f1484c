import { assertEquals } from "@std/assert";
import { physicalBlock } from "../../../../lib/ext4/read/verify/htree.ts";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("physicalBlock finds a block in runs, and none in holes", () => {
  const runs = [
    { logical: 0, start: 100, count: 2, unwritten: false },
    { logical: 5, start: 50, count: 1, unwritten: false },
  ];
  assertEquals([0, 1, 2, 5, 6].map((logical) => physicalBlock(runs, logical)), [
    100,
    101,
    undefined,
    50,
    undefined,
  ]);
});

Deno.test("an index is held against the names below it and the blocks of its directory", async () => {
  const cases: [what: string, at: number, value: number, problem: string][] = [
    ["hash", 0x28, 2, 'directory index: hash of "'],
    ["pointer", 0x2c, 9999, "directory index: pointer to logical block"],
    ["twice", 0x2c, 1, "directory index: second pointer to logical block"],
    ["levels", 0x1c, 0x00010801, "directory index: "],
    ["count", 0x20, 0x000201fc, "directory index: it does not lead to logical block"],
  ];
  for (const [what, at, value, problem] of cases) {
    const problems = await problemsOf("plain-4k", (image) => {
      const { root } = image.directoryBlocks(inodeNamed(image, "many"));
      viewAt(root!.bytes).setUint32(at, value, true);
    });
    assertEquals(problems.some((each) => each.startsWith(problem)), true, `${what}: ${problems}`);
  }
});
