import { assertEquals, assertGreater } from "@std/assert";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { Random } from "../../oracle/noise.ts";
import { FILE_BLOCKS, LogImage, type LogPart } from "./log_builder.ts";
import { describe, readMounted, readRecovered } from "./outcome.ts";

/** Set to 1, tests run that take minutes. */
const LONG_VARIABLE = "BLESSFS_LONG_TESTS";
const LOGS = Deno.env.get(LONG_VARIABLE) === "1" ? 2000 : 25;
const JOURNAL_BLOCKS = 1100;

/** A log at random, two thirds of them damaged in one place or two. */
function randomLog(scratch: string, seed: number): LogImage {
  const random = new Random(seed);
  const startBlock = random.pick([1, JOURNAL_BLOCKS - 10]);
  const image = new LogImage(scratch, {
    blockSizeBytes: random.pick([1024, 4096]),
    checksumVersion: random.pick([0, 1, 2, 3] as const),
    is64Bit: random.chance(0.5),
    isAsynchronous: random.chance(0.3),
    sequence: random.pick([5, 0xfffffffd]),
    startBlock,
    blockCount: JOURNAL_BLOCKS,
  });
  for (let i = random.between(1, 6); i > 0; i--) {
    const parts = Array.from({ length: random.between(1, 3) }, () => randomPart(random));
    const seconds = 1_700_000_000 + (random.chance(0.8) ? -i : i);
    image.add(...parts, { kind: "commit", seconds });
  }
  const written: number[] = [];
  for (let block = startBlock; block !== image.nextBlock;) {
    written.push(block);
    block = block + 1 === JOURNAL_BLOCKS ? 1 : block + 1;
  }
  for (let i = random.below(3); i > 0; i--) damage(random, image, written);
  return image;
}

function randomPart(random: Random): LogPart {
  const fileBlock = () => random.below(FILE_BLOCKS);
  if (random.chance(0.3)) {
    return { kind: "revoke", fileBlocks: Array.from({ length: random.between(1, 6) }, fileBlock) };
  }
  const blocks = Array.from({ length: random.between(1, 5) }, (_, i) => ({
    fileBlock: fileBlock(),
    fill: random.below(256),
    isMagic: random.chance(0.1),
    hasUuid: i === 0 || random.chance(0.1),
  }));
  return { kind: "blocks", blocks };
}

function damage(random: Random, image: LogImage, written: readonly number[]): void {
  const block = image.journalBlock(random.pick(written));
  if (random.chance(0.3)) block.set(image.journalBlock(random.pick(written)));
  else block[random.below(random.pick([64, block.length]))]! ^= 1 << random.below(8);
}

Deno.test(`${LOGS} random logs, most of them damaged, are replayed or refused as the kernel does`, async () => {
  if (!kernelOrNotice("mounting images with random logs")) return;
  await withTemporaryDirectory(async (scratch) => {
    let refused = 0;
    for (let seed = 0; seed < LOGS; seed++) {
      const { bytes } = randomLog(scratch, seed);
      const found = await readRecovered(bytes);
      if (found.content === undefined) refused++;
      const wanted = describe(readMounted(bytes, scratch));
      assertEquals(describe(found), wanted, `log ${seed}: ${found.error}`);
    }
    assertGreater(refused, LOGS / 20);
    assertGreater(LOGS - refused, LOGS / 20);
  });
});
