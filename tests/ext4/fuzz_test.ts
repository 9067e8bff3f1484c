import { assertEquals } from "@std/assert";
import { BLOCK_SIZE_BYTES } from "../../lib/model/node.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice, mountReadOnly } from "../oracle/kernel.ts";
import { firstDifference } from "../oracle/compare.ts";
import { viewImage } from "../oracle/kernel_tree.ts";
import { Random } from "../oracle/noise.ts";
import { viewTree } from "../oracle/tree_view.ts";
import type { FuzzCase } from "./fuzz_case.ts";
import {
  checkMounted,
  checkUnmounted,
  describeCase,
  digestCase,
  makeCase,
  writeCase,
} from "./fuzz_case.ts";

/** How many images one run makes. */
const IMAGE_COUNT = Number(Deno.env.get("EXT4_FUZZ_SEEDS") ?? "8");
/** The seed of the first; the others follow. A given one is run alone, unless a count is given too. */
const GIVEN_SEED = Deno.env.get("EXT4_FUZZ_SEED");
const FIRST_SEED = Number(GIVEN_SEED ?? "1");
const RUN_COUNT = GIVEN_SEED !== undefined && Deno.env.get("EXT4_FUZZ_SEEDS") === undefined
  ? 1
  : IMAGE_COUNT;

Deno.test("random images pass e2fsck, mount, and hold their trees on the grid", async () => {
  // deno-lint-ignore no-console -- the seed is told before anything can fail
  console.log(`fuzz: seeds ${FIRST_SEED} to ${FIRST_SEED + RUN_COUNT - 1}`);
  const hasKernel = kernelOrNotice("mounting random images");
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUN_COUNT; seed++) {
    const fuzzCase = makeCase(seed);
    await withTemporaryDirectory(async (scratch) => {
      try {
        const image = `${scratch}/fuzz.ext4`;
        const plan = await writeCase(image, fuzzCase);
        checkUnmounted(image, plan);
        if (hasKernel) checkMounted(image, fuzzCase);
      } catch (error) {
        throw new Error(
          `EXT4_FUZZ_SEED=${seed} deno test -A tests/ext4/fuzz_test.ts\n` +
            `${describeCase(fuzzCase)}\n${(error as Error).stack}`,
          { cause: error },
        );
      }
    });
  }
});

Deno.test("a seed gives the same writes each time, and another seed others", async () => {
  const digests = new Set<string>();
  for (let seed = FIRST_SEED; seed < FIRST_SEED + 5; seed++) {
    const digest = await digestCase(makeCase(seed));
    assertEquals(await digestCase(makeCase(seed)), digest);
    digests.add(digest);
  }
  assertEquals(digests.size, 5);
});

/** A small case of every kind of structure, without a journal (where most bytes mean nothing). */
const CANARY_SEED = 143;
const CANARY_FAULT_COUNT = 60;

Deno.test("canary: no fault of a writer goes unnoticed", async () => {
  const hasKernel = kernelOrNotice("looking for faults in payload with the kernel");
  await withTemporaryDirectory(async (scratch) => {
    const image = `${scratch}/canary.ext4`;
    const made = makeCase(CANARY_SEED);
    const fuzzCase: FuzzCase = { ...made, options: canaryOptions(made) };
    const plan = await writeCase(image, fuzzCase);
    checkUnmounted(image, plan);
    const random = new Random(CANARY_SEED);
    const blocks = writtenBlocks(image);
    let foundByKernel = 0;
    for (let i = 0; i < CANARY_FAULT_COUNT; i++) {
      const fault = random.pick(FAULTS)(image, blocks, random);
      const isNoticed = fails(() => checkUnmounted(image, plan));
      if (!isNoticed && hasKernel) {
        foundByKernel++;
        if (!fails(() => compareWithKernel(image, fuzzCase))) {
          throw new Error(`canary: ${fault.what}, and nothing noticed`);
        }
      }
      for (const { offset, bytes } of fault.before) writeBytes(image, offset, bytes);
    }
    checkUnmounted(image, plan);
    if (hasKernel) assertEquals(foundByKernel > 0, true);
  });
});

Deno.test("canary: a tree that differs in one thing never passes for the right one", async () => {
  if (!kernelOrNotice("telling trees apart with the kernel")) return;
  await withTemporaryDirectory(async (scratch) => {
    const image = `${scratch}/canary.ext4`;
    const { tree, ...rest } = makeCase(CANARY_SEED);
    await writeCase(image, { tree, ...rest });
    compareWithKernel(image, { tree, ...rest });
    const { root } = tree;
    const right = root.attributes;
    const wrong: Partial<typeof right>[] = [
      { mode: right.mode ^ 1 },
      { uid: right.uid ^ 65536 },
      { gid: right.gid ^ 1 },
      { mtimeNanoseconds: (right.mtimeNanoseconds + 1) % 1e9 },
      { mtimeSeconds: right.mtimeSeconds + 1 },
      { xattrs: [...right.xattrs, { name: "user.zzz", value: new Uint8Array(1) }] },
    ];
    for (const change of wrong) {
      root.attributes = { ...right, ...change };
      assertEquals(fails(() => compareWithKernel(image, { tree, ...rest })), true);
    }
  });
});

function canaryOptions({ options }: FuzzCase): FuzzCase["options"] {
  return {
    ...options,
    journalBytes: 0,
    metadataChecksums: true,
    compat: undefined,
    size: { kind: "total", sizeBytes: 150 * 2 ** 20 },
    backups: "sparse",
  };
}

function compareWithKernel(image: string, { tree }: FuzzCase): void {
  const difference = mountReadOnly(
    image,
    (mountPoint) =>
      firstDifference(viewImage(mountPoint, tree.root.children.has("lost+found")), viewTree(tree)),
  );
  if (difference) throw new Error(difference.field);
}

function fails(check: () => void): boolean {
  try {
    check();
    return false;
  } catch {
    return true;
  }
}

/** The offsets of all blocks of 4 KiB with a byte in them. */
function writtenBlocks(image: string): number[] {
  using file = Deno.openSync(image);
  const block = new Uint8Array(BLOCK_SIZE_BYTES);
  const offsets: number[] = [];
  for (let offset = 0; (file.readSync(block) ?? 0) > 0; offset += block.length) {
    if (block.some((byte) => byte !== 0)) offsets.push(offset);
  }
  return offsets;
}

/** A fault that a writer could have, and what was there before. */
interface Fault {
  readonly what: string;
  readonly before: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
}

type FaultMaker = (image: string, blocks: readonly number[], random: Random) => Fault;

const FAULTS: readonly FaultMaker[] = [flipBit, flipBit, clearBlock, swapBlocks, repeatBlock];

/** Only in a byte that is not zero: the others may be room that nothing uses. */
function flipBit(image: string, blocks: readonly number[], random: Random): Fault {
  const block = random.pick(blocks);
  const bytes = readBytes(image, block, BLOCK_SIZE_BYTES);
  let at = random.below(bytes.length);
  while (bytes[at] === 0) at = (at + 1) % bytes.length;
  const before = { offset: block + at, bytes: bytes.slice(at, at + 1) };
  bytes[at]! ^= 1 << random.below(8);
  writeBytes(image, block, bytes);
  return { what: `a bit of byte ${before.offset} was flipped`, before: [before] };
}

function clearBlock(image: string, blocks: readonly number[], random: Random): Fault {
  const offset = random.pick(blocks);
  const bytes = readBytes(image, offset, BLOCK_SIZE_BYTES);
  writeBytes(image, offset, new Uint8Array(BLOCK_SIZE_BYTES));
  return { what: `the block at ${offset} was not written`, before: [{ offset, bytes }] };
}

function swapBlocks(image: string, blocks: readonly number[], random: Random): Fault {
  const [a, b] = twoDifferentBlocks(image, blocks, random);
  writeBytes(image, a.offset, b.bytes);
  writeBytes(image, b.offset, a.bytes);
  return { what: `the blocks at ${a.offset} and ${b.offset} changed places`, before: [a, b] };
}

function repeatBlock(image: string, blocks: readonly number[], random: Random): Fault {
  const [a, b] = twoDifferentBlocks(image, blocks, random);
  writeBytes(image, b.offset, a.bytes);
  return { what: `the block at ${a.offset} was written over the one at ${b.offset}`, before: [b] };
}

function twoDifferentBlocks(image: string, blocks: readonly number[], random: Random) {
  const read = (offset: number) => ({ offset, bytes: readBytes(image, offset, BLOCK_SIZE_BYTES) });
  for (;;) {
    const a = read(random.pick(blocks));
    const b = read(random.pick(blocks));
    if (a.bytes.some((byte, i) => byte !== b.bytes[i])) return [a, b] as const;
  }
}

function readBytes(image: string, offset: number, length: number): Uint8Array {
  using file = Deno.openSync(image);
  const bytes = new Uint8Array(length);
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let done = 0; done < length;) done += file.readSync(bytes.subarray(done)) ?? length;
  return bytes;
}

function writeBytes(image: string, offset: number, bytes: Uint8Array): void {
  using file = Deno.openSync(image, { write: true });
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}
