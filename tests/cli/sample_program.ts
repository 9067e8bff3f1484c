/** The real program around the commands of sample_commands.ts, for the shells whose completion scripts ask it. */
import { isMainThread } from "node:worker_threads";
import { runProgram } from "../../cli/process.ts";
import { SAMPLE_COMMANDS } from "./sample_commands.ts";

if (isMainThread) await runProgram(SAMPLE_COMMANDS);
