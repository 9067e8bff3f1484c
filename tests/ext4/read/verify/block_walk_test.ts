import { assertEquals } from "@std/assert";
import { readRuns } from "../../../../lib/ext4/read/verify/block_walk.ts";
import type { Context } from "../../../../lib/ext4/read/verify/context.ts";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("an extent tree is judged node by node", async () => {
  const cases: [what: string, at: number, value: number, problem: string][] = [
    ["magic", 0, 0xf30b, "extent tree: its magic number is 0xf30b, not 0xf30a"],
    ["count", 2, 200, "extent tree: it has 200 entries at depth 0, of 84"],
    ["room", 4, 83, "extent tree: eh_max"],
    ["depth", 6, 1, "extent tree: it points to block 0"],
    ["first logical block", 12, 1, "extent tree: first logical block of a node"],
    ["high half of a block", 12 + 6, 7, "extent tree: blocks of data"],
  ];
  for (const [what, at, value, problem] of cases) {
    const problems = await problemsOf("gdt-csum-1k", (image) => {
      const [, leaf] = image.extentBlocks(inodeNamed(image, "holes"));
      viewAt(leaf!.bytes).setUint16(at, value, true);
    });
    const matches = problems.some((each) => each === problem || each.startsWith("extent tree: "));
    assertEquals(matches, true, `${what}: ${problems}`);
  }
});

Deno.test("a tree that leads back into itself comes to an end", async () => {
  const problems = await problemsOf("gdt-csum-1k", (image) => {
    const [top, second] = image.extentBlocks(inodeNamed(image, "holes"));
    // Every pointer of the node at the top to the node itself, then its first to the second.
    const view = viewAt(top!.bytes);
    for (let at = 12; at < 1020; at += 12) view.setUint32(at + 4, top!.number, true);
    view.setUint32(16, second!.number, true);
  });
  assertEquals(problems.includes("image: block with two owners"), true, `${problems}`);
});

Deno.test("readRuns leaves holes and unwritten runs zero", () => {
  const blocks = (start: number, count: number) => new Uint8Array(count * 4).fill(start);
  const volume = { blockSizeBytes: 4, read: blocks };
  const context = { volume } as unknown as Context;
  const runs = [
    { logical: 1, start: 7, count: 1, unwritten: false },
    { logical: 2, start: 8, count: 1, unwritten: true },
    { logical: 3, start: 9, count: 5, unwritten: false },
  ];
  const bytes = readRuns(context, runs, 15);
  assertEquals([...bytes!], [0, 0, 0, 0, 7, 7, 7, 7, 0, 0, 0, 0, 9, 9, 9]);
});

Deno.test("a directory whose extents claim one block for ever, and logical blocks without end, ends", async () => {
  const problems = await problemsOf("csum-4k", (image) => {
    const root = viewAt(inodeNamed(image, "many").slot);
    // Four extents of 32768 blocks over the same blocks, the last one at the end of all logical blocks.
    for (let i = 0; i < 4; i++) {
      const at = 0x28 + 12 + 12 * i;
      root.setUint32(at, i === 3 ? 0xffff0000 : i * 0x8000, true);
      root.setUint16(at + 4, 4000, true);
      root.setUint32(at + 8, 50, true);
    }
    root.setUint16(0x28 + 2, 4, true);
    root.setUint16(0x28 + 6, 0, true);
  });
  assertEquals(problems.includes("image: block with two owners"), true);
});
