// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Times blessfs beside other programs that do comparable work, in pairs, in the same run:
 *
 *     deno task bench                                all rows, on a generated image
 *     deno task bench --source oci:DIR[:REF]         on a real one
 *     deno task bench igzip zstd                     some rows
 *     deno task bench --write                        keep the table in bench/results
 *     deno task bench --compare RESULT.md            put the ratios of an older table beside the new ones
 *     deno task bench --scale                        the table of scale instead (names of its rows: only those)
 *     BLESSFS_BINARY=dist/blessfs deno task bench    the built program
 *
 * Absolute times are the machine's; ratios can be compared.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { measureRow, type Row, type RowOutcome, ROWS } from "./rows.ts";
import { compareTables } from "./compare.ts";
import { measureScales, SCALES } from "./scale.ts";
import { writeSampleImage } from "./sample_image.ts";

const DEFAULT_RUN_COUNT = 5;

function machine(): string {
  const memoryGib = (totalmem() / 2 ** 30).toFixed(0);
  const program = Deno.env.has("BLESSFS_BINARY")
    ? "the built program"
    : `Deno ${Deno.version.deno}`;
  const model = cpus()[0]?.model.trim() ?? "processor";
  return `${availableParallelism()} x ${model}, ${memoryGib} GiB, Linux ${release()}, ${program}, load ${
    loadavg()[0]!.toFixed(1)
  } at the start`;
}

function line(row: Row, outcome: RowOutcome): string {
  const cells = [row.work, row.peer];
  if (outcome.kind === "pair") {
    const { oursMs, peerMs, ratio, processor, peakBytes } = outcome.result;
    const seconds = (milliseconds: number) => (milliseconds / 1000).toFixed(2);
    const peak = peakBytes === undefined ? "" : (peakBytes / 2 ** 20).toFixed(0);
    cells.push(seconds(oursMs), seconds(peerMs), ratio.toFixed(2));
    if (processor === undefined) cells.push("", "", "");
    else {
      cells.push(seconds(processor.oursMs), seconds(processor.peerMs), processor.ratio.toFixed(2));
    }
    cells.push(peak);
  } else {
    const text = outcome.kind === "figure" ? outcome.text : `not run: ${outcome.why}`;
    cells.push(text, "", "", "", "", "", "");
  }
  return `| ${[...cells, row.goal].join(" | ")} |`;
}

async function main(): Promise<void> {
  const options = parseArgs(Deno.args, {
    string: ["source", "runs", "compare", "_"],
    boolean: ["write", "scale"],
  });
  const names = options._.map(String);
  const known = options.scale ? SCALES : ROWS;
  const unknown = names.find((name) => !known.some((row) => row.name === name));
  if (unknown !== undefined) {
    throw new TypeError(`no row ${unknown}: there are ${known.map(({ name }) => name).join(", ")}`);
  }
  const older = options.compare as string | undefined;
  const olderTable = older === undefined ? undefined : readFileSync(older, "utf8");
  const scratch = mkdtempSync(`${tmpdir()}/blessfs-bench-`);
  try {
    if (options.scale) return measureScales(names, scratch, machine());
    const given = options.source as string | undefined;
    if (given === undefined) writeSampleImage(`${scratch}/sample`);
    const source = given ?? `oci:${scratch}/sample`;
    const runCount = Number(options.runs ?? DEFAULT_RUN_COUNT);
    const table = [
      machine(),
      "",
      `Medians of ${runCount} pairs, after one that is not counted.`,
      "",
      "| work | beside | wall s | its wall s | wall ratio | cpu s | its cpu s | cpu ratio | peak MiB | goal |",
      "| ---- | ------ | -----: | ---------: | ---------: | ----: | --------: | --------: | -------: | ---- |",
    ];
    console.log(table.join("\n"));
    for (const row of ROWS) {
      if (names.length > 0 && !names.includes(row.name)) continue;
      const outcome = await measureRow(row, { source, scratch, runCount });
      table.push(line(row, outcome));
      console.log(table.at(-1));
    }
    if (olderTable !== undefined) {
      console.log(["", ...compareTables(olderTable, table.join("\n"))].join("\n"));
    }
    if (options.write) keep(table);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Writes bench/results/DATE.md. */
function keep(table: readonly string[]): void {
  const date = new Date().toISOString().slice(0, 10);
  const path = new URL(`./results/${date}.md`, import.meta.url).pathname;
  const revision = readFileSync(new URL("../deno.json", import.meta.url), "utf8");
  const { version } = JSON.parse(revision) as { version: string };
  writeFileSync(path, [`# ${date}, blessfs ${version}`, "", ...table, ""].join("\n"));
  console.log(`\nwritten to ${path}`);
}

await main();
