import { assertEquals, assertStringIncludes } from "@std/assert";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { makeImage } from "../../ext4/made_image.ts";
import { file, treeOf } from "../../oracle/tree_builder.ts";
import { readTar } from "../../tar/read.ts";
import { inDirectory, MAIN, runProgramWith } from "../program.ts";

const blessfs = (args: readonly string[]) => runProgramWith(MAIN, args);

Deno.test("diff writes the layer, and says by its exit code whether there is a difference", async () => {
  await inDirectory(async (directory) => {
    const [a, b, layer] = ["a", "b", "layer"].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    await makeImage(a, treeOf({ gone: file("x"), kept: file("y") }));
    await makeImage(b, treeOf({ kept: file("y"), new: file("z") }));
    const run = blessfs(["diff", a, b, "-o", layer]);
    assertEquals([run.code, run.stderr], [0, ""]);
    assertStringIncludes(run.stdout, "1 added, 1 removed, 0 changed");
    const paths = readTar(readFileSync(layer)).entries.map(({ path }) => path);
    assertEquals(paths, [".wh.gone", "new"]);
    const compared = blessfs(["diff", a, b, "--exit-code", "--json"]);
    assertEquals(compared.code, 1);
    const json = JSON.parse(compared.stdout);
    assertEquals([json.added, json.removed, json.changed, json.isEqual], [1, 1, 0, false]);
    assertEquals([json.layer, json.sizeBytes, json.entries.whiteouts], [null, null, 1]);
    const same = blessfs(["diff", a, `ext4:${a}`, "--exit-code"]);
    assertEquals(same.code, 0);
    assertStringIncludes(same.stdout, "all the same");
    assertEquals(blessfs(["diff", "-", "-"]).code, 2);
    assertEquals(blessfs(["diff", a]).code, 2);
    const bad = join(directory, "bad");
    assertEquals(blessfs(["diff", a, join(directory, "none"), "-o", bad]).code, 3);
    assertEquals(existsSync(bad), false);
  });
});
