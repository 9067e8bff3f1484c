import { assertEquals } from "@std/assert";
import { openFileReader } from "../../../lib/io/random_reader.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { isRoot } from "../../oracle/libc_user.ts";
import { notRun } from "../../oracle/notice.ts";
import { assertKernelShows, assertSameTrees, withTree } from "./read_image.ts";
import { e2fsckVerdict } from "../verify/damage.ts";
import { assertUndamaged } from "../verify/undamaged.ts";
import { KERNEL_RECIPES, makeImage, MKE2FS_RECIPES, type Recipe } from "./recipes.ts";

const ONLY = Deno.env.get("EXT4_RECIPE");

Deno.test("the tree read from an image of mke2fs is what the kernel shows", async () => {
  if (!isRoot()) {
    return notRun("reading images that mke2fs fills", "making their content needs root");
  }
  const hasKernel = kernelOrNotice("comparing images that mke2fs fills with the kernel");
  await checkRecipes(MKE2FS_RECIPES, hasKernel);
});

Deno.test("the tree read from an image that the kernel filled is what the kernel shows", async () => {
  if (!kernelOrNotice("reading images that the kernel fills")) return;
  await checkRecipes(KERNEL_RECIPES, true);
});

async function checkRecipes(recipes: readonly Recipe[], hasKernel: boolean): Promise<void> {
  await withTemporaryDirectory(async (sources) => {
    for (const recipe of recipes) {
      if (ONLY !== undefined && ONLY !== recipe.name) continue;
      await withTemporaryDirectory(async (scratch) => {
        const path = `${scratch}/recipe.ext4`;
        try {
          makeImage(recipe, path, sources);
          // mke2fs -d leaves some images in need of fsck: it counts no quotas.
          if (!e2fsckVerdict(path).isReported) await assertUndamaged(recipe.name, path);
          await withTree(path, async (tree) => {
            const { twin: options } = recipe;
            if (options !== undefined) {
              const twin = `${scratch}/twin.ext4`;
              makeImage({ ...recipe, options }, twin, sources);
              await compareTwins(path, twin);
              if (hasKernel) await withTree(twin, (same) => assertKernelShows(twin, same));
            } else if (hasKernel) {
              assertEquals(assertKernelShows(path, tree) > 400, true);
            }
          });
        } catch (error) {
          throw new Error(`recipe "${recipe.name}": ${(error as Error).stack}`, { cause: error });
        }
      });
    }
  });
}

/** The same content in another kind of image, which the kernel can mount. */
async function compareTwins(path: string, twin: string): Promise<void> {
  const warnings = new Warnings(true);
  const images = [path, twin].map((file) => openExt4Image(openFileReader(file), { warnings }));
  try {
    const [found, wanted] = await Promise.all(images.map((image) => readTree(image, { warnings })));
    assertSameTrees(found!, wanted!, isOfMke2fs);
  } finally {
    for (const image of images) image.close();
  }
}

/** mke2fs leaves its own time on the root, and under inline_data ends files with holes on a whole block. */
function isOfMke2fs(path: string, field: string): boolean {
  return (path === "" && field === "mtime") ||
    (field === "size" && (path === "/far" || path === "/holes"));
}
