import { assertThrows } from "@std/assert";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { refuseInsideSource } from "../../../cli/commands/outputs.ts";
import { UsageError } from "../../../lib/errors.ts";
import { inDirectory } from "../program.ts";

Deno.test("refuseInsideSource refuses what lies in a tree, however both are written", async () => {
  await inDirectory((directory) => {
    const at = (name: string) => join(directory, name);
    mkdirSync(at("tree/deep"), { recursive: true });
    mkdirSync(at("tree2"));
    symlinkSync("tree/deep", at("way-in"));
    symlinkSync("../tree2", at("tree/way-out"));
    for (const source of [`rootfs:${at("tree")}`, at("tree"), `${at("way-in")}/..`]) {
      for (const output of ["tree", "tree/x", "tree/deep/x", "tree/new/x", "way-in", "way-in/x"]) {
        assertThrows(
          () => refuseInsideSource(at(output), source),
          UsageError,
          "lies inside its source",
          `${output} of ${source}`,
        );
      }
      assertThrows(() => refuseInsideSource(`${at("way-in")}/../x`, source), UsageError, "lies");
      for (const output of ["x", "tree2/x", "tree2", "new/x", "tree/way-out/x"]) {
        refuseInsideSource(at(output), source);
      }
    }
  });
});

Deno.test("refuseInsideSource lets layouts, archives, registries and missing trees be", async () => {
  await inDirectory((directory) => {
    writeFileSync(join(directory, "oci-layout"), "{}");
    writeFileSync(join(directory, "a.tar"), "");
    const file = join(directory, "a.tar");
    for (
      const source of [directory, `oci:${directory}`, `tar:${file}`, file, "-", "docker://a/b"]
    ) refuseInsideSource(join(directory, "x"), source);
    refuseInsideSource(join(directory, "x"), `rootfs:${join(directory, "missing")}`);
  });
});
