import { assertEquals } from "@std/assert";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { realPathOf } from "../../lib/io/paths.ts";

Deno.test("realPathOf follows links as far as there is something, and .. behind them", () => {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-real-"));
  try {
    const real = realpathSync(directory);
    mkdirSync(join(directory, "a/in"), { recursive: true });
    symlinkSync("a/in", join(directory, "b"));
    assertEquals(realPathOf(join(directory, "b/c/d")), join(real, "a/in/c/d"));
    assertEquals(realPathOf(join(directory, "b")), join(real, "a/in"));
    assertEquals(realPathOf(`${directory}/b/..`), join(real, "a"));
    assertEquals(realPathOf(`${directory}/b/../new`), join(real, "a/new"));
    assertEquals(realPathOf("/"), "/");
    assertEquals(realPathOf("no-such-name"), join(realpathSync("."), "no-such-name"));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
