import { assertEquals } from "@std/assert";
import { listFiles, readSources } from "./repository.ts";

/** The folder of a path, with a slash at its end. */
function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/") + 1);
}

Deno.test("every folder of lib that exports a function has a folder of tests", () => {
  const tested = new Set(
    listFiles("tests/").filter((path) => path.endsWith("_test.ts")).map(folderOf),
  );
  const untested = readSources("lib/")
    .filter((source) => source.exportsBehaviour)
    .map(({ path }) => `tests/${folderOf(path).replace(/^lib\//, "")}`)
    .filter((folder) => !tested.has(folder));
  assertEquals([...new Set(untested)], []);
});
