import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { mustRun, withTemporaryDirectory } from "./command.ts";
import { assertE2fsckClean, faultOf } from "./e2fsck.ts";

const BANNER = "e2fsck 1.47.0 (5-Feb-2023)\n";
const PASSES = `Pass 1: Checking inodes, blocks, and sizes
Pass 2: Checking directory structure
Pass 3: Checking directory connectivity
Pass 4: Checking reference counts
Pass 5: Checking group summary information
`;
const SUMMARY = "a.ext4: 11/64 files (0.0% non-contiguous), 40/512 blocks\n";

Deno.test("assertE2fsckClean accepts what mke2fs made and reads its summary", () => {
  withTemporaryDirectory((scratch) => {
    const image = `${scratch}/a.ext4`;
    mustRun("mke2fs", ["-q", "-t", "ext4", "-b", "4096", "-N", "64", "-L", "a label", image, "4M"]);
    const { usedInodes, inodeCount, blockCount } = assertE2fsckClean(image);
    assertEquals([usedInodes, inodeCount, blockCount], [11, 64, 1024]);
  });
});

Deno.test("assertE2fsckClean throws on one wrong bit, and shows what e2fsck said", () => {
  withTemporaryDirectory((scratch) => {
    const image = `${scratch}/a.ext4`;
    mustRun("mke2fs", ["-q", "-t", "ext4", "-b", "4096", "-N", "64", image, "4M"]);
    mustRun("debugfs", ["-w", "-R", "freeb 1", image]);
    const error = assertThrows(() => assertE2fsckClean(image), Error, "exit status 4");
    assertStringIncludes((error as Error).message, "Block bitmap differences");
  });
});

Deno.test("faultOf finds nothing in a clean run", () => {
  assertEquals(faultOf(PASSES + SUMMARY, BANNER), undefined);
});

Deno.test("faultOf objects to anything more or less than passes and summary", () => {
  const complaint = "Inode 12, i_blocks is 8, should be 0.  Fix? no\n";
  const outputs: [string, string][] = [
    [PASSES, BANNER],
    [SUMMARY, BANNER],
    [PASSES + complaint + SUMMARY, BANNER],
    [PASSES.replace("Pass 3", `${complaint}Pass 3`) + SUMMARY, BANNER],
    [PASSES + SUMMARY + complaint, BANNER],
    [complaint + PASSES + SUMMARY, BANNER],
    [PASSES.replace(/Pass 2.*\n/, "") + SUMMARY, BANNER],
    [PASSES + SUMMARY, `${BANNER}e2fsck: something\n`],
    [PASSES + SUMMARY, ""],
    ["", ""],
  ];
  for (const [stdout, stderr] of outputs) {
    assertEquals(typeof faultOf(stdout, stderr), "string", JSON.stringify(stdout));
  }
});
