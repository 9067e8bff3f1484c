/**
 * The program `blessfs`. Its bundle also contains the code of its threads. Importing it from another program does
 * nothing.
 *
 * @module
 */
import { realpathSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { restartWithSettings } from "./restart.ts";

/** Whether this is the module that the process was started with. Node reports this only since version 24. */
function isProgram(): boolean {
  if (typeof import.meta.main === "boolean") return import.meta.main;
  try {
    return realpathSync(process.argv[1] ?? "") === fileURLToPath(import.meta.url);
  } catch {
    return false;
  }
}

const isStarted = isProgram();
// Before more is loaded, because the restarted program loads it again.
if (isStarted) restartWithSettings();

const { isMainThread } = await import("node:worker_threads");
const { useWorkerUrl } = await import("../lib/io/thread.ts");
// In a bundle, there is no worker.ts beside the module that starts threads.
if (!import.meta.url.endsWith("/cli/main.ts")) useWorkerUrl(import.meta.url);

if (!isMainThread) await import("../worker.ts");
else if (isStarted) {
  const { runProgram } = await import("./process.ts");
  const { SERVE_TASK } = await import("./table/serve.ts");
  const { COMMANDS } = await import("./commands.ts");
  await runProgram(process.argv[2] === SERVE_TASK.name ? [SERVE_TASK] : COMMANDS);
}
