/**
 * The program `blessfs`. A worker that is made from the bundle loads this module too, and must not run it again; nor
 * would `import.meta.main` tell, which is true in a worker as well.
 *
 * @module
 */
import { isMainThread } from "node:worker_threads";
import { COMMANDS } from "./commands.ts";
import { runProgram } from "./process.ts";

if (isMainThread) await runProgram(COMMANDS);
// A worker finds its own module among those of all commands.
else await Promise.all(COMMANDS.map((command) => command.load()));
