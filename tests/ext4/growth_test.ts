import { assertEquals, assertGreater, assertLess, assertMatch, assertRejects } from "@std/assert";
import type { LayoutOptions } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";
import type { FileTree } from "../../lib/model/node.ts";
import { mustRun, runCommand, withTemporaryDirectory } from "../oracle/command.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { kernelOrNotice, mountReadOnly, mountReadWrite } from "../oracle/kernel.ts";
import { viewImage } from "../oracle/kernel_tree.ts";
import { notRun } from "../oracle/notice.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import {
  assertMounts,
  assertSound,
  GIB,
  makeBareImage,
  makeImage,
  MIB,
  unreadFile,
} from "./made_image.ts";

const TIB = 1024 * GIB;
/** What an almost empty image may take on the disk of the machine, however large it says it is. */
const STORED_BYTES_MAX = 32 * MIB;
const CAP_SYS_RESOURCE = 24n;

function someTree(): FileTree {
  const shared = file("shared", { xattrs: { "user.note": "n".repeat(300) } });
  return treeOf({
    "dir": dir({ "a": shared, "b": shared, "link": symlink("x".repeat(200)) }),
    "null": special("characterDevice", [1, 3]),
    "large": file({ sizeBytes: 3 * MIB + 17, noise: "all", seed: 1 }),
    "small": file({ sizeBytes: 5000, noise: "all", seed: 2 }),
  });
}

function assertHolds(image: string, tree: FileTree): void {
  const difference = mountReadOnly(
    image,
    (mountPoint) => firstDifference(viewImage(mountPoint, false), viewTree(tree)),
  );
  if (difference) throw new Error(describeDifference(difference));
}

/** Growing a mounted file system needs a right that root does not have in every container. */
function growsMounted(): boolean {
  const what = "growing mounted images";
  if (!kernelOrNotice(what)) return false;
  const rights = /^CapEff:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"))!;
  if ((BigInt(`0x${rights[1]}`) >> CAP_SYS_RESOURCE) & 1n) return true;
  notRun(what, "root has no CAP_SYS_RESOURCE here; the long tier grows them in a guest");
  return false;
}

Deno.test("--size makes a sparse file system of just that size with room for files", async () => {
  const hasKernel = kernelOrNotice("filling large images");
  await withTemporaryDirectory(async (scratch) => {
    const sizes = [300 * MIB, 300 * MIB + 4096, 10 * GIB, 10 * GIB + 12 * MIB];
    for (const sizeBytes of sizes) {
      for (const backups of ["sparse", "none"] as const) {
        const size = { kind: "total", sizeBytes } as const;
        const made = await makeImage(`${scratch}/image`, someTree(), { size, backups });
        const { freeInodes } = made.plan.summary;
        assertEquals(Deno.statSync(made.path).size, sizeBytes);
        assertLess(Deno.statSync(made.path).blocks! * 512, STORED_BYTES_MAX);
        // As many as mke2fs makes, give or take what the content takes.
        assertGreater(freeInodes, (0.9 * sizeBytes) / 16384);
        assertSound(made);
        if (hasKernel) assertMounts(made);
      }
    }
  });
});

Deno.test("a file system of 1 TiB takes a few megabytes", async () => {
  const hasKernel = kernelOrNotice("mounting an image of 1 TiB");
  await withTemporaryDirectory(async (scratch) => {
    for (const backups of ["sparse", "none"] as const) {
      const size = { kind: "total", sizeBytes: 1 * TIB } as const;
      const made = await makeImage(`${scratch}/image`, someTree(), { size, backups });
      assertEquals(Deno.statSync(made.path).size, 1 * TIB);
      assertLess(Deno.statSync(made.path).blocks! * 512, STORED_BYTES_MAX);
      assertSound(made);
      if (hasKernel) assertHolds(made.path, made.tree);
    }
  });
});

Deno.test("--size +SIZE leaves at least so much free", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const freeBytes of [0, 1, 4096, 1 * MIB, 127 * MIB, 1 * GIB, 10 * GIB]) {
      for (const backups of ["sparse", "none"] as const) {
        const size = { kind: "free", freeBytes } as const;
        const made = await makeImage(`${scratch}/image`, someTree(), { size, backups });
        const { blockCount, usedBlocks } = assertSound(made);
        assertGreater((blockCount - usedBlocks) * 4096 + 1, freeBytes);
      }
    }
  });
});

Deno.test("a --size that the content does not fit is refused with the size that it needs", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const image = `${scratch}/image`;
    const exact = (await makeImage(image, someTree())).plan.totalBlocks * 4096;
    Deno.removeSync(image);
    for (const sizeBytes of [0, 4096, exact / 2, exact - 4 * MIB]) {
      const size = { kind: "total", sizeBytes } as const;
      const error = await assertRejects(() => makeImage(image, someTree(), { size }), InputError);
      assertMatch(error.message, /size: .* are too few: the content needs \d+/);
    }
    assertEquals([...Deno.readDirSync(scratch)], []);
  });
});

Deno.test("a last group too small for its backups is never made", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const backups of ["sparse", "none"] as const) {
      for (const overBlocks of [-1, 0, 1, 2, 3, 40, 300]) {
        const sizeBytes = 128 * MIB + overBlocks * 4096;
        const made = await makeImage(`${scratch}/image`, treeOf({}), {
          gridBytes: 4096,
          backups,
          size: { kind: "free", freeBytes: sizeBytes - 5 * MIB },
        });
        assertSound(made);
      }
      // An exact image of which the content ends around the first backup.
      for (const sizeBytes of [121, 122, 123, 124].map((mib) => mib * MIB)) {
        const made = await makeBareImage(
          `${scratch}/image`,
          treeOf({ "f": unreadFile(sizeBytes) }),
          { gridBytes: 4096, backups },
        );
        assertSound(made);
      }
    }
  });
});

const GROWN: Readonly<Record<string, Partial<LayoutOptions>>> = {
  "one group": {},
  "without a journal": { journalBytes: 0 },
  "several groups": { size: { kind: "total", sizeBytes: 700 * MIB } },
  "more descriptors than a block": { size: { kind: "total", sizeBytes: 5 * GIB } },
  "a journal over the first backup": { journalBytes: 150 * MIB },
  "without checksums": { metadataChecksums: false },
  "for an old kernel": { compat: ["3.10"] },
};

for (const [what, choices] of Object.entries(GROWN)) {
  Deno.test(`resize2fs grows an unmounted image to four times its size: ${what}`, async () => {
    const hasKernel = kernelOrNotice("looking into grown images");
    await withTemporaryDirectory(async (scratch) => {
      const made = await makeImage(`${scratch}/image`, someTree(), choices);
      const sizeBytes = made.plan.totalBlocks * 4096 * 4;
      mustRun("resize2fs", [made.path, `${sizeBytes / 1024}K`]);
      assertEquals(assertE2fsckClean(made.path).blockCount, sizeBytes / 4096);
      if (hasKernel) assertHolds(made.path, made.tree);
    });
  });

  Deno.test(`resize2fs grows a mounted image to four times its size: ${what}`, async () => {
    if (!growsMounted()) return;
    await withTemporaryDirectory(async (scratch) => {
      const made = await makeImage(`${scratch}/image`, someTree(), choices);
      const sizeBytes = made.plan.totalBlocks * 4096 * 4;
      Deno.truncateSync(made.path, sizeBytes);
      mountReadWrite(made.path, (mountPoint) => {
        const device = mustRun("findmnt", ["-n", "-o", "SOURCE", mountPoint]).trim();
        mustRun("resize2fs", [device]);
      });
      assertEquals(assertE2fsckClean(made.path).blockCount, sizeBytes / 4096);
      assertHolds(made.path, made.tree);
    });
  });
}

Deno.test("e2fsck repairs an image whose primary superblock and descriptors are gone", async () => {
  const hasKernel = kernelOrNotice("looking into repaired images");
  await withTemporaryDirectory(async (scratch) => {
    for (const choices of Object.values(GROWN)) {
      const size = choices.size ?? { kind: "total", sizeBytes: 300 * MIB } as const;
      const made = await makeImage(`${scratch}/image`, someTree(), { ...choices, size });
      {
        using image = Deno.openSync(made.path, { write: true });
        image.writeSync(new Uint8Array(2 * 4096));
      }
      assertEquals(runCommand("dumpe2fs", ["-h", made.path]).status !== 0, true);
      const repair = runCommand("e2fsck", ["-fy", "-b", "32768", "-B", "4096", made.path]);
      assertEquals(repair.status, 1, repair.stdout + repair.stderr);
      assertE2fsckClean(made.path);
      if (hasKernel) assertHolds(made.path, made.tree);
    }
  });
});
