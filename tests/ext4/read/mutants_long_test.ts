/** Damaged images that the kernel mounts: what it shows is read, and what it refuses is refused. */
import { assertEquals } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import type { FileTree } from "../../../lib/model/node.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { describeDifference, firstDifference } from "../../oracle/compare.ts";
import { viewDirectory } from "../../oracle/directory_view.ts";
import { kernelOrNotice, mountReadOnly } from "../../oracle/kernel.ts";
import { SystemCallError } from "../../oracle/libc_calls.ts";
import { Random } from "../../oracle/noise.ts";
import { viewTree } from "../../oracle/tree_view.ts";
import { makeImages, mutate } from "../verify/mutants.ts";

const MUTANTS_AN_IMAGE = Number(Deno.env.get("EXT4_READ_MUTANTS") ?? "10");
const FIRST_SEED = Number(Deno.env.get("EXT4_READ_SEED") ?? "1");
/** Larger images take too long to write. */
const IMAGE_BYTES_MAX = 40 << 20;

/** The tree, or why there is none. Names in the wrong leaf of a hashed directory are not found by the kernel. */
async function read(
  bytes: Uint8Array,
): Promise<{ tree?: FileTree; error?: string; isScattered: boolean }> {
  const warnings = new Warnings();
  const isScattered = () =>
    warnings.list().some(({ message }) => /^directory index|more like it/.test(message));
  try {
    const image = openExt4Image(memoryReader(bytes), { warnings });
    const tree = await readTree(image, { warnings, lostAndFound: "keep" });
    return { tree, isScattered: isScattered() };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return { error: error.message, isScattered: isScattered() };
  }
}

/** What the kernel refuses of a mounted image, or how it differs from a tree; undefined where it shows just that. */
function kernelFault(mountPoint: string, tree: FileTree | undefined): string | undefined {
  const shown = viewDirectory(mountPoint, { directoryLinks: "stated" });
  // Links are counted in a tree, and stated in an image.
  const ignore = (_path: string, field: string) => field === "links";
  const wanted = tree === undefined
    ? viewDirectory(mountPoint, { directoryLinks: "stated" })
    : viewTree(tree);
  try {
    const difference = firstDifference(wanted, shown, { ignore });
    return difference && describeDifference(difference);
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return error.message;
  }
}

Deno.test("of damaged images the tree is the one that the kernel shows", async () => {
  if (!kernelOrNotice("comparing damaged images with the kernel")) return;
  const counts = { equal: 0, refused: 0, unmountable: 0, scattered: 0 };
  const wrong: string[] = [];
  await withTemporaryDirectory(async (scratch) => {
    for (const image of await makeImages(scratch)) {
      if (image.bytes.length > IMAGE_BYTES_MAX) continue;
      const random = new Random(FIRST_SEED + image.bytes.length);
      for (let i = 0; i < MUTANTS_AN_IMAGE; i++) {
        const { what, undo } = mutate(image, random);
        const { tree, error, isScattered } = await read(image.bytes);
        // A loop device of the one before may still be going away: each has a file of its own.
        const path = Deno.makeTempFileSync({ dir: scratch });
        Deno.writeFileSync(path, image.bytes);
        undo();
        try {
          mountReadOnly(path, (mountPoint) => {
            const fault = kernelFault(mountPoint, tree);
            if (isScattered) counts.scattered++;
            else if (tree !== undefined && fault === undefined) counts.equal++;
            else if (tree === undefined && fault !== undefined) counts.refused++;
            else wrong.push(`${image.name}: ${what}: ${error ?? "read"}, the kernel: ${fault}`);
          });
        } catch (cause) {
          if (!/^mount /.test((cause as Error).message)) throw cause;
          counts.unmountable++;
        }
        Deno.removeSync(path);
      }
    }
  });
  assertEquals(wrong, []);
  // Both must happen, or nothing was tried.
  assertEquals(counts.equal > 0 && counts.refused > 0, true, JSON.stringify(counts));
});
