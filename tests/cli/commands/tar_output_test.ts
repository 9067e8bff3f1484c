import { assertEquals } from "@std/assert";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { COMMANDS } from "../../../cli/commands.ts";
import { contentText } from "../../../cli/commands/export.ts";
import { noCounts } from "../../../lib/bless/export.ts";
import { runFake } from "../fake_io.ts";
import { inDirectory } from "../program.ts";

Deno.test("contentText names what there is, and nothing when there is nothing", () => {
  assertEquals(contentText(noCounts()), "nothing");
  assertEquals(
    contentText({ ...noCounts(), files: 1200, whiteouts: 1 }),
    "1,200 files, 1 whiteouts",
  );
});

Deno.test("export and diff refuse a tar inside of a tree that they read", async () => {
  await inDirectory(async (directory) => {
    const tree = join(directory, "tree");
    mkdirSync(tree);
    const output = ["-o", join(tree, "x.tar")];
    for (const source of [tree, `rootfs:${tree}`]) {
      for (const words of [["export", source], ["diff", "tar:no.tar", source]]) {
        const { code, stderr } = await runFake([...words, ...output], COMMANDS);
        assertEquals([code, stderr.includes("lies inside its source")], [2, true], stderr);
      }
    }
    assertEquals(readdirSync(tree), []);
  });
});
