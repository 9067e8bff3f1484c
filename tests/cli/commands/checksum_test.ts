import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { mustRun } from "../../oracle/command.ts";
import { inDirectory, MAIN, runProgramWith } from "../program.ts";

const blessfs = (args: readonly string[]) => runProgramWith(MAIN, args);

Deno.test("checksum switches an image off and on, and says so", async () => {
  await inDirectory((directory) => {
    const image = join(directory, "image");
    mustRun("mke2fs", ["-q", "-F", "-t", "ext4", "-O", "metadata_csum", image, "4M"]);
    const off = blessfs(["checksum", "--disable", image]);
    assertEquals([off.code, off.stderr], [0, ""]);
    assertStringIncludes(off.stdout, "off now");
    mustRun("e2fsck", ["-fn", image]);
    assertStringIncludes(blessfs(["checksum", "--disable", image]).stdout, "off already");
    const on = JSON.parse(blessfs(["checksum", "--enable", image, "--json"]).stdout);
    assertEquals([on.image, on.metadataChecksums, on.changed], [image, true, true]);
    assert(on.inodes > 0 && on.writtenBytes > 1024);
    mustRun("e2fsck", ["-fn", image]);
    assertEquals(blessfs(["checksum", image]).code, 2);
    assertEquals(blessfs(["checksum", "--enable", "--disable", image]).code, 2);
    assertEquals(blessfs(["checksum", "--enable", directory]).code, 3);
    assertEquals(blessfs(["checksum", "--enable", `${image}.not`]).code, 3);
  });
});
