// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Times blessfs beside other programs that do comparable work, in pairs, in the same run:
 *
 *     deno task bench                                all rows, on a generated image
 *     deno task bench --source oci:DIR[:REF]         on a real one
 *     deno task bench igzip zstd                     some rows
 *     deno task bench --write                        keep the table in bench/results
 *     deno task bench --compare RESULT.md            put the ratios of an older table beside the new ones
 *     deno task bench --scale                        the table of scale instead
 *     deno task bench --all                          both tables
 *     BLESSFS_BINARY=dist/blessfs deno task bench    the built program
 *
 * Absolute times are the machine's; ratios can be compared.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { measureRow, type Row, type RowOutcome, ROWS } from "./rows.ts";
import { compareTables } from "./compare.ts";
import { type Scale, scaleLines, SCALES } from "./scale.ts";
import { writeSampleImage } from "./sample_image.ts";

const DEFAULT_RUN_COUNT = 5;

/** What the figures are of. */
function machine(): string {
  const memoryGib = (totalmem() / 2 ** 30).toFixed(0);
  const program = Deno.env.has("BLESSFS_BINARY")
    ? "the built program"
    : `the sources under Deno ${Deno.version.deno}`;
  const model = cpus()[0]?.model.trim() ?? "processor";
  const load = loadavg()[0]!.toFixed(1);
  return `${availableParallelism()} x ${model}, ${memoryGib} GiB, Linux ${release()}; ${program}; ` +
    `files on ${fileSystem(tmpdir())}; load ${load} at the start`;
}

function fileSystem(directory: string): string {
  const { status, stdout } = spawnSync("stat", ["-f", "-c", "%T", directory], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : "an unknown file system";
}

function line(row: Row, outcome: RowOutcome): string {
  const cells = [row.work, row.peer];
  if (outcome.kind === "pair") {
    const { oursMs, peerMs, ratio, processor, peakBytes } = outcome.result;
    const seconds = (milliseconds: number) =>
      (milliseconds / 1000).toFixed(milliseconds < 100 ? 3 : 2);
    const peak = peakBytes === undefined ? "" : (peakBytes / 2 ** 20).toFixed(0);
    cells.push(seconds(oursMs), seconds(peerMs), ratio.toFixed(2));
    cells.push(seconds(processor.oursMs), seconds(processor.peerMs), processor.ratio.toFixed(2));
    cells.push(peak);
  } else {
    const text = outcome.kind === "figure" ? outcome.text : `not run: ${outcome.why}`;
    cells.push(text, "", "", "", "", "", "");
  }
  return `| ${[...cells, row.goal].join(" | ")} |`;
}

/** Prints a table line by line, and keeps it. */
class Table {
  readonly lines: string[] = [];

  add(...lines: readonly string[]): void {
    this.lines.push(...lines);
    console.log(lines.join("\n"));
  }
}

async function measureRows(
  rows: readonly Row[],
  source: string,
  scratch: string,
  runCount: number,
): Promise<string[]> {
  const table = new Table();
  table.add(
    machine(),
    "",
    `Medians of ${runCount} pairs, after one that is not counted; one alone where it takes over half a minute.`,
    "",
    "| work | beside | wall s | its wall s | wall ratio | cpu s | its cpu s | cpu ratio | peak MiB | goal |",
    "| ---- | ------ | -----: | ---------: | ---------: | ----: | --------: | --------: | -------: | ---- |",
  );
  for (const row of rows) {
    table.add(line(row, await measureRow(row, { source, scratch, runCount })));
  }
  return table.lines;
}

/** The lines of the table of scale. */
function measureScales(scales: readonly Scale[], scratch: string): string[] {
  const table = new Table();
  table.add(
    machine(),
    "",
    "The second of two runs each.",
    "",
    "| work | cores | wall s | cpu s | peak MiB |",
    "| ---- | ----: | -----: | ----: | -------: |",
  );
  for (const scale of scales) for (const text of scaleLines(scale, scratch)) table.add(text);
  return table.lines;
}

async function main(): Promise<void> {
  const options = parseArgs(Deno.args, {
    string: ["source", "runs", "compare", "_"],
    boolean: ["write", "scale", "all"],
    default: { runs: String(DEFAULT_RUN_COUNT) },
    unknown: (word) => {
      if (word.startsWith("-")) throw new TypeError(`no option ${word}`);
    },
  });
  const names = options._.map(String);
  const known = [...ROWS, ...SCALES].map(({ name }) => name);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new TypeError(`no row ${unknown}: there are ${known.join(", ")}`);
  }
  const chosen = <T extends { readonly name: string }>(all: readonly T[], isTable: boolean) =>
    names.length > 0 ? all.filter(({ name }) => names.includes(name)) : isTable ? all : [];
  const rows = chosen(ROWS, Boolean(options.all) || !options.scale);
  const scales = chosen(SCALES, Boolean(options.all || options.scale));
  const olderTable = options.compare === undefined
    ? undefined
    : readFileSync(String(options.compare), "utf8");
  const scratch = mkdtempSync(`${tmpdir()}/blessfs-bench-`);
  try {
    if (options.source === undefined && rows.length > 0) writeSampleImage(`${scratch}/sample`);
    const source = String(options.source ?? `oci:${scratch}/sample`);
    const tables: string[][] = [];
    if (rows.length > 0) {
      tables.push(await measureRows(rows, source, scratch, Number(options.runs)));
    }
    if (tables.length > 0) console.log("");
    if (scales.length > 0) tables.push(measureScales(scales, scratch));
    const text = tables.map((lines) => lines.join("\n")).join("\n\n");
    if (olderTable !== undefined) {
      console.log(["", ...compareTables(olderTable, text)].join("\n"));
    }
    if (options.write) keep(text);
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Writes bench/results/DATE.md. */
function keep(tables: string): void {
  const date = new Date().toISOString().slice(0, 10);
  const path = new URL(`./results/${date}.md`, import.meta.url).pathname;
  const revision = readFileSync(new URL("../deno.json", import.meta.url), "utf8");
  const { version } = JSON.parse(revision) as { version: string };
  writeFileSync(path, `# ${date}, blessfs ${version}\n\n${tables}\n`);
  console.log(`\nwritten to ${path}`);
}

await main();
