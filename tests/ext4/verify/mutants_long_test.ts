/** 5,000 damaged images, made from 20 kinds of images: no miss, no crash, and no image that takes long. */
import { assertEquals } from "@std/assert";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { InputError } from "../../../lib/errors.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { hasCommand, mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { Random } from "../../oracle/noise.ts";
import { notRun } from "../../oracle/notice.ts";
import { FIXTURES, unpackFixture } from "../format/fixture_image.ts";
import { blessedImages } from "./blessed_images.ts";
import { e2fsckVerdict, isReported, metadataRegions, sealedParts, verdictOf } from "./damage.ts";

const MUTANTS_AN_IMAGE = 250;
const MILLISECONDS_MAX = 10_000;
/** Images that neither the fixtures nor bless have. */
const MADE_WITH: Readonly<Record<string, readonly string[]>> = {
  "ext2": ["-t", "ext2", "-b", "1024"],
  "ext3": ["-t", "ext3", "-b", "1024"],
  "meta_bg": ["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"],
  "large slots": ["-t", "ext4", "-I", "1024", "-O", "inline_data,ea_inode"],
};

interface Image {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

async function makeImages(scratch: string): Promise<Image[]> {
  const images: Image[] = FIXTURES.map((name) => ({ name, bytes: unpackFixture(name) }));
  for await (const [name, bytes] of blessedImages(scratch)) images.push({ name, bytes });
  const source = `${scratch}/source`;
  Deno.mkdirSync(`${source}/directory/below`, { recursive: true });
  for (let i = 0; i < 40; i++) writeFileSync(`${source}/directory/file-${i}`, "x".repeat(i * 97));
  Deno.symlinkSync("directory", `${source}/link`);
  for (const [name, options] of Object.entries(MADE_WITH)) {
    const path = `${scratch}/${name.replace(" ", "-")}`;
    mustRun("mke2fs", ["-q", "-F", ...options, "-d", source, path, "16M"]);
    images.push({ name, bytes: new Uint8Array(readFileSync(path)) });
  }
  return images;
}

/** Damages an image: a bit of a structure, some bytes of one, or a bit under a checksum that is made right again. */
function mutate({ name, bytes }: Image, random: Random): { what: string; undo: () => void } {
  const isChecksummed = (bytes[1024 + 0x65]! & 4) !== 0;
  const way = random.below(isChecksummed ? 3 : 2);
  if (way === 2) {
    const part = random.pick(sealedParts(name, bytes));
    const before = bytes.slice(part.offset, part.offset + part.length);
    const at = random.below(part.length);
    bytes[part.offset + at]! ^= 1 << random.below(8);
    part.seal();
    return { what: `sealed ${part.offset}+${at}`, undo: () => bytes.set(before, part.offset) };
  }
  const regions = metadataRegions(name, bytes);
  const kind = random.pick([...new Set(regions.map((region) => region.kind))]);
  const region = random.pick(regions.filter((each) => each.kind === kind));
  const length = way === 0 ? 1 : Math.min(region.length, random.between(2, 8));
  const at = region.offset + random.below(region.length - length + 1);
  const before = bytes.slice(at, at + length);
  if (way === 0) bytes[at]! ^= 1 << random.below(8);
  else bytes.set(random.bytes(length), at);
  return { what: `${kind} ${at}x${length}`, undo: () => bytes.set(before, at) };
}

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
