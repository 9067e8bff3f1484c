import { assert, assertEquals } from "@std/assert";
import { readSources, ROOT } from "./repository.ts";

const CONFIG = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT))) as {
  imports: Record<string, string>;
};

/** The rows of the table in docs/dependencies.md: name, where it comes from, and the rest. */
function documentedRows(): string[][] {
  const text = Deno.readTextFileSync(new URL("docs/dependencies.md", ROOT));
  return text.split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", "")));
}

Deno.test("docs/dependencies.md lists exactly the imports of deno.json, each with its reason", () => {
  const documented = documentedRows();
  const found = Object.fromEntries(documented.map(([name, target]) => [name, target]));
  assertEquals(found, CONFIG.imports);
  for (const [name, , ...reasons] of documented) {
    assert(reasons.every((reason) => reason.length > 10), `${name}: says no reason`);
  }
});

Deno.test("every dependency is pinned to one version", () => {
  for (const [name, target] of Object.entries(CONFIG.imports)) {
    assert(/^(?:node:|(?:npm|jsr):(?:@[\w-]+\/)?[\w-]+@\d+\.\d+\.\d+(?:\/|$))/.test(target), name);
  }
});

Deno.test("sources import other packages by their names in deno.json, and each of those is used", () => {
  const sources = readSources("lib/", "probe/", "serve/", "cli/", "tests/", "tools/", "bench/");
  const used = new Set(
    sources.flatMap((source) => source.imports)
      .filter((specifier) => !/^(?:\.|node:|bun:)/.test(specifier)),
  );
  const names = Object.keys(CONFIG.imports);
  assertEquals([...used].filter((specifier) => !names.includes(specifier)), []);
  assertEquals(names.filter((name) => !used.has(name)), []);
});

Deno.test("only the tests use what is for tests", () => {
  const forTests = ["@std/assert", "@std/testing/bdd", "fast-check"];
  const wrong = readSources("lib/", "probe/", "serve/", "cli/").flatMap((source) =>
    source.imports.filter((name) => forTests.includes(name)).map((name) =>
      `${source.path}: ${name}`
    )
  );
  assertEquals(wrong, []);
});
