// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Bundles the program into one file that Deno, Bun and Node run:
 *
 *     deno task bundle [--output dist/blessfs.mjs]
 *
 * The same sources give the same bytes, whatever the directory that they lie in.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { bundleProgram, DEFAULT_BUNDLE } from "./build_steps.ts";

const { output = DEFAULT_BUNDLE, ...rest } = parseArgs(Deno.args, { string: ["output"] });
if (rest._.length > 0 || Object.keys(rest).length > 1) {
  console.error("usage: deno task bundle [--output FILE]");
  Deno.exit(2);
}
try {
  bundleProgram(String(output));
  console.log(`${output}: ${Deno.statSync(String(output)).size} bytes`);
} catch (error) {
  console.error(`bundle: ${(error as Error).message}`);
  Deno.exit(1);
}
