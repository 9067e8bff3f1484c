import { assertEquals } from "@std/assert";
import { withTemporaryDirectory } from "../oracle/command.ts";
import {
  aboutMinutes,
  groupFiles,
  recordedTimes,
  RunProgress,
  testFiles,
  timesWithGroups,
} from "../../tools/test_plan.ts";

Deno.test("testFiles gives the files of a tier, the slowest first", () => {
  withTemporaryDirectory((root) => {
    Deno.mkdirSync(`${root}/sub`);
    for (const name of ["b_test.ts", "a_test.ts", "sub/c_test.ts", "sweep_long_test.ts", "d.ts"]) {
      Deno.writeTextFileSync(`${root}/${name}`, "");
    }
    Deno.writeTextFileSync(`${root}/sub/e_test.ts`, 'env["EXT4_FUZZ_SEEDS"]');
    const times = { [`${root}/sub/c_test.ts`]: { tests: 1, seconds: 9 } };
    const inTier = (tier: "default" | "long", ...paths: string[]) =>
      testFiles(paths, tier, times).map((path) => path.slice(root.length + 1));
    assertEquals(inTier("default", root), [
      "sub/c_test.ts",
      "a_test.ts",
      "b_test.ts",
      "sub/e_test.ts",
    ]);
    assertEquals(inTier("default", `${root}/`, `${root}/sub`), [
      "sub/c_test.ts",
      "a_test.ts",
      "b_test.ts",
      "sub/e_test.ts",
    ]);
    assertEquals(inTier("long", root), ["sub/e_test.ts", "sweep_long_test.ts"]);
    assertEquals(inTier("default", `${root}/sweep_long_test.ts`), ["sweep_long_test.ts"]);
  });
});

Deno.test("groupFiles puts many quick files together, and leaves slow ones and few alone", () => {
  const times = { "slow_test.ts": { tests: 1, seconds: 9 } };
  const quick = Array.from({ length: 40 }, (_, i) => `${i}_test.ts`);
  const { single, groups } = groupFiles(["slow_test.ts", ...quick], times);
  assertEquals(single, ["slow_test.ts"]);
  assertEquals(groups.map(({ name, files }) => [name, files.length]), [
    ["quick-0_test.ts", 20],
    ["quick-1_test.ts", 20],
  ]);
  assertEquals(groups.flatMap(({ files }) => files).sort(), [...quick].sort());
  assertEquals(timesWithGroups(times, groups)["quick-1_test.ts"], { tests: 100, seconds: 3 });
  const few = ["slow_test.ts", ...quick.slice(0, 19)];
  assertEquals(groupFiles(few, times), { single: few, groups: [] });
});

Deno.test("RunProgress knows from earlier times how far a run is", () => {
  const times = { "slow_test.ts": { tests: 4, seconds: 39.85 } };
  const progress = new RunProgress(["slow_test.ts", "quick_test.ts"], times);
  assertEquals(progress.totalSeconds, 40);
  assertEquals([progress.fraction, progress.secondsLeft(10)], [0, undefined]);
  progress.endTest("slow_test.ts");
  progress.endTest("slow_test.ts");
  assertEquals([progress.tests, progress.startedFiles], [2, 1]);
  assertEquals(Math.round(progress.fraction * 100), 50);
  assertEquals(Math.round(progress.secondsLeft(10)!), 10);
  // More tests than there were are not more work than there was.
  for (let i = 0; i < 20; i++) progress.endTest("slow_test.ts");
  for (let i = 0; i < 20; i++) progress.endTest("quick_test.ts");
  assertEquals(Math.round(progress.fraction * 1000), 1000);
});

Deno.test("times are recorded of slow files alone, and said in minutes", () => {
  const tests = [
    { file: "b_test.ts", seconds: 1.04 },
    { file: "b_test.ts", seconds: 0 },
    { file: "a_test.ts", seconds: 0.9 },
  ];
  assertEquals(recordedTimes(tests), { "b_test.ts": { tests: 2, seconds: 1 } });
  assertEquals([2, 33, 61, 205].map(aboutMinutes), [
    "about 5 seconds",
    "about 35 seconds",
    "about a minute",
    "about 3.5 minutes",
  ]);
});
