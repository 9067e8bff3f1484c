import { assertGreater } from "@std/assert";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { type CrashSpec, describeSpec, makeCrashImage } from "./crash_image.ts";
import { assertRecovered } from "./recovered.ts";

const FEATURES = [
  "fast_commit",
  "fast_commit,^metadata_csum",
  "fast_commit,^64bit",
  "fast_commit,^metadata_csum,uninit_bg",
];
const BLOCK_SIZES = [4096, 1024, 2048];
const CHANGES = [20, 60, 5];
/** Set to 1, tests run that take minutes. */
const LONG_VARIABLE = "BLESSFS_LONG_TESTS";
const IMAGES = Deno.env.get(LONG_VARIABLE) === "1" ? 100 : 5;

Deno.test(`fast commits of ${IMAGES} images are replayed as the kernel replays them`, async () => {
  if (!kernelOrNotice("mounting images with fast commits")) return;
  let blocks = 0;
  await withTemporaryDirectory(async (scratch) => {
    for (let seed = 0; seed < IMAGES; seed++) {
      const spec: CrashSpec = {
        seed,
        fsType: "ext4",
        blockSizeBytes: BLOCK_SIZES[seed % BLOCK_SIZES.length]!,
        features: FEATURES[seed % FEATURES.length]!,
        mountOptions: "",
        // Many more would fill all their room, and then the kernel (6.18) reads one block too far and refuses the image.
        changes: CHANGES[Math.floor(seed / 3) % CHANGES.length]!,
        sync: "fsync",
        filesOnly: true,
      };
      const image = `${scratch}/crash.img`;
      makeCrashImage(spec, image, scratch);
      try {
        const replay = await assertRecovered(image, { setsDirectoryTimes: true });
        blocks += replay?.fastCommitBlocks ?? 0;
      } catch (error) {
        throw new Error(`${describeSpec(spec)}: ${(error as Error).message}`, { cause: error });
      }
    }
  });
  assertGreater(blocks, IMAGES);
});
