/** Runs the real program, and the one that misbehaves, in processes of their own. */
import type { ChildProcess } from "node:child_process";
import { spawn, spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { notRun } from "../oracle/notice.ts";

/** The program as it lies in the repository. */
export const SOURCE_MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
/** Names a bundle of the program. `deno task test` makes one: it starts in half the time. */
export const PROGRAM_VARIABLE = "BLESSFS_TEST_PROGRAM";
/** The program that tests run. */
export const MAIN = process.env[PROGRAM_VARIABLE] || SOURCE_MAIN;
export const WORKING = fileURLToPath(new URL("./working_program.ts", import.meta.url));

/** What a process left behind. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The words that run a program of the repository. */
export function programWords(program: string): [command: string, ...args: string[]] {
  if ("Bun" in globalThis) return [process.execPath, program];
  return [process.execPath, "run", "-A", "--no-lock", program];
}

/** The environment of a run: this one, without what changes how the program writes. */
export function environment(more: Record<string, string> = {}): Record<string, string | undefined> {
  const { FORCE_COLOR: _forceColor, BLESSFS_DEBUG: _debug, ...rest } = process.env;
  // Empty, which counts as unset, and not left out: Deno hands on its own value of a variable that is missing here.
  return { ...rest, NO_COLOR: "", TERM: "xterm", ...more };
}

/** Runs a program to its end. */
export function runProgramWith(
  program: string,
  args: readonly string[],
  options: { input?: string; env?: Record<string, string>; cwd?: string } = {},
): Outcome {
  const [command, ...words] = programWords(program);
  const run = spawnSync(command, [...words, ...args], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
    input: options.input ?? "",
    env: environment(options.env),
    cwd: options.cwd,
  });
  return { code: run.status, signal: run.signal, stdout: run.stdout, stderr: run.stderr };
}

/** Runs a command line of bash; `$PROGRAM` runs the program that misbehaves, `$BLESSFS` the real one. */
export function runInBash(line: string, env: Record<string, string> = {}): Outcome {
  const variables = {
    PROGRAM: programWords(WORKING).join(" "),
    BLESSFS: programWords(MAIN).join(" "),
    ...env,
  };
  const run = spawnSync("bash", ["-c", line], { encoding: "utf8", env: environment(variables) });
  return { code: run.status, signal: run.signal, stdout: run.stdout, stderr: run.stderr };
}

/** A process that is going on. */
export class RunningProgram {
  readonly child: ChildProcess;
  #stdout = "";
  #stderr = "";
  #wake = () => {};
  readonly ended: Promise<Outcome>;

  constructor(
    command: string,
    args: readonly string[],
    options: {
      stdin?: "pipe" | "ignore";
      readsStdout?: boolean;
      env?: Record<string, string>;
    } = {},
  ) {
    const readsStdout = options.readsStdout ?? true;
    this.child = spawn(command, [...args], {
      stdio: [options.stdin ?? "ignore", "pipe", "pipe"],
      env: environment({ ...options.env, BLESSFS_TEST_SAYS_SO: readsStdout ? "" : "1" }),
    });
    // A process that has ended reads no more; how it ended is what tests look at.
    this.child.stdin?.on("error", () => {});
    if (readsStdout) this.child.stdout!.on("data", (chunk) => this.#take("stdout", `${chunk}`));
    this.child.stderr!.on("data", (chunk) => this.#take("stderr", `${chunk}`));
    this.ended = new Promise((resolve) => {
      this.child.on("exit", () => {
        this.#wake();
        if (!readsStdout) this.child.stdout!.destroy();
      });
      this.child.on("close", (code, signal) => {
        resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
  }

  /** Sends a signal, unless it has just ended. Not by `child.kill`, after which Deno reports that signal as the exit code. */
  signal(name: "SIGINT" | "SIGTERM" | "SIGHUP" | "SIGKILL"): void {
    try {
      process.kill(this.child.pid!, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  /** Waits until the output has a text in it. */
  async until(text: string): Promise<void> {
    while (!(this.#stdout + this.#stderr).includes(text)) {
      const { exitCode, signalCode } = this.child;
      if (exitCode !== null || signalCode !== null) {
        throw new Error(`ended without \`${text}\`: ${this.#stdout}${this.#stderr}`);
      }
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  #take(stream: "stdout" | "stderr", text: string): void {
    if (stream === "stdout") this.#stdout += text;
    else this.#stderr += text;
    this.#wake();
  }
}

/** Whether util-linux' script(1) can make a pseudo-terminal; prints a line when it cannot. */
export function hasTerminal(): boolean {
  const version = spawnSync("script", ["--version"], { encoding: "utf8" });
  if (version.stdout?.includes("util-linux")) return true;
  notRun("the program on a pseudo-terminal", "script(1) of util-linux is not installed");
  return false;
}

/** The words that run a line of sh under a pseudo-terminal of a width. */
export function terminalWords(line: string, columns = 80): [command: string, ...args: string[]] {
  return ["script", "-qec", `stty cols ${columns} -echoctl; ${line}`, "/dev/null"];
}

export { withTemporaryDirectory as inDirectory } from "../oracle/command.ts";
