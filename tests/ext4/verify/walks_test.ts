import { assertEquals } from "@std/assert";
import { RO_COMPAT } from "../../../lib/ext4/format/constants.ts";
import { sealInode } from "../../../lib/ext4/format/inode.ts";
import { verifyImage } from "../../../lib/ext4/verify/verify.ts";
import { blocksBehind } from "../../../lib/ext4/volume/directory.ts";
import type { MappedDirectory } from "../../../lib/ext4/volume/htree.ts";
import { InodeView } from "../../../lib/ext4/volume/inode.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { fixture } from "../format/fixture_image.ts";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("an extent tree is judged node by node", async () => {
  const cases: [what: string, at: number, value: number, problem: string][] = [
    ["magic", 0, 0xf30b, "extent tree: its magic number is 0xf30b, not 0xf30a"],
    ["count", 2, 200, "extent tree: it has 200 entries at depth 0, of 84"],
    ["room", 4, 83, "extent tree: eh_max"],
    ["depth", 6, 1, "extent tree: eh_depth"],
    ["first logical block", 12, 1, "extent tree: first logical block of a node"],
    ["high half of a block", 12 + 6, 7, "extent tree: blocks of data"],
  ];
  for (const [what, at, value, problem] of cases) {
    const problems = await problemsOf("gdt-csum-1k", (image) => {
      const [, leaf] = image.extentBlocks(inodeNamed(image, "holes"));
      viewAt(leaf!.bytes).setUint16(at, value, true);
    });
    assertEquals(problems.includes(problem), true, `${what}: ${problems}`);
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

Deno.test("inodes without a name and directories without a way to the root are told", async () => {
  const problems = await problemsOf("plain-4k", (image) => {
    const root = image.usedInodes().find(({ number }) => number === 2)!;
    const { bytes } = image.directoryBlocks(root).leaves[0]!;
    for (const name of ["directory", "pipe"]) {
      const at = new TextDecoder("latin1").decode(bytes).indexOf(name) - 8;
      viewAt(bytes).setUint32(at, 0, true);
    }
  });
  assertEquals(problems.filter((each) => !each.startsWith("inode: i_links_count")), [
    "directory: no path from the root leads to it",
    "inode: it is in use, but has no name",
  ]);
});

Deno.test("an indexed directory may have lost count of its links, but not another", async () => {
  const oneLink = (name: string) =>
    problemsOf("plain-4k", (image) => {
      viewAt(inodeNamed(image, name).slot).setUint16(0x1a, 1, true);
    });
  assertEquals(await oneLink("many"), []);
  assertEquals(await oneLink("directory"), ["inode: i_links_count"]);
});

Deno.test("blocksBehind counts the blocks of directories that follow without a gap", () => {
  const view = new InodeView(new Uint8Array(256), 12);
  const directory = (...runs: [start: number, count: number][]): MappedDirectory => ({
    view,
    runs: runs.map(([startBlock, blockCount]) => ({
      logicalBlock: 0,
      startBlock,
      blockCount,
      unwritten: false,
    })),
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

/** Findings about an inode when a word of its slot has some bits flipped and the checksum is made right again. */
async function findingsOf(name: string, word: number, bits: number): Promise<number> {
  const image = fixture("csum-4k");
  const bytes = image.bytes.slice();
  const { slot, number } = inodeNamed(image, name);
  const at = slot.byteOffset - image.bytes.byteOffset;
  const copy = bytes.subarray(at, at + slot.length);
  const view = new DataView(copy.buffer, copy.byteOffset, copy.length);
  view.setUint32(4 * word, (view.getUint32(4 * word, true) ^ bits) >>> 0, true);
  const isSealed = (image.superblock.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0;
  if (isSealed) sealInode(copy, { inodeNumber: number, seed: image.seed });
  const { findings } = await verifyImage(memoryReader(bytes));
  return findings.filter(({ inode }) => inode === number).length;
}

Deno.test("a file that is not plain in one field is reported", async () => {
  const faults: [what: string, word: number, bits: number][] = [
    ["type", 0, 0x8000],
    ["i_dtime", 5, 0x40000000],
    ["i_faddr", 28, 1],
    ["i_size", 27, 0x4000000],
    ["i_blocks", 7, 2],
    ["l_i_blocks_high", 29, 1],
    ["i_file_acl_lo", 26, 7],
    ["i_file_acl_high", 29, 0x10000],
    ["i_links_count", 6, 0x20000],
    ["i_flags", 8, 0x200],
    ["i_extra_isize", 32, 0x2],
    ["eh_magic", 10, 1],
    ["eh_entries", 10, 0x50000],
    ["eh_max", 11, 1],
    ["eh_depth", 11, 0x60000],
    ["ee_len", 14, 0x1],
    ["ee_start_hi", 14, 0x10000],
    ["ee_start_lo", 15, 0x40000000],
  ];
  for (const [what, word, bits] of faults) {
    assertEquals(await findingsOf("times", word, bits) > 0, true, what);
  }
  assertEquals(await findingsOf("times", 0, 0o22), 0);
});

Deno.test("a symlink whose target is not as long as it says is reported", async () => {
  const faults: [what: string, word: number, bits: number][] = [
    ["i_size", 1, 1],
    ["a longer target", 11, 0x41 << 16],
    ["i_blocks", 7, 8],
    ["i_size_high", 27, 1],
    ["i_flags", 8, 0x10],
  ];
  for (const [what, word, bits] of faults) {
    assertEquals(await findingsOf("short", word, bits) > 0, true, what);
  }
  assertEquals(await findingsOf("short", 10, 1), 0);
});
