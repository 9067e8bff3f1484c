/**
 * Two tables of results side by side.
 *
 * @module
 */

/** What is compared; tables without processor time call the first one `ratio`. Seconds are those of the table of scale. */
const PAIR_FIGURES = [["wall ratio", "ratio"], ["cpu ratio"], ["peak MiB"]] as const;
const SCALE_FIGURES = [["wall s"], ["cpu s"], ["peak MiB"]] as const;

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
 */
export function compareTables(older: string, newer: string): string[] {
  const lines = [
    "| row | figure | old | new | new / old |",
    "| --- | ------ | --: | --: | --------: |",
  ];
  const olderRows = rowsOf(older);
  for (const [row, cells] of rowsOf(newer)) {
    for (const names of cells.has("cores") ? SCALE_FIGURES : PAIR_FIGURES) {
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
