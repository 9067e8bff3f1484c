import { assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { withTree } from "../../lib/bless/load_tree.ts";
import { openFilesBelow, sampleTar, testOptions, withDirectory } from "../source/helpers.ts";

Deno.test("withTree hands over the tree and what names it, and closes the source in any case", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "tar");
    writeFileSync(path, sampleTar());
    const names = await withTree(path, testOptions(), ({ tree, identity }) => {
      assertEquals(identity.contentDigest.startsWith("sha256:"), true);
      return Promise.resolve([...tree.root.children.keys()].sort());
    });
    assertEquals(names, ["big-1", "etc", "link"]);
    await assertRejects(() => withTree(path, testOptions(), () => Promise.reject(new Error("no"))));
    assertEquals(openFilesBelow(directory), []);
  });
});
