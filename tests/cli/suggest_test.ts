import { assertEquals } from "@std/assert";
import { editDistance, nearest, suggestionHint } from "../../cli/values.ts";

Deno.test("editDistance counts insertions, deletions, substitutions and swaps", () => {
  const table: [string, string, number][] = [
    ["", "", 0],
    ["", "abc", 3],
    ["abc", "", 3],
    ["bless", "blss", 1],
    ["bless", "belss", 1],
    ["verify", "vreify", 1],
    ["kitten", "sitting", 3],
    ["ca", "abc", 3],
  ];
  for (const [from, to, distance] of table) {
    assertEquals(editDistance(from, to), distance, `${from} ${to}`);
  }
});

Deno.test("nearest finds slips of the fingers, beginnings and other cases, but nothing far-fetched", () => {
  const words = ["bless", "verify", "ls", "cat", "align-threshold"];
  assertEquals(nearest("blss", words), ["bless"]);
  assertEquals(nearest("VERIFY", words), ["verify"]);
  assertEquals(nearest("sl", words), ["ls"]);
  assertEquals(nearest("align", words), ["align-threshold"]);
  assertEquals(nearest("xy", words), []);
  assertEquals(nearest("mount", words), []);
  assertEquals(nearest("", words), []);
  assertEquals(nearest("x".repeat(100_000), words), []);
});

Deno.test("suggestionHint lists several that are equally near", () => {
  assertEquals(suggestionHint("bsh", ["bash", "zsh", "fish"]), {
    hint: "did you mean `bash` or `zsh`?",
  });
  assertEquals(suggestionHint("grdi", ["grid"], (name) => `--${name}`), {
    hint: "did you mean `--grid`?",
  });
  assertEquals(suggestionHint("what", ["grid"]), {});
});
