/**
 * The process around a run: its streams, its signals, its end.
 *
 * @module
 */
import process from "node:process";
import type { Command } from "./command.ts";
import { errorLines, isDebug } from "./errors_output.ts";
import type { ExitCode } from "./exit_codes.ts";
import { EXIT, exitCodeOf } from "./exit_codes.ts";
import { runCommandLine } from "./run.ts";
import { watchSignals } from "./signals.ts";
import { standardError, standardInput, standardOutput } from "./standard_streams.ts";
import { styleOf } from "./style.ts";

/** After an interruption the parts of files are gone at once; the work itself gets so long to notice. */
const GRACE_MS = 2000;

/**
 * Runs the command line of this process and ends the process. The only place where an exit code is set.
 *
 * @param commands the table of commands
 */
export async function runProgram(commands: readonly Command[]): Promise<void> {
  const stderr = standardError();
  for (const event of ["uncaughtException", "unhandledRejection"]) {
    process.on(event, (error: unknown) => {
      stderr.write(errorLines(error, styleOf(false), isDebug(process.env)));
      end(EXIT.internal);
    });
  }
  const signal = watchSignals();
  const finished = runCommandLine(process.argv.slice(2), {
    stdin: standardInput(signal),
    stdout: standardOutput(signal),
    stderr,
    env: process.env,
    cwd: process.cwd(),
    signal,
    now: () => performance.now(),
  }, commands);
  end(await Promise.race([finished, graceAfter(signal)]));
}

function graceAfter(signal: AbortSignal): Promise<ExitCode> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => {
      setTimeout(() => resolve(exitCodeOf(signal.reason)), GRACE_MS);
    });
  });
}

/** All output has been flushed by now, so nothing that is still open may hold the process back. */
function end(code: ExitCode): void {
  process.exitCode = code;
  process.exit();
}
