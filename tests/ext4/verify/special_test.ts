import { assertEquals } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import { ORPHAN_BLOCK_MAGIC } from "../../../lib/ext4/format/special_blocks.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { e2fsckVerdict, problemsOf, viewAt } from "./damage.ts";
import { assertUndamaged, verifyFile } from "./undamaged.ts";

Deno.test("an unmounted file system has no orphans", async () => {
  const list = await problemsOf("plain-4k", ({ bytes }) => viewAt(bytes).setUint8(1024 + 0xe8, 12));
  assertEquals(list, ["orphan list: s_last_orphan"]);
  const file = await problemsOf("rare-4k", (image) => {
    const { orphanFileInode } = image.superblock;
    const used = image.usedInodes().find(({ number }) => number === orphanFileInode)!;
    viewAt(image.fileBlocks(used).get(0)!.bytes).setUint32(0, 12, true);
  });
  assertEquals(file, ["orphan file: checksum", "orphan file: inodes in it"]);
});

Deno.test("an orphan file needs a journal, and no checksum where nothing has one, as e2fsck has it", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = `${directory}/image`;
    const features = "orphan_file,^metadata_csum";
    mustRun("mke2fs", ["-q", "-t", "ext4", "-b", "1024", "-O", features, path, "8M"]);
    await assertUndamaged("an orphan file without checksums", path);
    const sound = new Uint8Array(readFileSync(path));
    const damage = async (change: (view: DataView) => void) => {
      const bytes = sound.slice();
      change(viewAt(bytes));
      writeFileSync(path, bytes);
      const { findings } = await verifyFile(path);
      assertEquals(e2fsckVerdict(path).isReported, true);
      return findings.map(({ problem }) => problem);
    };
    const checksummed = await damage((view) => {
      let end = 1024;
      while (view.getUint32(end - 8, true) !== ORPHAN_BLOCK_MAGIC) end += 1024;
      view.setUint32(end - 4, 5, true);
    });
    assertEquals(checksummed, ["ob_checksum"]);
    const bare = await damage((view) => {
      view.setUint32(1024 + 0x5c, view.getUint32(1024 + 0x5c, true) & ~0x4, true);
    });
    assertEquals(bare.includes("orphan_file without has_journal"), true, `${bare}`);
  });
});

Deno.test("the MMP block has its magic number and its checksum", async () => {
  const problems = await problemsOf("mmp", (image) => {
    image.block(image.superblock.mmpBlock)[0]! ^= 1;
  });
  assertEquals(problems, [
    "mmp block: checksum",
    "mmp block: its magic number is 0x4d4d51, not 0x4d4d50",
  ]);
});

Deno.test("the resize inode leads to the room behind the descriptors and to nothing else", async () => {
  const inode = await problemsOf("csum-4k", (image) => {
    viewAt(image.inodeSlot(7)).setUint32(0x28, 5, true);
  });
  assertEquals(inode.includes("resize inode: i_block[0]"), true);
  const list = await problemsOf("csum-4k", (image) => {
    viewAt(image.block(2)).setUint32(4000, 1, true);
  });
  assertEquals(list, ["resize inode: pointer 1000"]);
});
