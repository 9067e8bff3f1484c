import { assertEquals } from "@std/assert";
import { specialInodes } from "../../../lib/ext4/verify/inodes.ts";
import { volumeOf } from "../volume/open_volume.ts";
import { inodeNamed, problemsOf, viewAt } from "./damage.ts";

Deno.test("specialInodes are those that the features name", () => {
  const named = (name: string) => [...specialInodes(volumeOf(name))].sort((a, b) => a - b);
  assertEquals(named("plain-4k"), []);
  assertEquals(named("csum-4k"), [7, 8]);
  const { superblock } = volumeOf("rare-4k");
  const { projectQuotaInode, orphanFileInode } = superblock;
  assertEquals(named("rare-4k"), [3, 4, 8, projectQuotaInode, orphanFileInode]);
  assertEquals(projectQuotaInode > 8 && orphanFileInode > projectQuotaInode, true);
});

Deno.test("an inode is judged by its type, its links and its time of deletion", async () => {
  const cases: [at: number, value: number, problem: string][] = [
    [0x00, 0x3000, "inode: type"],
    [0x14, 5, "inode: i_dtime of an inode with links"],
    [0x1a, 0, "inode: i_dtime of an inode without links"],
    [0x1a, 7, "inode: i_links_count"],
  ];
  for (const [at, value, problem] of cases) {
    const problems = await problemsOf("plain-4k", (image) => {
      viewAt(inodeNamed(image, "times").slot).setUint16(at, value, true);
    });
    assertEquals(problems.includes(problem), true, `${problem}: ${problems}`);
  }
});

Deno.test("every inode's checksum is compared, also that of one that is not in use", async () => {
  const used = await problemsOf("csum-4k", (image) => {
    viewAt(inodeNamed(image, "times").slot).setUint8(0x7c, 0);
  });
  assertEquals(used, ["inode: checksum"]);
  const unused = await problemsOf("csum-4k", (image) => {
    image.inodeSlot(3)[0x30] = 1;
  });
  assertEquals(unused.includes("inode: checksum"), true);
});

Deno.test("a block of the map of bad blocks must not be in use", async () => {
  const problems = await problemsOf("plain-4k", (image) => {
    const inodeTable = image.descriptor(0).inodeTableBlock;
    // The double indirect block: i_block is at 0x28.
    viewAt(image.inodeSlot(1)).setUint32(0x28 + 13 * 4, inodeTable + 1, true);
  });
  assertEquals(problems, ["image: block with two owners"]);
});
