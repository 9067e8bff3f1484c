import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { CONSTANT_SALT } from "../../lib/verity/format.ts";
import { decodeVeritySuperblock } from "../../lib/verity/format.ts";
import {
  readRootHash,
  readVeritySuperblock,
  verifyTree,
  type VerifyTreeOptions,
  type VerityCheck,
} from "../../lib/verity/verify_tree.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { Random } from "../oracle/noise.ts";
import {
  BLOCK_BYTES,
  hasVeritysetup,
  MemorySink,
  randomWrites,
  treeOf,
  veritysetupAgrees,
} from "./veritysetup.ts";

/** An image of so many blocks with its tree behind it. */
async function appended(
  dataBlocks: number,
  salt = CONSTANT_SALT,
): Promise<{ image: Uint8Array; hashOffset: number; rootHash: string }> {
  const hashOffset = dataBlocks * BLOCK_BYTES;
  const writes = randomWrites(new Random(dataBlocks), hashOffset);
  const tree = await treeOf(writes, { dataBlocks, salt });
  const sink = new MemorySink();
  for (const { bytes, offset } of writes) sink.write(bytes, offset);
  await tree.writeTo(sink, hashOffset);
  sink.finish(hashOffset + tree.shape.sizeBytes);
  tree.close();
  return { image: sink.bytes, hashOffset, rootHash: tree.parameters.rootHash };
}

function check(
  image: Uint8Array,
  hashOffset: number,
  options: Partial<VerifyTreeOptions> = {},
): Promise<VerityCheck> {
  const reader = memoryReader(image, "image");
  return verifyTree({ data: reader, hash: reader, hashOffset }, {
    progress: NO_PROGRESS,
    ...options,
  });
}

Deno.test("what was made is clean, with and without a thread, at every boundary", async () => {
  for (const dataBlocks of [1, 2, 128, 129, 16384, 16385]) {
    const { image, hashOffset, rootHash } = await appended(dataBlocks);
    for (const threaded of [false, true]) {
      const found = await check(image, hashOffset, { rootHash, threaded });
      assertEquals(found, {
        clean: true,
        rootHash,
        dataBlocks,
        damagedDataBlocks: 0,
        damagedTreeBlocks: 0,
        findings: [],
      });
    }
  }
});

Deno.test("every flipped bit of data or tree is found, and by veritysetup, too", async () => {
  const dataBlocks = 300;
  const { image, hashOffset, rootHash } = await appended(dataBlocks);
  const random = new Random(3);
  const compares = hasVeritysetup("flipped bits against veritysetup");
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "image");
    for (let i = 0; i < 60; i++) {
      // Every other one in the tree, which would be met rarely otherwise. A superblock is no part of either.
      const at = i % 2 === 0
        ? random.below(hashOffset)
        : random.between(hashOffset + BLOCK_BYTES, image.length - 1);
      const damaged = image.slice();
      damaged[at]! ^= 1 << random.below(8);
      const found = await check(damaged, hashOffset, { rootHash });
      assertEquals(found.clean, false, `byte ${at}`);
      const block = Math.floor(at / BLOCK_BYTES) * BLOCK_BYTES;
      assert(found.findings.some(({ offset }) => offset === block), `byte ${at}`);
      if (at < hashOffset) assertEquals(found.damagedDataBlocks, 1);
      if (!compares || i >= 20) continue;
      Deno.writeFileSync(path, damaged);
      assertEquals(veritysetupAgrees(path, path, rootHash, hashOffset), false, `byte ${at}`);
    }
    if (!compares) return;
    Deno.writeFileSync(path, image);
    assertEquals(veritysetupAgrees(path, path, rootHash, hashOffset), true);
  });
});

Deno.test("damage says where it is, what is there and what was wanted", async () => {
  const { image, hashOffset, rootHash } = await appended(129);
  const data = image.slice();
  data[5 * BLOCK_BYTES + 7]! ^= 1;
  const inData = await check(data, hashOffset, { rootHash });
  assertEquals(inData.damagedDataBlocks, 1);
  assertEquals(inData.findings.map(({ kind, offset }) => [kind, offset]), [
    ["data", 5 * BLOCK_BYTES],
  ]);
  const tree = image.slice();
  tree[hashOffset + BLOCK_BYTES]! ^= 1;
  const inTree = await check(tree, hashOffset, { rootHash });
  // The root block is wrong, and so is what it says of the first block below it.
  assertEquals(inTree.findings.map(({ kind, offset }) => [kind, offset - hashOffset]), [
    ["root", BLOCK_BYTES],
    ["tree", 2 * BLOCK_BYTES],
  ]);
  const few = await check(
    new Uint8Array(image.length).fill(1).map((byte, i) => i < hashOffset ? byte : image[i]!),
    hashOffset,
    { rootHash, findingsMax: 3 },
  );
  assertEquals([few.damagedDataBlocks, few.findings.length], [129, 3]);
});

Deno.test("another root hash is refused, and without one the tree is held against itself", async () => {
  const { image, hashOffset, rootHash } = await appended(200);
  const other = "00".repeat(32);
  const found = await check(image, hashOffset, { rootHash: other });
  assertEquals(found.clean, false);
  assertEquals(found.rootHash, rootHash);
  assertEquals(found.findings[0]?.wanted, other);
  assertEquals((await check(image, hashOffset)).clean, true);
  assertEquals((await check(image, hashOffset, { rootHash: rootHash.toUpperCase() })).clean, true);
});

Deno.test("a tree or data that is cut off is an error that says how much is missing", async () => {
  const { image, hashOffset } = await appended(200);
  await assertRejects(
    () => check(image.subarray(0, image.length - 1), hashOffset),
    InputError,
    `image: is cut off: the hash tree over 200 blocks at offset ${hashOffset} ends at ${image.length}, ` +
      `the file at ${image.length - 1}`,
  );
  await assertRejects(
    () => check(image.subarray(0, hashOffset + 100), hashOffset),
    InputError,
    `image: ends at offset ${hashOffset + 100}: wanted a verity superblock at ${hashOffset}`,
  );
  const data = memoryReader(image.subarray(0, 100 * BLOCK_BYTES), "data");
  const hash = memoryReader(image, "hash");
  await assertRejects(
    () => verifyTree({ data, hash, hashOffset }, { progress: NO_PROGRESS }),
    InputError,
    "data: is cut off: the hash tree covers 819200 bytes, found 409600",
  );
});

Deno.test("superblocks that cannot be used are errors that name the field", async () => {
  const { image, hashOffset } = await appended(3);
  const superblock = image.slice(hashOffset, hashOffset + BLOCK_BYTES);
  const cases: [offset: number, value: number, message: string][] = [
    [0, 0, "has no verity superblock where one was expected"],
    [8, 2, "the version of the verity superblock is 2: wanted 1"],
    [12, 0, "the hash type of the verity superblock is 0: wanted 1"],
    [32, 0x53, 'the algorithm of the verity superblock is "Sha256": wanted sha256'],
    [65, 0x02, "the data block size of the verity superblock is 512: wanted 4096"],
    [69, 0x04, "the hash block size of the verity superblock is 1024: wanted 4096"],
    [72, 0, "the number of data blocks of the verity superblock is 0: wanted 1 to"],
    [81, 2, "the length of the salt of the verity superblock is 544: wanted at most 256"],
  ];
  for (const [offset, value, message] of cases) {
    const damaged = superblock.slice();
    damaged[offset] = value;
    assertThrows(() => decodeVeritySuperblock(damaged, "image"), InputError, `image: ${message}`);
  }
});

Deno.test("the root hash of a tree is known from its first block", async () => {
  for (const dataBlocks of [1, 2, 400]) {
    const { image, hashOffset, rootHash } = await appended(dataBlocks);
    const reader = memoryReader(image);
    const place = { data: reader, hash: reader, hashOffset };
    assertEquals(readRootHash(place, readVeritySuperblock(reader, hashOffset)), rootHash);
  }
});
