/** kill -9 in the middle of restoring, of pruning and of writing beside it: the next try goes on, and nothing is lost. */
import { assert, assertEquals } from "@std/assert";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chunksOf, decodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { chunkPath } from "../../lib/chunk/chunk.ts";
import { PARTIAL_ENDING } from "../../lib/chunk/restore.ts";
import { MAIN, programWords, RunningProgram } from "../cli/program.ts";
import { noise, withDirectory } from "./helpers.ts";

const CHUNK_BYTES = 16384;
const CHUNKS = 3000;

function start(...words: string[]): RunningProgram {
  const [program, ...before] = programWords(MAIN);
  return new RunningProgram(program!, [...before, ...words]);
}

async function must(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await start(...words).ended;
  assertEquals(code, 0, stderr);
  return stdout;
}

/** Kills a program after a while, unless it has ended; whether it was killed. */
async function killAfter(milliseconds: number, ...words: string[]): Promise<boolean> {
  const program = start(...words);
  const timer = setTimeout(() => program.signal("SIGKILL"), milliseconds);
  const { code, stderr } = await program.ended;
  clearTimeout(timer);
  if (code !== 0) assert(code === null || code === 137, `${code}: ${stderr}`);
  return code !== 0;
}

/** How long a run takes from its start to its end. */
async function duration(...words: string[]): Promise<number> {
  const started = performance.now();
  await must(...words);
  return performance.now() - started;
}

/** Two files in a store that have two thirds of their chunks in common, with holes. */
async function makeStore(at: (name: string) => string): Promise<Buffer> {
  const first = Buffer.alloc(CHUNKS * CHUNK_BYTES + 777);
  first.set(noise(first.length, 1));
  first.fill(0, 100 * CHUNK_BYTES, 150 * CHUNK_BYTES);
  const second = Buffer.from(first);
  second.set(noise(CHUNKS / 3 * CHUNK_BYTES, 2), 1000 * CHUNK_BYTES);
  writeFileSync(at("first"), first);
  writeFileSync(at("second"), second);
  for (const name of ["first", "second"]) {
    await must(
      ...["chunk", at(name), "--create-store", "--store", at("store"), "-o", at(`${name}.caibx`)],
      ...["--grid", String(CHUNK_BYTES), "--zstd-level", "1"],
    );
  }
  return first;
}

function missing(at: (name: string) => string, name: string): number {
  const index = decodeChunkIndex(new Uint8Array(readFileSync(at(`${name}.caibx`))), name);
  return [...chunksOf(index)].filter(({ id }) => !existsSync(at(`store/${chunkPath(id)}`))).length;
}

Deno.test("a restore that is killed again and again goes on until the file is whole", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const file = await makeStore(at);
    const words = ["restore", at("first.caibx"), "--store", at("store"), "-o", at("out")];
    const whole = await duration(...words);
    rmSync(at("out"));
    let killed = 0;
    for (let round = 0; round < 60; round++) {
      // From just after the start to just before the end.
      if (!await killAfter(whole * (0.3 + 0.7 * ((round * 7) % 20) / 20), ...words)) {
        assert(readFileSync(at("out")).equals(file), `round ${round}`);
        rmSync(at("out"));
        continue;
      }
      killed++;
      // The name is only there when the file is whole: the signal may come behind the end of the work.
      if (existsSync(at("out"))) {
        assert(readFileSync(at("out")).equals(file), `round ${round}`);
        rmSync(at("out"));
      }
      // What a crash of the machine would leave: pieces that never came to the disk.
      const partial = at(`out${PARTIAL_ENDING}`);
      if (round % 5 !== 0 || !existsSync(partial)) continue;
      const bytes = readFileSync(partial);
      bytes.fill(0, round * 100_000, round * 100_000 + 70_000);
      writeFileSync(partial, bytes);
    }
    assert(killed >= 20, `only ${killed} were killed`);
    const counts = JSON.parse(await must(...words, "--json", "--force"));
    assertEquals(counts.sizeBytes, file.length);
    assert(readFileSync(at("out")).equals(file));
    assertEquals(existsSync(at(`out${PARTIAL_ENDING}`)), false);
  });
});

Deno.test("a prune that is killed again and again loses nothing that an index names, and is in nobody's way", async () => {
  await withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    await makeStore(at);
    const words = ["prune", "--store", at("store"), "--grace", "0", at("first.caibx")];
    const dryRun = await duration(...words, "--dry-run");
    let killed = 0;
    let fewer = 0;
    let left = missing(at, "second");
    for (let round = 0; round < 24; round++) {
      if (await killAfter(dryRun * (0.4 + 0.9 * ((round * 7) % 20) / 20), ...words)) killed++;
      assertEquals(missing(at, "first"), 0, `round ${round}`);
      const now = missing(at, "second");
      if (now > left) fewer++;
      left = now;
      // Everything is removed now and then, and a writer brings it back beside the marks of those who were killed.
      if (left < 1000 && round % 8 !== 7) continue;
      await must(
        ...["chunk", at("second"), "--store", at("store"), "-o", at("second.caibx"), "--force"],
        ...["--grid", String(CHUNK_BYTES), "--zstd-level", "1"],
      );
      left = missing(at, "second");
      assertEquals(left, 0, `round ${round}`);
    }
    assert(killed >= 6 && fewer >= 2, `${killed} killed, ${fewer} in the middle`);
    await must(...words);
    assertEquals([missing(at, "first"), missing(at, "second")], [0, 1000]);
    assertEquals(readdirSync(at("store")).filter((name) => name.startsWith(".")), []);
    const verified = JSON.parse(await must("store", "verify", "--store", at("store"), "--json"));
    assertEquals(verified.damaged, []);
  });
});
