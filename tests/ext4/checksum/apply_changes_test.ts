import { assert, assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../../lib/errors.ts";
import { HALF_SWITCHED_FEATURE, INCOMPAT } from "../../../lib/ext4/format/constants.ts";
import { decodeSuperblock, editSuperblock } from "../../../lib/ext4/format/superblock.ts";
import {
  applyJournal,
  journalState,
  openJournal,
  removeJournal,
} from "../../../lib/ext4/checksum/change_journal.ts";
import type { ChangeJournalHeader } from "../../../lib/ext4/checksum/change_journal.ts";
import { NODE_IMAGE_FILES } from "../../../lib/ext4/checksum/change_journal.ts";
import { changeJournalPath, switchMetadataChecksums } from "../../../lib/ext4/checksum/switch.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { NO_PROGRESS } from "../../../lib/progress.ts";
import { mustRun, runCommand, withTemporaryDirectory } from "../../oracle/command.ts";
import { Random } from "../../oracle/noise.ts";
import { CrashingFiles } from "./crashing_files.ts";
import { makeImage, RECIPES } from "./mke2fs_image.ts";

const set = (image: string, enable: boolean, files = NODE_IMAGE_FILES) =>
  switchMetadataChecksums(image, { enable, progress: NO_PROGRESS, files });

/** A small image with every kind of structure, and the same without checksums. */
async function smallImages(directory: string): Promise<{ on: Uint8Array; off: Uint8Array }> {
  const tree = join(directory, "tree");
  const image = join(directory, "image");
  mkdirSync(tree);
  for (const name of ["few", "many", "sparse"]) mkdirSync(join(tree, name));
  for (let i = 0; i < 100; i++) writeFileSync(join(tree, "many", "name".repeat(9) + i), "x");
  makeImage(image, tree, RECIPES["csum 1K"]!, 4);
  // The first switch makes backups new. From then on there are two images, and nothing else.
  await set(image, false);
  await set(image, true);
  const on = new Uint8Array(readFileSync(image));
  await set(image, false);
  const off = new Uint8Array(readFileSync(image));
  rmSync(tree, { recursive: true });
  return { on, off };
}

const isHalf = (image: Uint8Array) =>
  (decodeSuperblock(image.slice(1024, 2048)).featureIncompat & HALF_SWITCHED_FEATURE) !== 0;

const equal = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;

Deno.test("applyJournal after a loss of power at every call ends with a whole image", async () => {
  await withTemporaryDirectory(async (directory) => {
    const { on, off } = await smallImages(directory);
    const image = join(directory, "image");
    const random = new Random(7);
    let [halfCount, refusedCount] = [0, 0];
    for (const enable of [true, false]) {
      const [from, to] = enable ? [off, on] : [on, off];
      writeFileSync(image, from);
      const whole = new CrashingFiles(Infinity, random);
      await set(image, enable, whole);
      assert(equal(readFileSync(image), to));
      // The number of calls varies with the parts that writes are taken in: go on until none is hit.
      for (let stopAt = 1;; stopAt++) {
        writeFileSync(image, from);
        const files = new CrashingFiles(stopAt, random);
        const outcome = await set(image, enable, files).catch((error) => error);
        if (!(outcome instanceof Error)) break;
        const found = readFileSync(image);
        const half = isHalf(found);
        if (half) halfCount++;
        const where = `call ${stopAt}, ${enable ? "on" : "off"}`;
        if (half) {
          assert(existsSync(changeJournalPath(image)), `${where}: no journal`);
          // Nobody else touches it meanwhile, unless even the superblock was written in part.
          const { stderr } = runCommand("e2fsck", ["-fn", image]);
          const isTorn = stderr.includes("Superblock checksum does not match");
          assert(isTorn || stderr.includes("unsupported feature"), `${where}: ${stderr}`);
          if (!isTorn) refusedCount++;
        }
        // Back to where it came from, whatever was under way: what was begun is finished first.
        const way = random.chance(0.5);
        const report = await set(image, way ? enable : !enable);
        assert(report.resumed || !half, where);
        assert(equal(readFileSync(image), way ? to : from), `${where}: the image is another one`);
        assert(!existsSync(changeJournalPath(image)), where);
        for (const name of readdirSync(directory)) {
          if (name.includes(".part-")) rmSync(join(directory, name));
        }
      }
    }
    assert(halfCount > 20, `${halfCount} half-switched images are too few to prove anything`);
    assert(refusedCount > 10, `${refusedCount} were refused by e2fsck`);
  });
});

Deno.test("switchMetadataChecksums refuses a half-switched image whose journal is gone or damaged", async () => {
  await withTemporaryDirectory(async (directory) => {
    const { on } = await smallImages(directory);
    const image = join(directory, "image");
    let half: Uint8Array | undefined;
    for (let stopAt = 10; !half; stopAt++) {
      writeFileSync(image, on);
      await set(image, false, new CrashingFiles(stopAt, new Random(stopAt))).catch(() => {});
      const found = new Uint8Array(readFileSync(image));
      if (isHalf(found)) half = found;
      else rmSync(changeJournalPath(image), { force: true });
    }
    const journalPath = changeJournalPath(image);
    const journal = readFileSync(journalPath);
    for (let at = 3; at < journal.length; at += Math.ceil(journal.length / 40)) {
      const damaged = new Uint8Array(journal);
      damaged[at]! ^= 1;
      writeFileSync(journalPath, damaged);
      await assertRejects(() => set(image, false), InputError);
      assert(equal(readFileSync(image), half), "a damaged journal was used");
    }
    writeFileSync(journalPath, journal.subarray(0, journal.length - 1));
    await assertRejects(() => set(image, false), InputError, "ends at");
    rmSync(journalPath);
    await assertRejects(() => set(image, false), InputError, "was interrupted");
    writeFileSync(journalPath, journal);
    const other = new Uint8Array(half);
    other.set(editSuperblock(other.subarray(1024, 2048), { mountCount: 9 }), 1024);
    writeFileSync(image, other);
    await assertRejects(() => set(image, false), InputError, "was interrupted");
    writeFileSync(image, half);
    assertEquals((await set(image, false)).resumed, true);
    mustRun("e2fsck", ["-fn", image]);
  });
});

Deno.test("journalState tells old, half, new and foreign superblocks apart", () => {
  const superblock = new Uint8Array(1024);
  superblock.set([0x53, 0xef], 0x38);
  const variant = (featureIncompat: number, mountCount = 0) =>
    editSuperblock(superblock, { featureIncompat, mountCount, featureRoCompat: 0x400 });
  const [old, half, done] = [variant(0), variant(HALF_SWITCHED_FEATURE), variant(INCOMPAT.EXTENTS)];
  const header: ChangeJournalHeader = {
    imageSizeBytes: 4096,
    enable: true,
    oldSuperblock: old,
    halfSuperblock: half,
    newSuperblock: done,
  };
  const state = (bytes: Uint8Array, size = 4096) => {
    const image = new Uint8Array(size);
    image.set(bytes, 1024);
    return journalState(memoryReader(image), header);
  };
  const torn = new Uint8Array(done);
  torn.set(half.subarray(512), 512);
  assertEquals(state(old), "unapplied");
  assertEquals(state(half), "half");
  assertEquals(state(torn), "half");
  assertEquals(state(done), "applied");
  assertEquals(state(variant(INCOMPAT.EXTENTS, 3)), "stale");
  assertEquals(state(old, 8192), "stale");
});

Deno.test("openJournal and removeJournal pass over what is not there, and tell of the rest", async () => {
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "journal");
    assertEquals(openJournal(path, NODE_IMAGE_FILES), undefined);
    writeFileSync(path, "x");
    const reader = openJournal(path, NODE_IMAGE_FILES)!;
    await assertRejects(
      () => applyJournal(join(directory, "image"), reader, path, NODE_IMAGE_FILES),
      InputError,
      "ends at offset 1",
    );
    reader.close();
    removeJournal(path, NODE_IMAGE_FILES);
    assert(!existsSync(path));
  });
});
