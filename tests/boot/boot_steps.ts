/**
 * Steps that tests of booting share.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "../../tools/build_steps.ts";
import { MAIN, runProgramWith } from "../cli/program.ts";

/** Runs the program from the root of the repository; it must succeed. */
export function blessfs(...words: string[]): void {
  const { code, stderr } = runProgramWith(MAIN, words, { cwd: ROOT });
  assertEquals(code, 0, stderr);
}

/** Writes files below a directory; scripts can be run. */
export function writeTree(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    const target = join(directory, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text, { mode: text.startsWith("#!") ? 0o755 : 0o644 });
  }
}
