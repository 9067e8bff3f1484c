import { assertEquals, assertGreater } from "@std/assert";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { notRun } from "../../oracle/notice.ts";
import { describeSpec, makeCrashImage, sweptSpec } from "./crash_image.ts";
import { assertRecovered } from "./recovered.ts";

/** Set to 1, tests run that take minutes. */
const LONG_VARIABLE = "BLESSFS_LONG_TESTS";
const IMAGES = 240;

Deno.test(`${IMAGES} images of stopped machines are read as the kernel reads them`, async () => {
  const what = `${IMAGES} images of stopped machines`;
  if (Deno.env.get(LONG_VARIABLE) !== "1") return notRun(what, `${LONG_VARIABLE} is not 1`);
  if (!kernelOrNotice(what)) return;
  const faults: string[] = [];
  const replayed = { images: 0, orphans: 0, revokedBlocks: 0 };
  await withTemporaryDirectory(async (scratch) => {
    for (let seed = 0; seed < IMAGES; seed++) {
      const spec = sweptSpec(seed);
      makeCrashImage(spec, `${scratch}/crash.img`, scratch);
      try {
        const replay = await assertRecovered(`${scratch}/crash.img`);
        if (replay === undefined) continue;
        replayed.images++;
        replayed.orphans += replay.orphans.deleted;
        replayed.revokedBlocks += replay.revokedBlocks;
      } catch (error) {
        faults.push(`${describeSpec(spec)}: ${(error as Error).message}`);
      }
    }
  });
  assertEquals(faults, []);
  assertGreater(replayed.images, IMAGES / 2);
  assertGreater(replayed.orphans, 0);
  assertGreater(replayed.revokedBlocks, 0);
});
