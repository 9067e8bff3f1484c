import { assertEquals } from "@std/assert";
import { imageGeometry } from "../../../../lib/ext4/read/geometry.ts";
import {
  blocksBehind,
  BlockWindow,
  WINDOW_BLOCKS,
} from "../../../../lib/ext4/read/verify/block_window.ts";
import type { KeptInode } from "../../../../lib/ext4/read/verify/context.ts";
import { InodeView } from "../../../../lib/ext4/read/verify/inode_view.ts";
import { Volume } from "../../../../lib/ext4/read/verify/volume.ts";
import { memoryReader } from "../../../../lib/io/random_reader.ts";
import { fixture } from "../../format/fixture_image.ts";

Deno.test("BlockWindow reads what is asked for, and what comes next but once", () => {
  const { bytes, superblock } = fixture("csum-1k");
  const reader = memoryReader(bytes);
  let readCount = 0;
  const counting = {
    ...reader,
    readAt(target: Uint8Array, position: number) {
      readCount++;
      return reader.readAt(target, position);
    },
  };
  const volume = new Volume(counting, superblock, imageGeometry(superblock));
  const window = new BlockWindow(volume);
  for (
    const [start, count, behind, reads] of [
      [40, 1, 5, 1],
      [41, 2, 0, 1],
      [45, 1, 9, 1],
      [46, 1, 0, 2],
      [40, 1, 0, 3],
      [60, WINDOW_BLOCKS, 99, 4],
    ] as const
  ) {
    const found = window.read(start, count, behind);
    assertEquals(found, bytes.subarray(start * 1024, (start + count) * 1024));
    const first = new DataView(bytes.buffer, bytes.byteOffset).getInt32(start * 1024, true);
    assertEquals(window.words[window.firstWord(start)], first);
    assertEquals(readCount, reads);
  }
  const last = volume.endBlock - 1;
  assertEquals(window.read(last, 1, 5), bytes.subarray(last * 1024, last * 1024 + 1024));
  assertEquals(window.read(last, 2, 0), undefined);
  assertEquals(window.read(last, 1, 0)?.length, 1024);
});

Deno.test("blocksBehind counts the blocks of directories that follow without a gap", () => {
  const view = new InodeView(new Uint8Array(256));
  const directory = (...runs: [start: number, count: number][]): KeptInode => ({
    number: 12,
    view,
    runs: runs.map(([start, count]) => ({ logical: 0, start, count, unwritten: false })),
    inlineData: undefined,
  });
  const directories = [
    directory([10, 1]),
    directory([11, 2]),
    directory([13, 1]),
    directory([20, 1], [30, 1]),
    directory([21, 1]),
    directory([22, 50]),
    directory(),
  ];
  assertEquals([...blocksBehind(directories)], [3, 1, 0, 0, 32, 0, 0]);
  assertEquals([...blocksBehind([])], []);
});
