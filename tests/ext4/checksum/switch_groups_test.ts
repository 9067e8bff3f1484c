import { assert, assertEquals } from "@std/assert";
import type { SwitchContext } from "../../../lib/ext4/checksum/switch_context.ts";
import { switchGroups } from "../../../lib/ext4/checksum/switch_groups.ts";
import { Volume } from "../../../lib/ext4/checksum/volume.ts";
import { COMPAT } from "../../../lib/ext4/format/constants.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { fixture, FIXTURES } from "../format/fixture_image.ts";

Deno.test("switchGroups makes again what the fixtures have, structure by structure", async () => {
  let switchedCount = 0;
  for (const name of FIXTURES) {
    const { bytes: original, seed, anySeed, superblock } = fixture(name);
    if (seed === undefined || (superblock.featureCompat & COMPAT.HAS_JOURNAL) === 0) continue;
    switchedCount++;
    const bytes = original.slice();
    const half = async (enable: boolean) => {
      const counts = { groups: 0, inodes: 0, directoryBlocks: 0, extentBlocks: 0, xattrBlocks: 0 };
      const changes: [number, Uint8Array][] = [];
      const context: SwitchContext = {
        volume: new Volume(memoryReader(bytes)),
        name,
        enable,
        seed: anySeed,
        counts,
        lacking: { leaves: 0, indexBlocks: 0, extentBlocks: 0, first: undefined },
        change: (offset, part) => Promise.resolve(void changes.push([offset, part.slice()])),
      };
      await switchGroups(context, () => {});
      assertEquals(context.lacking.first, undefined);
      for (const [offset, part] of changes) bytes.set(part, offset);
      return counts;
    };
    const away = await half(false);
    assert(bytes.some((byte, i) => byte !== original[i]));
    // What the superblock says by now: METADATA_CSUM is off, GDT_CSUM on.
    const view = new DataView(bytes.buffer);
    const features = view.getUint32(1024 + 0x64, true);
    view.setUint32(1024 + 0x64, (features & ~0x400) | 0x10, true);
    const back = await half(true);
    view.setUint32(1024 + 0x64, features, true);
    assertEquals(back, away);
    const { descriptorBlocks } = backupsOf(original);
    for (const block of descriptorBlocks) {
      bytes.set(original.subarray(block, block + 4096), block);
    }
    assertEquals(bytes.findIndex((byte, i) => byte !== original[i]), -1, name);
  }
  assert(switchedCount > 0);
});

/** Copies of descriptors, which may be older than the descriptors. */
function backupsOf(bytes: Uint8Array): { descriptorBlocks: number[] } {
  const volume = new Volume(memoryReader(bytes));
  const blocks: number[] = [];
  for (let i = 0; i * volume.descriptorsPerBlock < volume.groupCount; i++) {
    for (const block of volume.descriptorBlocks(i).slice(1)) {
      blocks.push(block * volume.blockSizeBytes);
    }
  }
  return { descriptorBlocks: blocks };
}
