/** 5,000 damaged images, made from 20 kinds of images: no miss, no crash, and no image that takes long. */
import { assertEquals } from "@std/assert";
import { existsSync, writeFileSync } from "node:fs";
import { InputError } from "../../../lib/errors.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { hasCommand, withTemporaryDirectory } from "../../oracle/command.ts";
import { Random } from "../../oracle/noise.ts";
import { notRun } from "../../oracle/notice.ts";
import { e2fsckVerdict, isReported, verdictOf } from "./damage.ts";
import { makeImages, mutate } from "./mutants.ts";

const MUTANTS_AN_IMAGE = 250;
const MILLISECONDS_MAX = 10_000;
/** Reads all of an image, past faults and without; what is damaged may be refused, with an InputError. */
async function readAll(bytes: Uint8Array): Promise<void> {
  try {
    const warnings = new Warnings();
    const image = openExt4Image(memoryReader(bytes), { warnings });
    await readTree(image, { warnings, onFault: () => {} });
    await readTree(image, { warnings });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
}

Deno.test("verify misses none of 5,000 damaged images, and neither it nor the reader takes long", async () => {
  if (!hasCommand("e2fsck")) return notRun("5,000 damaged images", "there is no e2fsck(8)");
  const directory = existsSync("/dev/shm") ? "/dev/shm" : undefined;
  const scratchFile = Deno.makeTempFileSync({ prefix: "blessfs-mutant-", dir: directory! });
  const missed: string[] = [];
  const slow: string[] = [];
  let count = 0;
  try {
    await withTemporaryDirectory(async (scratch) => {
      const images = await makeImages(scratch);
      assertEquals(images.length, 20);
      for (const image of images) {
        const random = new Random(image.bytes.length + count);
        for (let i = 0; i < MUTANTS_AN_IMAGE; i++) {
          const { what, undo } = mutate(image, random);
          writeFileSync(scratchFile, image.bytes);
          const judged = e2fsckVerdict(scratchFile);
          const start = performance.now();
          const isTold = isReported(await verdictOf(image.bytes));
          await readAll(image.bytes);
          if (performance.now() - start > MILLISECONDS_MAX) slow.push(`${image.name}: ${what}`);
          if (judged.isReported && !isTold) missed.push(`${image.name}: ${what}\n${judged.text}`);
          undo();
          count++;
        }
      }
    });
  } finally {
    Deno.removeSync(scratchFile);
  }
  assertEquals([count, missed, slow], [20 * MUTANTS_AN_IMAGE, [], []]);
});
