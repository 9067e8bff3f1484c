/**
 * The program `blessfs`. A worker that is made from the bundle loads this module too, and must not run it again; nor
 * would `import.meta.main` tell, which is true in a worker as well.
 *
 * @module
 */
import process from "node:process";
import { isMainThread } from "node:worker_threads";
import { COMMANDS } from "./commands.ts";
import { runProgram } from "./process.ts";
import { SERVE_TASK } from "./table/serve.ts";

if (isMainThread) {
  await runProgram(process.argv[2] === SERVE_TASK.name ? [SERVE_TASK] : COMMANDS);
} else {
  // A worker finds its own module among those of all commands.
  await Promise.all(COMMANDS.map((command) => command.load()));
}
