import { assertEquals, assertGreater } from "@std/assert";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { type CrashSpec, describeSpec, makeCrashImage } from "./crash_image.ts";
import { assertRecovered } from "./recovered.ts";

const SPECS: readonly CrashSpec[] = [
  { fsType: "ext4", blockSizeBytes: 4096, features: "", mountOptions: "", sync: "fsync" },
  { fsType: "ext3", blockSizeBytes: 1024, features: "", mountOptions: "", sync: "fsync" },
  {
    fsType: "ext4",
    blockSizeBytes: 2048,
    features: "^metadata_csum,^64bit",
    mountOptions: "data=journal",
    sync: "all",
  },
  {
    fsType: "ext4",
    blockSizeBytes: 1024,
    features: "orphan_file,metadata_csum_seed,ea_inode,inline_data",
    mountOptions: "data=journal",
    sync: "fsync",
  },
].map((spec, i) => ({ changes: 120, seed: i, ...spec }) as CrashSpec);

for (const spec of SPECS) {
  Deno.test(`an image of a stopped machine is read as the kernel reads it: ${describeSpec(spec)}`, async () => {
    if (!kernelOrNotice("mounting images with a journal to replay")) return;
    await withTemporaryDirectory(async (scratch) => {
      const image = `${scratch}/crash.img`;
      makeCrashImage(spec, image, scratch);
      const replay = await assertRecovered(image);
      assertGreater(replay?.transactions, 0);
      assertEquals(replay?.fastCommitBlocks, 0);
    });
  });
}
