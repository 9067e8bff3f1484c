// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * How long the calling thread stands still while a blesser blesses several images at once, by the monitor of node:perf_hooks:
 *
 *     deno run -A bench/stall.ts SOURCE ... [--count 12]
 *
 * The sources are taken in turn. On a busy machine, give the calling thread alone the real-time class, so that other
 * programs do not count: `chrt --reset-on-fork --fifo 1 deno run ...`. Under Node, import the npm package instead of mod.ts.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import process from "node:process";
import { createBlesser, createFileSink } from "../mod.ts";

const { _: sources, count = "12" } = parseArgs(process.argv.slice(2), { string: ["count", "_"] });
if (sources.length === 0) throw new Error("usage: deno run -A bench/stall.ts SOURCE ...");

const directory = mkdtempSync(join(tmpdir(), "stall-"));
const delay = monitorEventLoopDelay({ resolution: 1 });
const blesser = createBlesser();
try {
  delay.enable();
  const started = performance.now();
  await Promise.all(
    Array.from({ length: Number(count) }, (_, i) =>
      blesser.blessMerged({
        source: String(sources[i % sources.length]),
        sink: createFileSink(join(directory, `${i}.ext4`)),
      })),
  );
  delay.disable();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const [longest, usual] = [delay.max, delay.percentile(99.9)].map((ns) => (ns / 1e6).toFixed(1));
  console.log(`${count} images in ${seconds} s; longest ${longest} ms, 99.9 % under ${usual} ms`);
} finally {
  await blesser.close();
  rmSync(directory, { recursive: true });
}
