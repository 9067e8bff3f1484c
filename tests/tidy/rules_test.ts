import { assertEquals } from "@std/assert";
import { listFiles, readSources } from "./repository.ts";
import type { Source } from "./repository.ts";
import { functionsOf } from "./source_text.ts";

const FILE_LINES_MAX = 600;
const FUNCTION_LINES_MAX = 70;

/** `PATH:LINE: what` for every place where a pattern matches. */
function placesOf(
  sources: readonly Source[],
  pattern: RegExp,
  textOf: (source: Source) => string,
): string[] {
  return sources.flatMap((source) =>
    textOf(source).split("\n").flatMap((line, i) => {
      const match = pattern.exec(line);
      return match ? [`${source.path}:${i + 1}: ${match[0]}`] : [];
    })
  );
}

const codeOf = (source: Source) => source.code;
const rawOf = (source: Source) => source.raw;

Deno.test("lib and probe run on every runtime: no Deno or Bun global", () => {
  const sources = readSources("lib/", "probe/");
  assertEquals(sources.length > 0, true);
  assertEquals(placesOf(sources, /\b(?:Deno|Bun)\b/, codeOf), []);
});

Deno.test("lib is silent and leaves the process alone", () => {
  assertEquals(placesOf(readSources("lib/"), /\bconsole\b|\bprocess\.exit\b/, codeOf), []);
});

Deno.test("lib is deterministic: no clock and no randomness", () => {
  const pattern =
    /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\brandomUUID\b|\bperformance\.now\b/;
  assertEquals(placesOf(readSources("lib/"), pattern, codeOf), []);
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
    functionsOf(source)
      .filter(({ lineCount }) => lineCount > FUNCTION_LINES_MAX)
      .map(({ name, startLine, lineCount }) =>
        `${source.path}:${startLine}: ${name}: ${lineCount} lines`
      )
  );
  assertEquals(long, []);
});

Deno.test("nothing is left for later", () => {
  const sources = readSources("lib/", "probe/", "cli/", "tools/", "bench/", "tests/");
  // Written in two parts, so that this line is none of the places.
  const pattern = new RegExp(`\\b(?:TO${"DO"}|FIX${"ME"}|XX${"X"})\\b`);
  assertEquals(placesOf(sources, pattern, rawOf), []);
});

Deno.test("no package.json makes Deno look for node_modules", () => {
  assertEquals(listFiles("").filter((path) => /(?:^|\/)package(?:-lock)?\.json$/.test(path)), []);
});
