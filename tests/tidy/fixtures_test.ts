import { assertEquals, assertStringIncludes } from "@std/assert";
import { ROOT } from "./repository.ts";

Deno.test("fixtures/README.md has a line for every fixture, with what makes it", () => {
  const text = Deno.readTextFileSync(new URL("fixtures/README.md", ROOT));
  const rows = text.split("\n").filter((line) => line.startsWith("| ["));
  const listed = rows.map((line) => /^\| \[([^\]/]+)\/?\]/.exec(line)?.[1] ?? line);
  const present = [...Deno.readDirSync(new URL("fixtures", ROOT))]
    .map(({ name }) => name)
    .filter((name) => name !== "README.md");
  assertEquals(listed.sort(), present.sort());
  for (const row of rows) assertStringIncludes(row.split("|")[2]!, "`", row);
});
