import { assertEquals } from "@std/assert";
import { RO_COMPAT } from "../../../../lib/ext4/format/constants.ts";
import { INODE_WORD } from "../../../../lib/ext4/read/verify/inode_view.ts";
import { sealInode } from "../../../../lib/ext4/format/inode.ts";
import { verifyImage } from "../../../../lib/ext4/read/verify/verify.ts";
import { memoryReader } from "../../../../lib/io/random_reader.ts";
import { fixture } from "../../format/fixture_image.ts";
import { inodeNamed } from "./damage.ts";

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

Deno.test("a file that is not plain in one field goes the long way and is told", async () => {
  const faults: [what: string, word: number, bits: number][] = [
    ["type", INODE_WORD.mode, 0x8000],
    ["i_dtime", INODE_WORD.dtime, 0x40000000],
    ["i_faddr", INODE_WORD.fragmentAddress, 1],
    ["i_size", INODE_WORD.sizeHigh, 0x4000000],
    ["i_blocks", INODE_WORD.blocksLow, 2],
    ["l_i_blocks_high", INODE_WORD.blocksHigh, 1],
    ["i_file_acl_lo", INODE_WORD.xattrBlockLow, 7],
    ["i_file_acl_high", INODE_WORD.xattrBlockHigh, 0x10000],
    ["i_links_count", INODE_WORD.linkCount, 0x20000],
    ["i_flags", INODE_WORD.flags, 0x200],
    ["i_extra_isize", INODE_WORD.extraSize, 0x2],
    ["eh_magic", INODE_WORD.blockField, 1],
    ["eh_entries", INODE_WORD.blockField, 0x50000],
    ["eh_max", INODE_WORD.blockField + 1, 1],
    ["eh_depth", INODE_WORD.blockField + 1, 0x60000],
    ["ee_len", INODE_WORD.blockField + 4, 0x1],
    ["ee_start_hi", INODE_WORD.blockField + 4, 0x10000],
    ["ee_start_lo", INODE_WORD.blockField + 5, 0x40000000],
  ];
  for (const [what, word, bits] of faults) {
    assertEquals(await findingsOf("times", word, bits) > 0, true, what);
  }
  assertEquals(await findingsOf("times", INODE_WORD.mode, 0o22), 0);
});

Deno.test("a symlink whose target is not as long as it says goes the long way and is told", async () => {
  const faults: [what: string, word: number, bits: number][] = [
    ["i_size", INODE_WORD.sizeLow, 1],
    ["a longer target", INODE_WORD.blockField + 1, 0x41 << 16],
    ["i_blocks", INODE_WORD.blocksLow, 8],
    ["i_size_high", INODE_WORD.sizeHigh, 1],
    ["i_flags", INODE_WORD.flags, 0x10],
  ];
  for (const [what, word, bits] of faults) {
    assertEquals(await findingsOf("short", word, bits) > 0, true, what);
  }
  assertEquals(await findingsOf("short", INODE_WORD.blockField, 1), 0);
});
