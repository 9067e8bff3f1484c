// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Times blessfs beside other programs that do comparable work, in pairs, in the same run:
 *
 *     deno task bench                                all rows, on a generated image
 *     deno task bench --source oci:DIR[:REF]         on a real one
 *     deno task bench igzip zstd                     some rows
 *     deno task bench --write                        keep the table in bench/results
 *     BLESSFS_BINARY=dist/blessfs deno task bench    the built program
 *
 * Absolute times are the machine's; ratios can be compared.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { measureRow, type Row, type RowOutcome, ROWS } from "./rows.ts";
import { writeSampleImage } from "./sample_image.ts";

const DEFAULT_RUN_COUNT = 5;

function machine(): string {
  const memoryGib = (totalmem() / 2 ** 30).toFixed(0);
  const program = Deno.env.has("BLESSFS_BINARY")
    ? "the built program"
    : `Deno ${Deno.version.deno}`;
  const model = cpus()[0]?.model.trim() ?? "processor";
  return `${availableParallelism()} x ${model}, ${memoryGib} GiB, Linux ${release()}, ${program}`;
}

function line(row: Row, outcome: RowOutcome): string {
  const cells = [row.work, row.peer];
  if (outcome.kind === "pair") {
    const { oursMs, peerMs, ratio, peakBytes } = outcome.result;
    const seconds = (milliseconds: number) => (milliseconds / 1000).toFixed(2);
    const peak = peakBytes === undefined ? "" : (peakBytes / 2 ** 20).toFixed(0);
    cells.push(seconds(oursMs), seconds(peerMs), ratio.toFixed(2), peak);
  } else {
    cells.push(outcome.kind === "figure" ? outcome.text : `not run: ${outcome.why}`, "", "", "");
  }
  return `| ${[...cells, row.goal].join(" | ")} |`;
}

async function main(): Promise<void> {
  const options = parseArgs(Deno.args, { string: ["source", "runs", "_"], boolean: ["write"] });
  const names = options._.map(String);
  const unknown = names.find((name) => !ROWS.some((row) => row.name === name));
  if (unknown !== undefined) {
    throw new TypeError(`no row ${unknown}: there are ${ROWS.map(({ name }) => name).join(", ")}`);
  }
  const scratch = mkdtempSync(`${tmpdir()}/blessfs-bench-`);
  try {
    const given = options.source as string | undefined;
    if (given === undefined) writeSampleImage(`${scratch}/sample`);
    const source = given ?? `oci:${scratch}/sample`;
    const runCount = Number(options.runs ?? DEFAULT_RUN_COUNT);
    const table = [
      machine(),
      "",
      `Medians of ${runCount} pairs, after one that is not counted.`,
      "",
      "| work | beside | s | its s | ratio | peak MiB | goal |",
      "| ---- | ------ | -: | ---: | ----: | -------: | ---- |",
    ];
    console.log(table.join("\n"));
    for (const row of ROWS) {
      if (names.length > 0 && !names.includes(row.name)) continue;
      const outcome = await measureRow(row, { source, scratch, runCount });
      table.push(line(row, outcome));
      console.log(table.at(-1));
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
