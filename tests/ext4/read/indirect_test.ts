import { assertEquals, assertStringIncludes } from "@std/assert";
import { blockRuns } from "../../../lib/ext4/read/block_map.ts";
import type { Ext4Image } from "../../../lib/ext4/read/image.ts";
import { indirectRuns } from "../../../lib/ext4/read/indirect.ts";
import { filePayload } from "../../../lib/ext4/read/payload.ts";
import { readPayload } from "../../../lib/model/payload.ts";
import { Random } from "../../oracle/noise.ts";
import type { Victim } from "./read_image.ts";
import { victimOfMke2fs } from "./read_image.ts";

const BYTES = new Random(5).bytes(900_001);
/** i_block in an inode, and its three pointers to blocks of pointers. */
const BLOCK_FIELD = 0x28;
const LEVEL_AT = [48, 52, 56].map((offset) => BLOCK_FIELD + offset);

function makeVictim(): { victim: Victim; number: number; slot: number } {
  const victim = victimOfMke2fs(["-t", "ext2", "-b", "1024"], { file: BYTES });
  const number = victim.inodeOf("/file");
  return { victim, number, slot: victim.inodeOffset(number) };
}

function readMap(number: number): (image: Ext4Image) => void {
  return (image) => {
    for (const _ of blockRuns(image, image.inode(number)));
  };
}

Deno.test("indirectRuns follows direct, single and double pointers to the bytes of the file", () => {
  const { victim, number } = makeVictim();
  const image = victim.open();
  const depths: number[] = [];
  const onMapBlock = ({ depth }: { readonly depth: number }) => void depths.push(depth);
  const runs = [...indirectRuns(image, image.inode(number), { onMapBlock })];
  assertEquals(runs.reduce((sum, run) => sum + run.blockCount, 0), 879);
  assertEquals(depths, [0, 1, 0, 0, 0]);
  const found = new Uint8Array(BYTES.length);
  readPayload(filePayload(image, image.inode(number)), found, 0);
  assertEquals(found.every((byte, i) => byte === BYTES[i]), true);
});

Deno.test("indirectRuns refuses pointers out of the file system at every level", () => {
  const { victim, number, slot } = makeVictim();
  const single = victim.view.getUint32(slot + LEVEL_AT[0]!, true);
  for (const offset of [slot + BLOCK_FIELD, ...LEVEL_AT.map((at) => slot + at), single * 1024]) {
    const before = victim.view.getUint32(offset, true);
    victim.view.setUint32(offset, 4096, true);
    assertStringIncludes(victim.refusal(readMap(number)), "it points to 1 blocks at 4096");
    victim.view.setUint32(offset, before, true);
  }
});

Deno.test("indirectRuns ends with pointers that lead in circles", () => {
  const { victim, number, slot } = makeVictim();
  const double = victim.view.getUint32(slot + LEVEL_AT[1]!, true);
  // A block of pointers of all levels that has nothing but itself.
  for (let i = 0; i < 256; i++) victim.view.setUint32(double * 1024 + 4 * i, double, true);
  for (const at of LEVEL_AT) victim.view.setUint32(slot + at, double, true);
  assertStringIncludes(victim.refusal(readMap(number)), "the file system has 4096");
});
