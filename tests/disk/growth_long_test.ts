/**
 * Images grow while they are mounted. The kernel wants CAP_SYS_RESOURCE for it, which root has in a guest, whatever it may do
 * on this machine.
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import type { LayoutOptions } from "../../lib/bless/options.ts";
import { makeImage, MIB } from "../ext4/made_image.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { notRun } from "../oracle/notice.ts";
import { dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";
import { guestKernel, runGuest } from "./guest.ts";

const CONTENT = "this file was there before\n";
const tree = treeOf({
  "etc": dir({ "motd": file(CONTENT), "link": symlink("motd") }),
  "large": file({ sizeBytes: 3 * MIB + 17, noise: "all", seed: 1 }),
});

/** Grows, fills what came new, and looks at it again after a new mount. */
const SCRIPT = [
  "mount -t ext4 /dev/vda /mnt && echo 'mount: yes'",
  "before=$(df -k /mnt | awk 'NR == 2 { print $2 }')",
  "resize2fs /dev/vda 2>&1 && echo 'resize: yes'",
  "after=$(df -k /mnt | awk 'NR == 2 { print $2 }')",
  '[ "$after" -gt $((before * 3)) ] && echo "grown: yes"',
  "dd if=/dev/urandom of=/mnt/new bs=1M count=40 2>/dev/null && sync && md5sum < /mnt/new > /run/sum",
  "umount /mnt && mount -t ext4 /dev/vda /mnt",
  'md5sum < /mnt/new | cmp -s - /run/sum && echo "new: whole"',
  "cat /mnt/etc/link",
  "umount /mnt",
  "dmesg | grep -i 'EXT4-fs.*\\(error\\|warning\\|corrupt\\)'",
].join("\n");

const GROWN: Readonly<Record<string, Partial<LayoutOptions>>> = {
  "one group": {},
  "without a journal": { journalBytes: 0 },
  "several groups": { size: { kind: "total", sizeBytes: 300 * MIB } },
  "without checksums": { metadataChecksums: false },
  "for an old kernel": { compat: ["3.10"] },
  "for GRUB": { compat: ["grub"] },
};

for (const [what, choices] of Object.entries(GROWN)) {
  Deno.test(`a guest grows its mounted root: ${what}`, async () => {
    const kernel = guestKernel();
    if (typeof kernel === "string") return notRun("growing mounted images in a guest", kernel);
    await withTemporaryDirectory(async (directory) => {
      const disk = join(directory, "disk");
      const made = await makeImage(disk, tree, choices);
      const sizeBytes = Math.max(200 * MIB, made.plan.totalBlocks * 4096 * 4);
      Deno.truncateSync(disk, sizeBytes);
      const printed = runGuest(kernel, {
        disk,
        script: SCRIPT,
        directory,
        programs: ["resize2fs"],
        isKept: true,
      });
      const steps = ["mount: yes", "resize: yes", "grown: yes", "new: whole", CONTENT.trim()];
      for (const step of steps) assertStringIncludes(printed, `${step}\n`);
      assertMatch(printed, /on-line resizing required/);
      assertEquals(/EXT4-fs.*(error|warning|corrupt)/i.exec(printed)?.[0], undefined, printed);
      assertEquals(assertE2fsckClean(disk).blockCount, Math.floor(sizeBytes / 4096));
    });
  });
}
