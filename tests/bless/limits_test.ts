import { assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { kebabCase } from "../../cli/errors.ts";
import { limitOptions, LIMITS } from "../../lib/bless/options.ts";
import { DEFAULT_SOURCE_LIMITS } from "../../lib/source/types.ts";
import { DEFAULT_TAR_LIMITS } from "../../lib/tar/header.ts";
import { DEFAULT_TREE_LIMITS } from "../../lib/tree/paths.ts";

const PAGE = readFileSync(new URL("../../docs/LIMITS.md", import.meta.url), "utf8");

function plural(count: number): string {
  return count.toLocaleString("en-US");
}

Deno.test("docs/LIMITS.md has a row for each limit, with its default, and no other", () => {
  const rows = PAGE.split("\n").filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  assertEquals(
    rows,
    LIMITS.map(({ name, defaultValue, isFixed, summary }) => [
      `\`${kebabCase(name)}\``,
      plural(defaultValue),
      isFixed ? "no" : "yes",
      summary,
    ]),
  );
});

Deno.test("LIMITS has every limit of the parts, once by name", () => {
  const keys = [DEFAULT_SOURCE_LIMITS, DEFAULT_TAR_LIMITS, DEFAULT_TREE_LIMITS].flatMap((
    defaults,
  ) => Object.keys(defaults));
  const names = LIMITS.map(({ name }) => name);
  assertEquals(new Set(names).size, names.length);
  assertEquals(names.length, new Set(keys).size);
  // Two parts have this one, and it is one limit.
  assertEquals(DEFAULT_TAR_LIMITS.pathDepth, DEFAULT_TREE_LIMITS.pathDepth);
  assertEquals(keys.length, names.length + 1);
});

Deno.test("limitOptions hands every limit to the part that has it", () => {
  const values = new Map(LIMITS.map(({ name }, i) => [name, i]));
  const { limits, tarLimits, treeLimits } = limitOptions(values);
  assertEquals(Object.keys(limits!), Object.keys(DEFAULT_SOURCE_LIMITS));
  assertEquals(Object.keys(tarLimits!), Object.keys(DEFAULT_TAR_LIMITS));
  assertEquals(Object.keys(treeLimits!), Object.keys(DEFAULT_TREE_LIMITS));
  assertEquals(tarLimits!.pathDepth, treeLimits!.pathDepth);
  assertEquals(limitOptions(new Map()), { limits: {}, tarLimits: {}, treeLimits: {} });
});
