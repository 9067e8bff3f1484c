/**
 * The program `blessfs`. A worker that is made from the bundle loads this module too, and must not run it again; nor
 * would `import.meta.main` tell, which is true in a worker as well.
 *
 * @module
 */
import { isMainThread } from "node:worker_threads";
import { COMMANDS } from "./commands/index.ts";
import { runProgram } from "./program.ts";

if (isMainThread) await runProgram(COMMANDS);
