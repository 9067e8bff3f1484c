import { assertEquals, assertNotEquals } from "@std/assert";
import { listFiles, readSources, type Source } from "./repository.ts";

const FILE_LINES_MAX = 600;
const FUNCTION_LINES_MAX = 70;

/** `PATH:LINE: NAME` for every use of a name, or of something behind it: `console` is also `console.log`. */
function usesIn(sources: readonly Source[], names: readonly string[]): string[] {
  assertNotEquals(sources.length, 0);
  const wanted = new Set(names);
  return sources.flatMap((source) =>
    source.uses
      .filter(({ name }) => wanted.has(name))
      .map(({ name, line }) => `${source.path}:${line}: ${name}`)
  );
}

Deno.test("lib and probe run on every runtime: no Deno or Bun global", () => {
  assertEquals(usesIn(readSources("lib/", "probe/"), ["Deno", "Bun"]), []);
});

Deno.test("lib is silent and leaves the process alone", () => {
  assertEquals(usesIn(readSources("lib/"), ["console", "process.exit"]), []);
});

Deno.test("lib is deterministic: no clock and no randomness", () => {
  const names = [
    "Date.now",
    "new Date()",
    "Math.random",
    "randomUUID",
    "crypto.randomUUID",
    "performance.now",
  ];
  assertEquals(usesIn(readSources("lib/"), names), []);
});

Deno.test("files of lib, probe and cli stay short", () => {
  const long = readSources("lib/", "probe/", "serve/", "cli/")
    .map(({ path, raw }) => ({ path, lineCount: raw.trimEnd().split("\n").length }))
    .filter(({ lineCount }) => lineCount > FILE_LINES_MAX)
    .map(({ path, lineCount }) => `${path}: ${lineCount} lines`);
  assertEquals(long, []);
});

Deno.test("functions of lib, probe and cli stay short", () => {
  const long = readSources("lib/", "probe/", "serve/", "cli/").flatMap((source) =>
    source.functions
      .filter(({ lineCount }) => lineCount > FUNCTION_LINES_MAX)
      .map(({ name, startLine, lineCount }) =>
        `${source.path}:${startLine}: ${name}: ${lineCount} lines`
      )
  );
  assertEquals(long, []);
});

Deno.test("nothing is left for later", () => {
  // Written in two parts, so that this line is none of the places.
  const pattern = new RegExp(`\\b(?:TO${"DO"}|FIX${"ME"}|XX${"X"})\\b`);
  const places = readSources("lib/", "probe/", "serve/", "cli/", "tools/", "bench/", "tests/")
    .flatMap(({ path, raw }) =>
      raw.split("\n").flatMap((line, i) => pattern.test(line) ? [`${path}:${i + 1}: ${line}`] : [])
    );
  assertEquals(places, []);
});

Deno.test("no package.json makes Deno look for node_modules", () => {
  assertEquals(listFiles("").filter((path) => /(?:^|\/)package(?:-lock)?\.json$/.test(path)), []);
});
