/** Trees of 500 random sizes, and every flipped bit of a small one, against veritysetup. */
import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { CONSTANT_SALT } from "../../lib/verity/format.ts";
import { verifyTree } from "../../lib/verity/verify_tree.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { Random } from "../oracle/noise.ts";
import {
  BLOCK_BYTES,
  compareWithVeritysetup,
  hasVeritysetup,
  randomWrites,
  treeBytes,
  treeOf,
  veritysetupAgrees,
  writeSparse,
} from "./veritysetup.ts";

const SIZES = 500;
const SEED = 1845;

Deno.test(`trees of ${SIZES} random sizes are byte for byte those of veritysetup`, async () => {
  if (!hasVeritysetup(`trees of ${SIZES} random sizes against veritysetup`)) return;
  const random = new Random(SEED);
  await withTemporaryDirectory(async (directory) => {
    for (let i = 0; i < SIZES; i++) {
      // Small ones meet every way to end a block and a level, a few large ones three levels.
      const dataBlocks = random.between(1, i % 25 === 0 ? 40_000 : i % 5 === 0 ? 17_000 : 700);
      const salt = i % 3 === 0
        ? CONSTANT_SALT
        : i % 3 === 1
        ? new Uint8Array(0)
        : random.bytes(random.between(1, 256));
      const threaded = i % 10 === 0;
      await compareWithVeritysetup(directory, dataBlocks, { seed: SEED + i, salt, threaded });
    }
  });
});

Deno.test("a bit flipped in every block of data and tree is found, and by veritysetup, too", async () => {
  const dataBlocks = 140;
  const dataBytes = dataBlocks * BLOCK_BYTES;
  const writes = randomWrites(new Random(SEED), dataBytes);
  const tree = await treeOf(writes, { dataBlocks, salt: CONSTANT_SALT });
  const { rootHash } = tree.parameters;
  const compares = hasVeritysetup("a bit flipped in every block against veritysetup");
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "image");
    writeSparse(path, writes, dataBytes);
    const image = new Uint8Array(Buffer.concat([Deno.readFileSync(path), await treeBytes(tree)]));
    const random = new Random(SEED);
    for (let start = 0; start < image.length; start += BLOCK_BYTES) {
      // The superblock is covered by no hash.
      if (start === dataBytes) continue;
      const damaged = image.slice();
      damaged[start + random.below(BLOCK_BYTES)]! ^= 1 << random.below(8);
      const reader = memoryReader(damaged);
      const place = { data: reader, hash: reader, hashOffset: dataBytes };
      const { clean, findings } = await verifyTree(place, { rootHash });
      assertEquals([clean, findings.some(({ offset }) => offset === start)], [false, true]);
      if (!compares) continue;
      Deno.writeFileSync(path, damaged);
      assertEquals(veritysetupAgrees(path, path, rootHash, dataBytes), false, `block at ${start}`);
    }
  });
});
