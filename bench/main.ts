// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Times `blessfs bless merged` against inflating the same layers with gzip, in turn, in the same run:
 *
 *     deno task bench                     a generated image
 *     deno task bench oci:DIR:REF ...     real ones
 *
 * Prints medians and their ratio. Absolute times are the machine's; ratios can be compared.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, openSync, rmSync, statSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { NO_PROGRESS } from "../lib/progress.ts";
import { openImage } from "../lib/source/source.ts";
import { Warnings } from "../lib/warnings.ts";
import { writeSampleImage } from "./sample_image.ts";

const RUN_COUNT = 5;
const MAIN = new URL("../cli/main.ts", import.meta.url).pathname;

interface Row {
  readonly source: string;
  readonly blessMs: number;
  readonly gzipMs: number;
  readonly storedBytes: number;
}

async function main(sources: readonly string[]): Promise<void> {
  const scratch = mkdtempSync(`${tmpdir()}/blessfs-bench-`);
  try {
    if (sources.length === 0) {
      writeSampleImage(`${scratch}/sample`);
      sources = [`oci:${scratch}/sample`];
    }
    console.log(`${availableParallelism()} processors, Deno ${Deno.version.deno}`);
    console.log(`median of ${RUN_COUNT} runs each, in turn, after one that is not counted\n`);
    console.log("source                          layers MiB   bless s   gzip -dc s   ratio");
    for (const source of sources) printRow(await measure(source, scratch));
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

async function measure(source: string, scratch: string): Promise<Row> {
  const layers = await gzipLayers(source);
  const bless: number[] = [];
  const gzip: number[] = [];
  for (let run = 0; run <= RUN_COUNT; run++) {
    const blessMs = timed(() => {
      const output = `${scratch}/image.ext4`;
      runProgram(Deno.execPath(), [
        "run",
        "-A",
        MAIN,
        "bless",
        source,
        "-o",
        output,
        "--force",
        "-q",
      ]);
    });
    const gzipMs = timed(() => layers.forEach((path) => inflate(path, `${scratch}/layer.tar`)));
    if (run === 0) continue;
    bless.push(blessMs);
    gzip.push(gzipMs);
  }
  const storedBytes = layers.reduce((sum, path) => sum + statSync(path).size, 0);
  return { source, blessMs: median(bless), gzipMs: median(gzip), storedBytes };
}

/** The files of a layout's layers. */
async function gzipLayers(source: string): Promise<string[]> {
  const directory = /^oci:([^:]+)/.exec(source)?.[1];
  if (directory === undefined) throw new TypeError(`wanted oci:DIR[:REF], found ${source}`);
  const image = await openImage(source, { progress: NO_PROGRESS, warnings: new Warnings() });
  const paths = image.layers.map(({ digest }) => `${directory}/blobs/${digest!.replace(":", "/")}`);
  image.close();
  return paths;
}

function inflate(path: string, target: string): void {
  const stdout = openSync(target, "w");
  const { status } = spawnSync("gzip", ["-dc", path], { stdio: ["ignore", stdout, "inherit"] });
  if (status !== 0) throw new Error(`gzip -dc ${path} ended with ${status}`);
}

function runProgram(program: string, args: readonly string[]): void {
  const { status } = spawnSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${status}`);
}

function timed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function printRow({ source, blessMs, gzipMs, storedBytes }: Row): void {
  const name = source.length > 31 ? `…${source.slice(-30)}` : source;
  console.log([
    name.padEnd(31),
    (storedBytes / 2 ** 20).toFixed(1).padStart(10),
    (blessMs / 1000).toFixed(2).padStart(9),
    (gzipMs / 1000).toFixed(2).padStart(12),
    (blessMs / gzipMs).toFixed(2).padStart(7),
  ].join(" "));
}

await main(Deno.args);
