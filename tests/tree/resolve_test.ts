import { assertEquals } from "@std/assert";
import { resolvePath } from "../../lib/tree/paths.ts";
import { dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";

const TREE = treeOf({
  "bin": symlink("usr/bin"),
  "usr": dir({
    "bin": dir({ "sh": symlink("/usr/bin/dash"), "dash": file("x"), "up": symlink("../lib/a") }),
    "lib": dir({ "a": file("a") }),
  }),
  "loop": symlink("loop"),
  "out": symlink("../../../usr/lib/a"),
  "nowhere": symlink("/not/there"),
});

Deno.test("resolvePath follows links as the kernel does, inside of the tree", () => {
  const paths: readonly (readonly [string, string | undefined])[] = [
    ["/bin/sh", "/usr/bin/dash"],
    ["bin/sh", "/usr/bin/dash"],
    ["/bin/up", "/usr/lib/a"],
    ["/bin/../lib/./a", "/usr/lib/a"],
    ["//usr//lib/", "/usr/lib"],
    ["/", ""],
    ["/out", "/usr/lib/a"],
    ["/loop", undefined],
    ["/nowhere", undefined],
    ["/usr/lib/a/b", undefined],
    ["/usr/lib/a/..", undefined],
    ["/usr/none", undefined],
    [`/${"x".repeat(5000)}`, undefined],
  ];
  for (const [path, expected] of paths) {
    assertEquals(resolvePath(TREE, path)?.path, expected, path.slice(0, 40));
  }
});
