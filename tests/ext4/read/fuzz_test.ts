import { assertEquals } from "@std/assert";
import { type FileTree, walkTree } from "../../../lib/model/node.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { describeCase, makeCase, writeCase } from "../fuzz_case.ts";
import { assertKernelShows, assertSameTrees, withTree } from "./read_image.ts";

/** How many images one run makes, from which seed on. */
const IMAGE_COUNT = Number(Deno.env.get("EXT4_FUZZ_SEEDS") ?? "6");
const GIVEN_SEED = Deno.env.get("EXT4_FUZZ_SEED");
const FIRST_SEED = Number(GIVEN_SEED ?? "1");
const RUN_COUNT = GIVEN_SEED !== undefined && Deno.env.get("EXT4_FUZZ_SEEDS") === undefined
  ? 1
  : IMAGE_COUNT;

/** What a plan is made from has to be the same, or the image that comes of it would be another. */
function assertSameHashes(found: FileTree, wanted: FileTree): void {
  const hashesOf = (tree: FileTree) =>
    [...walkTree(tree)].flatMap(({ path, node }) =>
      node.kind === "file" ? [[path, node.payload.contentHash, node.payload.dataRuns]] : []
    );
  assertEquals(hashesOf(found), hashesOf(wanted));
}

Deno.test("the tree read from a random image is the one written, and what the kernel shows", async () => {
  const hasKernel = kernelOrNotice("comparing the reader of images with the kernel");
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUN_COUNT; seed++) {
    const fuzzCase = makeCase(seed);
    await withTemporaryDirectory(async (scratch) => {
      const image = `${scratch}/fuzz.ext4`;
      try {
        await writeCase(image, fuzzCase);
        await withTree(image, (tree) => {
          assertSameTrees(tree, fuzzCase.tree);
          assertSameHashes(tree, fuzzCase.tree);
          if (hasKernel) assertKernelShows(image, tree, { sameHoles: true });
        });
      } catch (error) {
        throw new Error(
          `EXT4_FUZZ_SEED=${seed} deno test -A tests/ext4/read/fuzz_test.ts\n` +
            `${describeCase(fuzzCase)}\n${(error as Error).stack}`,
          { cause: error },
        );
      }
    });
  }
});
