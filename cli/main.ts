/**
 * The program `blessfs`. A worker that is made from the bundle loads this module too, and must not run it again; nor
 * would `import.meta.main` tell, which is true in a worker as well.
 *
 * @module
 */
import process from "node:process";
import { isMainThread } from "node:worker_threads";
import { loadCommands } from "./commands/load.ts";
import { runProgram } from "./program.ts";

// A worker finds its own module among those of all commands.
const commands = await loadCommands(isMainThread ? process.argv.slice(2) : []);
if (isMainThread) await runProgram(commands);
