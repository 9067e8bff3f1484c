/**
 * No false alarms on blessed images of every kind, fresh, grown, shrunk and written to by the kernel. Images of mke2fs
 * are verified where they are made, in recipes_test.ts.
 * `EXT4_VERIFY_SEEDS=N` takes the images of N seeds of the fuzzer instead of a few.
 */
import { hasCommand, mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { assertE2fsckClean } from "../../oracle/e2fsck.ts";
import { kernelOrNotice, mountReadWrite } from "../../oracle/kernel.ts";
import { makeCase, writeCase } from "../fuzz_case.ts";
import { blessedImages } from "./blessed_images.ts";
import { assertUndamaged, verifyFile } from "./undamaged.ts";

const SEED_COUNT = Number(Deno.env.get("EXT4_VERIFY_SEEDS") ?? "12");

Deno.test("verify finds nothing wrong with images of the fuzzer", async () => {
  for (let seed = 1; seed <= SEED_COUNT; seed++) {
    await withTemporaryDirectory(async (scratch) => {
      const path = `${scratch}/fuzz.ext4`;
      const fuzzCase = makeCase(seed);
      await writeCase(path, fuzzCase);
      await assertUndamaged(`seed ${seed}`, path);
      const { gridBytes, alignThresholdBytes: thresholdBytes } = fuzzCase.options;
      const { layout } = await verifyFile(path, { layout: { gridBytes, thresholdBytes } });
      if (layout!.files !== layout!.congruentFiles) {
        throw new Error(`seed ${seed}: ${JSON.stringify(layout)}`);
      }
    });
  }
});

Deno.test("verify finds nothing wrong with blessed images, grown and mounted ones among them", async () => {
  const hasKernel = kernelOrNotice("verifying images that were mounted");
  await withTemporaryDirectory(async (scratch) => {
    for await (const [name] of blessedImages(scratch)) {
      const path = `${scratch}/${name}.ext4`;
      await assertUndamaged(name, path);
      if (hasCommand("resize2fs")) {
        mustRun("resize2fs", [path, "300M"]);
        await assertUndamaged(`${name}, grown`, path);
      }
      if (!hasKernel) continue;
      mountReadWrite(path, (mountPoint) => {
        Deno.mkdirSync(`${mountPoint}/new`);
        for (let i = 0; i < 300; i++) Deno.writeTextFileSync(`${mountPoint}/new/file-${i}`, `${i}`);
        Deno.removeSync(`${mountPoint}/hashed`, { recursive: true });
        Deno.writeFileSync(`${mountPoint}/large`, new Uint8Array(3_000_000).fill(7));
      });
      assertE2fsckClean(path);
      await assertUndamaged(`${name}, written by the kernel`, path);
      if (hasCommand("resize2fs")) {
        mustRun("resize2fs", ["-f", path, "180M"]);
        await assertUndamaged(`${name}, shrunk`, path);
      }
    }
  });
});
