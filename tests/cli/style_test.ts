import { assertEquals } from "@std/assert";
import { isColoured, styleOf } from "../../cli/text.ts";

Deno.test("isColoured lets the option win, then NO_COLOR, FORCE_COLOR, TERM and the terminal", () => {
  const table: [
    choice: "auto" | "always" | "never",
    env: Record<string, string>,
    terminal: boolean,
    coloured: boolean,
  ][] = [
    ["auto", {}, true, true],
    ["auto", {}, false, false],
    ["always", { NO_COLOR: "1" }, false, true],
    ["never", { FORCE_COLOR: "1" }, true, false],
    ["auto", { NO_COLOR: "1" }, true, false],
    ["auto", { NO_COLOR: "" }, true, true],
    ["auto", { NO_COLOR: "1", FORCE_COLOR: "1" }, true, false],
    ["auto", { FORCE_COLOR: "1" }, false, true],
    ["auto", { FORCE_COLOR: "0" }, true, false],
    ["auto", { FORCE_COLOR: "1", TERM: "dumb" }, false, true],
    ["auto", { TERM: "dumb" }, true, false],
  ];
  for (const [choice, env, terminal, coloured] of table) {
    assertEquals(
      isColoured(choice, env, terminal),
      coloured,
      JSON.stringify([choice, env, terminal]),
    );
  }
});

Deno.test("styleOf without colour changes nothing", () => {
  const plain = styleOf(false);
  assertEquals([plain.bold("a"), plain.red("b"), plain.dim("c")], ["a", "b", "c"]);
  assertEquals(styleOf(true).yellow("a"), "\x1b[33ma\x1b[39m");
});
