import { assertEquals } from "@std/assert";
import { compareTables } from "../../bench/compare.ts";

const RULER = "| --- | --- | --: | --: | --: | --: |";

Deno.test("compareTables puts old and new figures of the same row side by side", () => {
  const older = [
    "| work | beside | s | its s | ratio | peak MiB |",
    RULER,
    "| a tar | cp | 2.00 | 1.00 | 2.00 | 100 |",
    "| gone | cp | 2.00 | 1.00 | 2.00 | 100 |",
  ].join("\n");
  const newer = [
    "| work | beside | wall s | wall ratio | cpu ratio | peak MiB |",
    RULER,
    "| a tar | cp | 1.00 | 1.00 | 3.00 | 150 |",
    "| new | cp | 1.00 | 1.00 | 3.00 | 150 |",
    "| a tar | tar2ext4 | not run: tar2ext4 is not installed | | | |",
  ].join("\n");
  assertEquals(compareTables(older, newer), [
    "| row | figure | old | new | new / old |",
    "| --- | ------ | --: | --: | --------: |",
    "| a tar, cp | wall ratio | 2.00 | 1.00 | 0.50 |",
    "| a tar, cp | peak MiB | 100 | 150 | 1.50 |",
  ]);
  assertEquals(compareTables(newer, newer).slice(2, 4), [
    "| a tar, cp | wall ratio | 1.00 | 1.00 | 1.00 |",
    "| a tar, cp | cpu ratio | 3.00 | 3.00 | 1.00 |",
  ]);
});

Deno.test("compareTables compares sizes by their cores", () => {
  const table = (seconds: string) =>
    [
      "| work | cores | wall s | cpu s | peak MiB |",
      "| ---- | ----: | -----: | ----: | -------: |",
      `| 1,000 files | 1 | 0.50 | ${seconds} | 70 |`,
      `| 1,000 files | 2 | 0.50 | ${seconds} | 70 |`,
    ].join("\n");
  assertEquals(
    compareTables(table("0.20"), table("0.10")).filter((line) => line.includes("cpu s")),
    [
      "| 1,000 files, 1 | cpu s | 0.20 | 0.10 | 0.50 |",
      "| 1,000 files, 2 | cpu s | 0.20 | 0.10 | 0.50 |",
    ],
  );
});
