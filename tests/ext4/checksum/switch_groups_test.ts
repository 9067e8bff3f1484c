import { assert, assertEquals } from "@std/assert";
import process from "node:process";
import { InputError } from "../../../lib/errors.ts";
import { type SwitchContext, switchGroups } from "../../../lib/ext4/checksum/switch_structures.ts";
import { ReadingJudge } from "../../../lib/ext4/volume/judge.ts";
import type { Volume } from "../../../lib/ext4/volume/volume.ts";
import { COMPAT } from "../../../lib/ext4/format/constants.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { Random } from "../../oracle/noise.ts";
import { fixture, FIXTURES } from "../format/fixture_image.ts";
import { volumeOfBytes } from "../volume/open_volume.ts";

function openVolume(bytes: Uint8Array): Volume {
  return volumeOfBytes(bytes, new ReadingJudge(new Warnings()));
}

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
        volume: openVolume(bytes),
        name,
        enable,
        seed: anySeed,
        counts,
        lacking: { leaves: 0, indexBlocks: 0, first: undefined },
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
  const volume = openVolume(bytes);
  const blocks: number[] = [];
  for (let i = 0; i * volume.descriptorsPerBlock < volume.groupCount; i++) {
    for (const { block } of volume.descriptorBackups(i)) {
      blocks.push(block * volume.blockSizeBytes);
    }
  }
  return { descriptorBlocks: blocks };
}

Deno.test("switchGroups on images with random damage ends, and fails with nothing but an InputError", async () => {
  const runCount = Number(process.env["BLESSFS_PROPERTY_RUNS"] ?? 300);
  const random = new Random(5);
  let [refusedCount, doneCount] = [0, 0];
  for (let run = 0; run < runCount; run++) {
    const name = random.pick(["plain-4k", "csum-1k", "gdt-csum-1k", "rare-4k", "kernel"]);
    const { bytes: original, anySeed, seed } = fixture(name);
    const bytes = original.slice();
    const used = Math.min(bytes.length, 600 * 1024);
    for (let i = random.between(1, 30); i > 0; i--) {
      // Where there is something: most of an image is zeros.
      let at = random.below(used);
      for (let tries = 0; bytes[at] === 0 && tries < 200; tries++) at = random.below(used);
      bytes[at] = random.pick([0, 0xff, random.below(256), bytes[at]! ^ (1 << random.below(8))]);
    }
    try {
      const volume = openVolume(bytes);
      await switchGroups({
        volume,
        name,
        // Checksums would find most of the damage first: they are not looked at when they come.
        enable: seed === undefined || random.chance(0.7),
        seed: anySeed,
        counts: { groups: 0, inodes: 0, directoryBlocks: 0, extentBlocks: 0, xattrBlocks: 0 },
        lacking: { leaves: 0, indexBlocks: 0, first: undefined },
        change: (offset, part) => {
          assert(offset >= 0 && offset + part.length <= bytes.length, "outside of the image");
          return Promise.resolve();
        },
      }, () => {});
      doneCount++;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      refusedCount++;
    }
  }
  assert(refusedCount > 0 && doneCount > 0, `${refusedCount} refused, ${doneCount} done`);
});
