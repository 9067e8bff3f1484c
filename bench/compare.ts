/**
 * Two tables of results side by side.
 *
 * @module
 */

/** What is compared; the second is how tables without processor time call the first. */
const FIGURES = [["wall ratio", "ratio"], ["cpu ratio"], ["peak MiB"]] as const;

/** The cells of each row by the names of the columns, under `work, beside`. */
function rowsOf(markdown: string): Map<string, Map<string, string>> {
  const rows = new Map<string, Map<string, string>>();
  let columns: string[] = [];
  for (const line of markdown.split("\n")) {
    if (!line.startsWith("|")) continue;
    const cells = line.split("|").slice(1, -1).map((cell) => cell.trim());
    if (cells[0] === "work") columns = cells;
    else if (!/^:?-+:?$/.test(cells[0]!)) {
      rows.set(
        `${cells[0]}, ${cells[1]}`,
        new Map(columns.map((name, i) => [name, cells[i] ?? ""])),
      );
    }
  }
  return rows;
}

/**
 * For each row of the new table that the old one has too: the old figures, the new ones, and new divided by old.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { compareTables } from "./compare.ts";
 * const table = (ratio: string) => `| work | beside | ratio |\n| - | - | - |\n| a | b | ${ratio} |`;
 * assertEquals(compareTables(table("2.00"), table("1.00")).at(-1), "| a, b | wall ratio | 2.00 | 1.00 | 0.50 |");
 * ```
 */
export function compareTables(older: string, newer: string): string[] {
  const lines = [
    "| row | figure | old | new | new / old |",
    "| --- | ------ | --: | --: | --------: |",
  ];
  const olderRows = rowsOf(older);
  for (const [row, cells] of rowsOf(newer)) {
    for (const names of FIGURES) {
      const valueIn = (found: ReadonlyMap<string, string> | undefined) =>
        names.map((name) => found?.get(name)).find((value) => value !== undefined) ?? "";
      const [before, after] = [valueIn(olderRows.get(row)), valueIn(cells)];
      if (before === "" || after === "" || Number.isNaN(Number(before) + Number(after))) continue;
      const change = (Number(after) / Number(before)).toFixed(2);
      lines.push(`| ${row} | ${names[0]} | ${before} | ${after} | ${change} |`);
    }
  }
  return lines;
}
