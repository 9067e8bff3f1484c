import { assertEquals } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loopDeviceOf } from "../../lib/io/paths.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";

Deno.test("loopDeviceOf finds the device whose backing file it is", () => {
  withTemporaryDirectory((directory) => {
    for (const [name, file] of [["loop0", "/a"], ["loop7", "/b c"], ["sda", "/d"]] as const) {
      mkdirSync(join(directory, name, "loop"), { recursive: true });
      writeFileSync(join(directory, name, "loop/backing_file"), `${file}\n`);
    }
    mkdirSync(join(directory, "loop8"));
    assertEquals(loopDeviceOf("/b c", directory), "/dev/loop7");
    assertEquals(loopDeviceOf("/d", directory), undefined);
    assertEquals(loopDeviceOf("/b", directory), undefined);
    assertEquals(loopDeviceOf("/a", join(directory, "missing")), undefined);
  });
});
