import { assertEquals, assertThrows } from "@std/assert";
import { lstatSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { IoError } from "../../lib/errors.ts";
import { statIfThere } from "../../lib/io/paths.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";

Deno.test("statIfThere tells nothing from a link to nothing and from what cannot be looked at", async () => {
  await withTemporaryDirectory((directory) => {
    assertEquals(statIfThere(join(directory, "none")), undefined);
    assertEquals(statIfThere(directory)?.isDirectory(), true);
    const link = join(directory, "link");
    symlinkSync("none", link);
    assertEquals(statIfThere(link), undefined);
    assertEquals(statIfThere(link, lstatSync)?.isSymbolicLink(), true);
    writeFileSync(join(directory, "file"), "");
    assertEquals(statIfThere(join(directory, "file/below")), undefined);
    const loop = join(directory, "loop");
    symlinkSync("loop", loop);
    assertThrows(() => statIfThere(loop), IoError);
  });
});
