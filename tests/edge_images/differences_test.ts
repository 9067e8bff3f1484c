import { assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { EDGE_IMAGES } from "./cases.ts";

const PAGE = readFileSync(new URL("../../docs/DIFFERENCES.md", import.meta.url), "utf8");

/** The rows of the table under a heading, cells as they stand. */
function rowsUnder(heading: string): string[][] {
  const section = PAGE.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
  return section.split("\n").filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
}

Deno.test("docs/DIFFERENCES.md has the edge images that umoci unpacks in another way, with the reasons", () => {
  assertEquals(
    rowsUnder("umoci"),
    EDGE_IMAGES.flatMap(({ name, umociDiffers }) =>
      umociDiffers === undefined ? [] : [[`\`${name}\``, umociDiffers]]
    ),
  );
});

Deno.test("docs/DIFFERENCES.md has the edge images that overlayfs shows in another way, with the reasons", () => {
  assertEquals(
    rowsUnder("overlayfs"),
    EDGE_IMAGES.flatMap(({ name, stackDiffers }) =>
      stackDiffers === undefined ? [] : [[`\`${name}\``, stackDiffers]]
    ),
  );
});
