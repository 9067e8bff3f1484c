import { assert, assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { walkTree } from "../../lib/model/node.ts";
import { excludeFrom, parsePatterns } from "../../lib/tree/exclude.ts";
import { dir, file, treeOf } from "../oracle/tree_builder.ts";

function sample() {
  return treeOf({
    usr: dir({
      share: dir({ doc: dir({ bash: dir({ README: file("r") }), zsh: dir({ NEWS: file("n") }) }) }),
      lib: dir({ "libstdc++.so": file("l"), "a(b){c}|d": file("x"), "mod.pyc": file("p") }),
    }),
    "mod.pyc": file("p"),
    constructor: file("c"),
    empty: dir(),
  });
}

async function left(...patterns: string[]): Promise<{ names: string[]; unmatched: string[] }> {
  const tree = sample();
  const { removedNames, unmatched } = await excludeFrom(tree, await parsePatterns(patterns));
  const names = [...walkTree(tree)].map(({ path }) => path.slice(1)).filter((path) => path !== "");
  assertEquals(removedNames, [...walkTree(sample())].length - 1 - names.length);
  return { names, unmatched: [...unmatched] };
}

Deno.test("excludeFrom takes a directory with all that is in it", async () => {
  const { names } = await left("usr/share/doc");
  assert(names.includes("usr/share"));
  assert(!names.some((name) => name.includes("doc")));
  assertEquals((await left("/usr/share/doc/")).names, names);
});

Deno.test("excludeFrom lets the last pattern decide, and keeps directories of what is kept", async () => {
  const { names } = await left("usr", "!usr/share/doc/bash/README", "**/README");
  assertEquals(names, ["constructor", "empty", "mod.pyc"]);
  const kept = await left("usr", "!usr/share/doc/bash");
  assertEquals(kept.names.filter((name) => name.startsWith("usr")), [
    "usr",
    "usr/share",
    "usr/share/doc",
    "usr/share/doc/bash",
    "usr/share/doc/bash/README",
  ]);
});

Deno.test("excludeFrom knows the wildcards of .dockerignore files, and nothing else", async () => {
  const without = async (pattern: string) => {
    const { names } = await left(pattern);
    const all = (await left("nothing")).names;
    return all.filter((name) => !names.includes(name));
  };
  assertEquals(await without("**/*.pyc"), ["mod.pyc", "usr/lib/mod.pyc"]);
  assertEquals(await without("*.pyc"), ["mod.pyc"]);
  assertEquals(await without("usr/*/mod.py[a-c]"), ["usr/lib/mod.pyc"]);
  assertEquals(await without("usr/lib/mod.py?"), ["usr/lib/mod.pyc"]);
  assertEquals(await without("usr/lib/libstdc++.so"), ["usr/lib/libstdc++.so"]);
  assertEquals(await without("usr/lib/a(b){c}|d"), ["usr/lib/a(b){c}|d"]);
  assertEquals(await without("constructor"), ["constructor"]);
  assertEquals(await without("MOD.pyc"), []);
  assertEquals(await without("empty"), ["empty"]);
});

Deno.test("excludeFrom names the patterns that match nothing", async () => {
  const { unmatched } = await left("usr/share/doc", "nope/**", "!neither", "usr/lib");
  assertEquals(unmatched, ["nope/**", "!neither"]);
});

Deno.test("parsePatterns refuses what is not a pattern", async () => {
  for (const text of ["", " ", "!", "# comment", "[a"]) {
    await assertRejects(() => parsePatterns([text]), UsageError, "not a pattern", text);
  }
});
