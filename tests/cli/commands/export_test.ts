import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { makeImage } from "../../ext4/made_image.ts";
import { dir, file, treeOf } from "../../oracle/tree_builder.ts";
import { readTar } from "../../tar/read.ts";
import { inDirectory, MAIN, runInBash, runProgramWith } from "../program.ts";

const blessfs = (args: readonly string[]) => runProgramWith(MAIN, args);

Deno.test("export writes a tar, reports it, and streams the same", async () => {
  await inDirectory(async (directory) => {
    const [image, tar] = [join(directory, "image"), join(directory, "tar")];
    await makeImage(image, treeOf({ etc: dir({ name: file("x") }) }));
    const run = blessfs(["export", image, "-o", tar]);
    assertEquals([run.code, run.stderr], [0, ""]);
    assertStringIncludes(run.stdout, "1 files, 2 directories");
    const bytes = readFileSync(tar);
    assertEquals(readTar(bytes).entries.map(({ path }) => path), ["./", "etc/", "etc/name"]);
    assertEquals(blessfs(["export", image, "-o", tar]).code, 4);
    const json = JSON.parse(blessfs(["export", image, "-fo", tar, "--json"]).stdout);
    assertEquals([json.source, json.tar, json.sizeBytes], [image, tar, bytes.length]);
    const streamed = runInBash(`$BLESSFS export "$IMAGE" -o - | cmp - "$TAR"`, {
      IMAGE: image,
      TAR: tar,
    });
    assertEquals([streamed.code, streamed.stderr], [0, ""]);
    assertEquals(blessfs(["export", image, "-o", "-", "--json"]).code, 2);
    assertEquals(blessfs(["export", image, "-o", image, "-f"]).code, 2);
    assert(blessfs(["export", join(directory, "none"), "-o", tar, "-f"]).code === 3);
    assertEquals(readFileSync(tar).compare(bytes), 0);
  });
});
