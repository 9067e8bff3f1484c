/**
 * Single bits of metadata flipped, with e2fsck as the judge: where it reports damage, so must verify.
 * `EXT4_VERIFY_FLIPS=N` flips N bits in each image instead of a few dozen, `EXT4_VERIFY_SEED=S` picks others.
 */
import { assertEquals } from "@std/assert";
import { closeSync, existsSync, openSync, writeFileSync, writeSync } from "node:fs";
import { hasCommand, withTemporaryDirectory } from "../../oracle/command.ts";
import { Random } from "../../oracle/noise.ts";
import { notRun } from "../../oracle/notice.ts";
import { FIXTURES, unpackFixture } from "../format/fixture_image.ts";
import { blessedImages } from "./blessed_images.ts";
import type { Region } from "./damage.ts";
import { e2fsckVerdict, isReported, metadataRegions, sealedParts, verdictOf } from "./damage.ts";

const FLIP_COUNT = Number(Deno.env.get("EXT4_VERIFY_FLIPS") ?? "12");
const SEED = Number(Deno.env.get("EXT4_VERIFY_SEED") ?? "1");
/** A file system in memory makes e2fsck quick. */
const SCRATCH_FILE = existsSync("/dev/shm")
  ? `/dev/shm/blessfs-flips-${Deno.pid}.img`
  : `${Deno.makeTempDirSync({ prefix: "blessfs-test-" })}/flips.img`;

/** A bit, and where it is. */
interface Flip {
  readonly kind: string;
  readonly offset: number;
  readonly bit: number;
}

/** A bit of a structure of any kind; every second one in a byte that is not zero. */
function pickFlip(regions: readonly Region[], bytes: Uint8Array, random: Random): Flip {
  const kind = random.pick([...new Set(regions.map((region) => region.kind))]);
  const region = random.pick(regions.filter((each) => each.kind === kind));
  let at = random.below(region.length);
  const wantsUsed = random.below(2) === 0;
  for (let i = 0; wantsUsed && i < region.length && bytes[region.offset + at] === 0; i++) {
    at = (at + 1) % region.length;
  }
  return { kind, offset: region.offset + at, bit: random.below(8) };
}

/** Damages an image, has both judge it, and mends it, again and again. */
async function judgeDamage(
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
  damage: (random: Random) => { readonly what: string; readonly offset: number; length: number },
  missed: string[],
): Promise<void> {
  const random = new Random(SEED);
  const whole = bytes.slice();
  writeFileSync(SCRATCH_FILE, bytes);
  const descriptor = openSync(SCRATCH_FILE, "r+");
  let [byE2fsck, byVerify, endless] = [0, 0, 0];
  try {
    for (let i = 0; i < FLIP_COUNT; i++) {
      const { what, offset, length } = damage(random);
      writeSync(descriptor, bytes, offset, length, offset);
      const judged = e2fsckVerdict(SCRATCH_FILE);
      const isTold = isReported(await verdictOf(bytes));
      if (judged.isEndless) endless++;
      if (judged.isReported) byE2fsck++;
      if (isTold) byVerify++;
      if (judged.isReported && !isTold) {
        missed.push(`${name}: ${what}: only e2fsck objects\n${judged.text}`);
      }
      bytes.set(whole.subarray(offset, offset + length), offset);
      writeSync(descriptor, bytes, offset, length, offset);
    }
    assertEquals(e2fsckVerdict(SCRATCH_FILE).isReported, false);
  } finally {
    closeSync(descriptor);
    Deno.removeSync(SCRATCH_FILE);
  }
  // deno-lint-ignore no-console -- a run with many flips is made to see this
  console.log(
    `${name}: ${FLIP_COUNT} bits, e2fsck objects to ${byE2fsck} and never ends on ${endless}, ` +
      `verify objects to ${byVerify}`,
  );
}

async function flipBits(
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
  missed: string[],
): Promise<void> {
  const regions = metadataRegions(name, bytes);
  await judgeDamage(name, bytes, (random) => {
    const flip = pickFlip(regions, bytes, random);
    bytes[flip.offset]! ^= 1 << flip.bit;
    return { what: JSON.stringify(flip), offset: flip.offset, length: 1 };
  }, missed);
}

/** The same with a right checksum: what else there is must tell. */
async function flipSealedBits(
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
  missed: string[],
): Promise<void> {
  const [superblock, ...others] = sealedParts(name, bytes);
  await judgeDamage(`${name}, sealed`, bytes, (random) => {
    const part = random.below(4) === 0 ? superblock! : random.pick(others);
    const { offset, length } = part;
    const at = offset + random.below(length);
    const bit = random.below(8);
    bytes[at]! ^= 1 << bit;
    part.seal();
    return { what: JSON.stringify({ offset, at, bit }), offset, length };
  }, missed);
}

Deno.test("verify objects wherever e2fsck -fn does, for bits of all structures", async () => {
  if (!hasCommand("timeout")) return notRun("flipping bits", "there is no timeout(1)");
  const missed: string[] = [];
  for (const name of FIXTURES) {
    await flipBits(name, unpackFixture(name), missed);
  }
  await withTemporaryDirectory(async (scratch) => {
    for await (const [name, bytes] of blessedImages(scratch)) await flipBits(name, bytes, missed);
  });
  if (missed.length > 0) throw new Error(`${missed.length} misses\n${missed.join("\n")}`);
});

Deno.test("verify objects wherever e2fsck -fn does when checksums were made right again", async () => {
  if (!hasCommand("timeout")) return notRun("flipping bits", "there is no timeout(1)");
  const missed: string[] = [];
  for (const name of ["csum-4k", "csum-1k", "rare-4k", "kernel"]) {
    await flipSealedBits(name, unpackFixture(name), missed);
  }
  await withTemporaryDirectory(async (scratch) => {
    for await (const [name, bytes] of blessedImages(scratch)) {
      if (!name.includes("without")) await flipSealedBits(name, bytes, missed);
    }
  });
  if (missed.length > 0) throw new Error(`${missed.length} misses\n${missed.join("\n")}`);
});
