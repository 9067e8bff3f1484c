import { assertEquals } from "@std/assert";
import { imageGeometry } from "../../../../lib/ext4/read/geometry.ts";
import { INODE_TRAIT, InodeBook } from "../../../../lib/ext4/read/verify/inode_book.ts";
import { Volume } from "../../../../lib/ext4/read/verify/volume.ts";
import { memoryReader } from "../../../../lib/io/random_reader.ts";
import { fixture } from "../../format/fixture_image.ts";

Deno.test("the book knows types, links and names of inodes of all groups", () => {
  const { bytes, superblock } = fixture("csum-1k");
  const book = new InodeBook(
    new Volume(memoryReader(bytes), superblock, imageGeometry(superblock)),
  );
  const far = superblock.inodesPerGroup + 9;
  book.enter(2, 0o40755, 3, INODE_TRAIT.INDEXED);
  book.enter(far, 0o100600, 1, INODE_TRAIT.VALUE | INODE_TRAIT.HIDDEN);
  book.refer(2);
  book.refer(2);
  book.refer(5 * superblock.inodesPerGroup); // in a group without a used inode: not counted
  assertEquals([0, 1, 2, far].map((inode) => book.nextUnsettled(inode)), [2, 2, far, 0]);
  const settled = far + 1;
  book.enter(settled, 0o100644, 2, INODE_TRAIT.NONE);
  book.refer(settled);
  assertEquals(book.nextUnsettled(far), settled);
  book.refer(settled);
  assertEquals(book.nextUnsettled(far), 0);
  assertEquals([book.type(2), book.linkCount(2), book.references(2)], [0x4000, 3, 2]);
  assertEquals([book.isIndexed(2), book.isIndexed(far)], [true, false]);
  assertEquals([book.isValue(far), book.isHidden(far), book.isUsed(far + 2)], [true, true, false]);
  const bitmap = new Uint8Array(superblock.inodesPerGroup / 8);
  book.markUsed(1, bitmap);
  assertEquals([bitmap[0], bitmap[1]], [0, 3]);
});
