import { assertEquals } from "@std/assert";
import { findCycle, importFault } from "./layers.ts";
import { localImportsOf, readSources } from "./repository.ts";

Deno.test("importFault lets imports point down and nowhere else", () => {
  const fine = [
    ["lib/warnings.ts", "lib/errors.ts"],
    ["lib/bytes/a.ts", "lib/errors.ts"],
    ["lib/tar/a.ts", "lib/tar/b.ts"],
    ["lib/ext4/write/a.ts", "lib/ext4/plan/b.ts"],
    ["cli/a.ts", "probe/b.ts"],
  ] as const;
  for (const [from, to] of fine) assertEquals(importFault(from, to), undefined);
  const wrong = [
    ["lib/errors.ts", "lib/bytes/a.ts", "up"],
    ["lib/bytes/a.ts", "lib/io/a.ts", "up"],
    ["lib/tar/a.ts", "lib/ext4/format/a.ts", "sideways"],
    ["lib/ext4/read/a.ts", "lib/ext4/write/a.ts", "sideways"],
    ["probe/a.ts", "cli/a.ts", "up"],
  ] as const;
  for (const [from, to, direction] of wrong) {
    assertEquals(importFault(from, to), `${from} imports ${direction}: ${to}`);
  }
  assertEquals(importFault("lib/new/a.ts", "lib/errors.ts"), "lib/new/a.ts belongs to no layer");
  assertEquals(
    importFault("lib/io/a.ts", "tests/b.ts"),
    "lib/io/a.ts imports tests/b.ts, which belongs to no layer",
  );
});

Deno.test("findCycle finds a way back, however long", () => {
  assertEquals(findCycle(new Map([["a", ["b", "c"]], ["b", ["c"]], ["c", []]])), undefined);
  const long = new Map([["x", ["a"]], ["a", ["b"]], ["b", ["c"]], ["c", ["a"]]]);
  assertEquals(findCycle(long), ["a", "b", "c", "a"]);
  assertEquals(findCycle(new Map([["a", ["a"]]])), ["a", "a"]);
});

Deno.test("imports of lib, probe and cli point down only", () => {
  const sources = readSources("lib/", "probe/", "serve/", "cli/");
  assertEquals(sources.length > 0, true);
  const faults = sources.flatMap((source) =>
    localImportsOf(source).map((to) => importFault(source.path, to) ?? "")
  );
  assertEquals(faults.filter((fault) => fault !== ""), []);
});

Deno.test("no file of lib, probe and cli imports itself through others", () => {
  const sources = readSources("lib/", "probe/", "serve/", "cli/");
  const imports = new Map(sources.map((source) => [source.path, localImportsOf(source)]));
  assertEquals(findCycle(imports), undefined);
});
