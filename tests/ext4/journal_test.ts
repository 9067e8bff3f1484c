import { assertEquals, assertGreater, assertMatch, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { UsageError } from "../../lib/errors.ts";
import type { FileTree } from "../../lib/model/node.ts";
import { mustRun, runCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { kernelOrNotice, mountReadOnly, mountReadWrite } from "../oracle/kernel.ts";
import { dir, file, treeOf } from "../oracle/tree_builder.ts";
import { assertMounts, assertSound, GIB, KIB, makeImage, MIB, planTree } from "./made_image.ts";
import { readAt } from "./plan_on_disk.ts";

const BLOCK_BYTES = 4096;

function someTree(): FileTree {
  return treeOf({
    "dir": dir({
      "a": file("some content"),
      "b": file({ sizeBytes: 9000, noise: "all", seed: 1 }),
    }),
    "large": file({ sizeBytes: 1 * MIB + 3, noise: "all", seed: 2 }),
  });
}

/** The first, the last and the number of blocks of each run of the journal, as debugfs tells. */
function journalExtents(image: string): { logical: number; physical: number; count: number }[] {
  const lines = mustRun("debugfs", ["-R", "dump_extents <8>", image]).split("\n");
  const leaf = /^\s*(\d+)\/\s*(\d+)\s+\d+\/\s*\d+\s+(\d+)\s+-\s+\d+\s+(\d+)\s+-\s+\d+\s+(\d+)/;
  return lines.flatMap((line) => {
    const match = leaf.exec(line);
    // An index node's level is above the depth of the tree's last.
    if (match === null || match[1] !== match[2]) return [];
    return [{ logical: Number(match[3]), physical: Number(match[4]), count: Number(match[5]) }];
  });
}

const SIZES = [4 * MIB, 5 * MIB + 4096, 64 * MIB, 120 * MIB, 127 * MIB, 128 * MIB - 8192];
const LONG_SIZES = [128 * MIB, 129 * MIB, 300 * MIB, 1 * GIB];

for (const journalBytes of [...SIZES, ...LONG_SIZES]) {
  Deno.test(`a journal of ${journalBytes / KIB} KiB lies around backups and works`, async () => {
    const hasKernel = kernelOrNotice("mounting images with journals");
    await withTemporaryDirectory(async (scratch) => {
      for (const backups of ["sparse", "none"] as const) {
        const made = await makeImage(`${scratch}/image`, someTree(), { journalBytes, backups });
        assertSound(made);
        const extents = journalExtents(made.path);
        const blocks = extents.reduce((sum, { count }) => sum + count, 0);
        assertEquals(blocks * BLOCK_BYTES, journalBytes);
        const isOnePiece = extents.every(({ logical, physical }) =>
          physical - logical === extents[0]!.physical
        );
        // A journal that fits between two backups is never cut.
        assertEquals(isOnePiece, backups === "none" || SIZES.includes(journalBytes));
        const sizes = /^Total journal blocks: +(\d+)$/m.exec(dumpHeader(made.path));
        assertEquals(Number(sizes?.[1]), journalBytes / BLOCK_BYTES);
        if (hasKernel) assertMounts(made);
      }
    });
  });
}

function dumpHeader(image: string): string {
  return mustRun("dumpe2fs", ["-h", image]);
}

Deno.test("journal sizes that the kernel or e2fsprogs would refuse are refused", () => {
  for (const journalBytes of [-1, 1, 4096, 4 * MIB - 4096, 40 * GIB, NaN]) {
    assertThrows(() => planTree(someTree(), { journalBytes }), UsageError, "journalBytes");
  }
});

Deno.test("the superblock keeps a copy of where the journal lies", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const made = await makeImage(`${scratch}/image`, someTree(), { journalBytes: 150 * MIB });
    // Without the journal's inode e2fsck finds the journal by that copy and mends the inode.
    mustRun("debugfs", ["-w", "-R", "clri <8>", made.path]);
    const repair = runCommand("e2fsck", ["-fy", made.path]);
    assertMatch(repair.stdout, /journal/i);
    assertEquals(repair.status & ~3, 0, repair.stdout + repair.stderr);
    assertE2fsckClean(made.path);
    assertEquals(/has_journal/.test(dumpHeader(made.path)), true);
  });
});

/** Writes to a mounted image and copies it while it is mounted, as if the machine had stopped there. */
function crash(image: string, copy: string): void {
  mountReadWrite(image, (mountPoint) => {
    Deno.mkdirSync(`${mountPoint}/new`);
    for (let i = 0; i < 200; i++) {
      Deno.writeTextFileSync(`${mountPoint}/new/file-${i}`, `content ${i}`);
    }
    Deno.removeSync(`${mountPoint}/dir/a`);
    mustRun("sync", ["-f", mountPoint]);
    Deno.renameSync(`${mountPoint}/dir/b`, `${mountPoint}/new/b`);
    Deno.removeSync(`${mountPoint}/new/file-7`);
    mustRun("sync", ["-f", mountPoint]);
    mustRun("cp", ["--sparse=always", image, copy]);
  });
}

for (const journalBytes of [4 * MIB, 150 * MIB]) {
  for (const metadataChecksums of [true, false]) {
    const what = `${journalBytes / MIB} MiB, checksums ${metadataChecksums}`;
    Deno.test(`a crash is mended by the kernel and by e2fsck from the journal: ${what}`, async () => {
      if (!kernelOrNotice("crashing and replaying")) return;
      await withTemporaryDirectory(async (scratch) => {
        const size = { kind: "free", freeBytes: 40 * MIB } as const;
        const choices = { journalBytes, metadataChecksums, size };
        const made = await makeImage(`${scratch}/image`, someTree(), choices);
        const crashed = `${scratch}/crashed`;
        crash(made.path, crashed);
        assertE2fsckClean(made.path);
        assertMatch(dumpHeader(crashed), /needs_recovery/);

        mustRun("cp", ["--sparse=always", crashed, `${scratch}/by-kernel`]);
        mountReadWrite(`${scratch}/by-kernel`, assertRecovered);
        assertE2fsckClean(`${scratch}/by-kernel`);

        const repair = runCommand("e2fsck", ["-fy", crashed]);
        assertEquals(repair.status & ~1, 0, repair.stdout + repair.stderr);
        assertMatch(repair.stderr + repair.stdout, /recovering journal/);
        assertE2fsckClean(crashed);
        mountReadOnly(crashed, assertRecovered);
      });
    });
  }
}

function assertRecovered(mountPoint: string): void {
  assertEquals([...Deno.readDirSync(`${mountPoint}/new`)].length, 200);
  assertEquals(Deno.readTextFileSync(`${mountPoint}/new/file-199`), "content 199");
  assertEquals([...Deno.readDirSync(`${mountPoint}/dir`)].length, 0);
}

Deno.test("a mount that writes nothing changes the superblock and the journal alone", async () => {
  if (!kernelOrNotice("watching what a mount writes")) return;
  await withTemporaryDirectory(async (scratch) => {
    for (const journalBytes of [0, 4 * MIB]) {
      for (const sizeBytes of [0, 300 * MIB]) {
        const size = { kind: "free", freeBytes: sizeBytes } as const;
        const made = await makeImage(`${scratch}/image`, someTree(), { journalBytes, size });
        mustRun("cp", ["--sparse=always", made.path, `${scratch}/before`]);
        mountReadWrite(made.path, (mountPoint) => {
          // Reading would change access times, so only the root is looked at.
          assertEquals(Deno.statSync(mountPoint).isDirectory, true);
          mustRun("sync", ["-f", mountPoint]);
        });
        // The kernel starts a thread that zeroes inode tables where a group does not say that it has a zeroed one.
        const groups = mustRun("dumpe2fs", [made.path]).match(/^Group \d+:.*$/gm) ?? [];
        assertGreater(groups.length, 0);
        assertEquals(groups.filter((line) => !line.includes("ITABLE_ZEROED")), []);
        const journal = journalBytes === 0 ? [] : journalExtents(made.path);
        const unexpected = changedBlocks(`${scratch}/before`, made.path).filter((block) =>
          block !== 0 &&
          !journal.some(({ physical, count }) => block >= physical && block < physical + count)
        );
        assertEquals(unexpected, []);
        assertE2fsckClean(made.path);
      }
    }
  });
});

function changedBlocks(before: string, after: string): number[] {
  using a = Deno.openSync(before);
  using b = Deno.openSync(after);
  const sizeBytes = a.statSync().size;
  assertGreater(sizeBytes, 0);
  const changed: number[] = [];
  const pieceBytes = 256 * BLOCK_BYTES;
  for (let at = 0; at < sizeBytes; at += pieceBytes) {
    const length = Math.min(pieceBytes, sizeBytes - at);
    const [left, right] = [readAt(a, at, length), readAt(b, at, length)];
    if (Buffer.compare(left, right) === 0) continue;
    for (let from = 0; from < length; from += BLOCK_BYTES) {
      const end = from + BLOCK_BYTES;
      if (Buffer.compare(left.subarray(from, end), right.subarray(from, end)) !== 0) {
        changed.push((at + from) / BLOCK_BYTES);
      }
    }
  }
  return changed;
}
