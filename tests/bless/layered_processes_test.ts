import { assert, assertEquals, assertMatch } from "@std/assert";
import { readdirSync } from "node:fs";
import process from "node:process";
import { MAIN, programWords, RunningProgram } from "../cli/program.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { withDirectory } from "../source/helpers.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { blessTo, filesOf, writeLayers } from "./layered_helpers.ts";

/** How often processes are set against each other; more on request. */
const ROUNDS = Number(process.env["BLESSFS_RACE_ROUNDS"] ?? 1);
const PROCESSES = 3;

function payload(seed: number): Uint8Array {
  return new Uint8Array(3 << 20).map((_, i) => (i >> 8) * seed);
}

const BASE: readonly SimpleEntry[] = [
  { path: "./", mode: 0o711 },
  { path: "d/", mode: 0o700 },
  { path: "base", data: payload(3) },
];
/** Shows another tree on a base with other attributes. */
const LEANING: readonly SimpleEntry[] = [{ path: "d/f", data: payload(5) }];
const OTHER_BASE: readonly SimpleEntry[] = [{ path: "./" }, { path: "d/", mode: 0o750 }];

function start(source: string, out: string, ...more: string[]): RunningProgram {
  const [command, ...words] = programWords(MAIN);
  return new RunningProgram(command, [...words, "bless", "layered", source, "-o", out, ...more]);
}

async function runAll(programs: readonly RunningProgram[]) {
  return await Promise.all(programs.map(({ ended }) => ended));
}

/** Every image of a directory is clean and has a record, and nothing else lies there. */
function assertWhole(out: string): string[] {
  const names = readdirSync(out);
  for (const name of names) {
    assertMatch(
      name,
      /^([0-9a-f]{64}(-[0-9a-f]{16})?\.(ext4|json)|.{64}@.{16}\.json|image.*\.json)$/,
    );
    if (!name.endsWith(".ext4")) continue;
    assert(names.includes(name.replace(/ext4$/, "json")), `${name} has no record`);
    assertE2fsckClean(`${out}/${name}`);
  }
  return names.filter((name) => name.endsWith(".ext4"));
}

Deno.test("processes that bless the same layers into one directory at a time all succeed, and leave what one would", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, [BASE, LEANING]);
    await blessTo(`${directory}/alone`, `oci:${layout}`);
    const alone = filesOf(`${directory}/alone`);
    for (let round = 0; round < ROUNDS; round++) {
      const out = `${directory}/out-${round}`;
      const programs = Array.from({ length: PROCESSES }, () => start(`oci:${layout}`, out));
      for (const { code, stderr } of await runAll(programs)) assertEquals([code, stderr], [0, ""]);
      assertEquals(filesOf(out), alone);
    }
  });
});

Deno.test("processes that bless a layer which shows two trees at a time make an image of each", async () => {
  await withDirectory(async (directory) => {
    const [one, two] = [`${directory}/one`, `${directory}/two`];
    writeLayers(one, [BASE, LEANING]);
    writeLayers(two, [OTHER_BASE, LEANING]);
    for (let round = 0; round < ROUNDS; round++) {
      const out = `${directory}/out-${round}`;
      const programs = [one, two, one, two].map((layout) => start(`oci:${layout}`, out));
      for (const { code, stderr } of await runAll(programs)) assertEquals([code, stderr], [0, ""]);
      assertEquals(assertWhole(out).length, 4);
      for (const layout of [one, two]) {
        assertEquals((await blessTo(out, `oci:${layout}`)).reusedLayers, 2);
      }
    }
  });
});

Deno.test("of processes that bless a layer with other options at a time, those of the first succeed and the others say why not", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, [BASE]);
    for (let round = 0; round < ROUNDS; round++) {
      const out = `${directory}/out-${round}`;
      const labels = ["a", "b", "a", "b"];
      const programs = labels.map((label) => start(`oci:${layout}`, out, "--label", label));
      const outcomes = await runAll(programs);
      assertEquals(assertWhole(out).length, 1);
      const winner = outcomes.findIndex(({ code }) => code === 0);
      for (const [i, { code, stderr }] of outcomes.entries()) {
        if (labels[i] === labels[winner]) assertEquals([code, stderr], [0, ""]);
        else {
          assertEquals(code, 4);
          assertMatch(
            stderr,
            /cannot be reused: (it was made with other options: --label|its record .* is missing)/,
          );
        }
      }
      const report = await blessTo(out, `oci:${layout}`, {}, { label: labels[winner] });
      assertEquals(report.reusedLayers, 1);
    }
  });
});

Deno.test("a process that is killed leaves no half image under a name, and the next one goes on", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, [BASE, LEANING, OTHER_BASE]);
    await blessTo(`${directory}/alone`, `oci:${layout}`);
    const alone = filesOf(`${directory}/alone`);
    const out = `${directory}/out`;
    for (let round = 0; round < ROUNDS * 3; round++) {
      const program = start(`oci:${layout}`, out, "--force");
      const delay = 150 + 40 * round;
      const timer = setTimeout(() => program.signal("SIGKILL"), delay);
      await program.ended;
      clearTimeout(timer);
      for (const name of existing(out).filter((each) => each.endsWith(".ext4"))) {
        assertEquals(filesOf(out)[name], alone[name], name);
      }
    }
    const outcome = await start(`oci:${layout}`, out).ended;
    assertEquals([outcome.code, outcome.stderr], [0, ""]);
    const left = Object.entries(filesOf(out)).filter(([name]) => !name.includes(".part-"));
    assertEquals(Object.fromEntries(left), alone);
  });
});

function existing(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
