// deno-lint-ignore-file no-console -- what it prints is what it is for
/**
 * Makes the packages of the library:
 *
 *     deno task package [--output dist/package]
 *
 * In it are `jsr`, the sources to publish with `deno publish`, and `npm`, compiled JavaScript with its declarations and the
 * program, to publish with `npm publish`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { isAbsolute, join } from "node:path";
import { ROOT } from "./build_steps.ts";
import { makePackages } from "./package_steps.ts";

const { output = join(ROOT, "dist/package"), ...rest } = parseArgs(Deno.args, {
  string: ["output"],
});
if (rest._.length > 0 || Object.keys(rest).length > 1) {
  console.error("usage: deno task package [--output DIRECTORY]");
  Deno.exit(2);
}
try {
  const path = String(output);
  const { jsr, npm } = makePackages(isAbsolute(path) ? path : join(Deno.cwd(), path));
  console.log(`${jsr}: for deno publish\n${npm}: for npm publish`);
} catch (error) {
  console.error(`package: ${(error as Error).message}`);
  Deno.exit(1);
}
