import { assertEquals, assertThrows } from "@std/assert";
import { assertBackupsEqual } from "./backups.ts";
import { mustRun, withTemporaryDirectory } from "./command.ts";

/** Four groups of 4 MiB each: by sparse_super, groups 1 and 3 hold backups. */
function makeImage(image: string, ...options: string[]): void {
  const features = ["-O", "metadata_csum,64bit,^resize_inode", "-g", "1024", "-b", "4096"];
  mustRun("mke2fs", ["-q", "-t", "ext4", ...features, ...options, image, "16M"]);
}

function changeByte(image: string, offset: number): void {
  using file = Deno.openSync(image, { read: true, write: true });
  const byte = new Uint8Array(1);
  file.seekSync(offset, Deno.SeekMode.Start);
  file.readSync(byte);
  byte[0]! ^= 0x40;
  file.seekSync(offset, Deno.SeekMode.Start);
  file.writeSync(byte);
}

Deno.test("assertBackupsEqual accepts the backups of mke2fs and counts them", () => {
  withTemporaryDirectory((scratch) => {
    const image = `${scratch}/a.ext4`;
    makeImage(image);
    assertEquals(assertBackupsEqual(image), 2);
    makeImage(image, "-O", "sparse_super2", "-E", "num_backup_sb=1");
    assertEquals(assertBackupsEqual(image), 1);
    makeImage(image, "-O", "sparse_super2", "-E", "num_backup_sb=0");
    assertEquals(assertBackupsEqual(image), 0);
    makeImage(image, "-O", "^sparse_super");
    assertEquals(assertBackupsEqual(image), 3);
  });
});

Deno.test("assertBackupsEqual finds one changed byte in a backup, or a primary that moved on", () => {
  withTemporaryDirectory((scratch) => {
    const image = `${scratch}/a.ext4`;
    const group3 = 3 * 1024 * 4096;
    const places: [number, string][] = [
      [group3 + 0x18, "group 3: superblock differs"],
      [group3 + 0x5a, "group 3: superblock says"],
      [group3 + 0x3fc, "group 3: superblock differs from the primary at byte 1020"],
      [group3 + 0x200, "group 3: superblock differs"],
      [group3 + 4096 + 64, "group 3: backup of descriptor 1 differs"],
      [1024 * 4096 + 4096 + 200, "group 1: backup of descriptor 3 differs"],
      [4096 + 70, "group 1: backup of descriptor 1 differs"],
      [1024 + 0x54, "group 0: superblock differs"],
    ];
    for (const [offset, message] of places) {
      makeImage(image);
      changeByte(image, offset);
      assertThrows(() => assertBackupsEqual(image), Error, message);
    }
  });
});
