/**
 * Runs this program again in a separate process, so that a job that crashes or uses up all memory harms nothing else.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";

const MEMORY_LOOK_MS = 50;
/**
 * Allowed beyond the limit on resident memory, for memory that a runtime reserves but does not use. Bun 1.4 needs 0.5
 * GiB, Deno 2.9 1 GiB; and at 1.0 to 1.15 GiB Bun does not start, although it does below.
 */
const RESERVED_BYTES = 2 * 1024 ** 3;
const STDERR_LINES_MAX = 200;
const STDOUT_BYTES_MAX = 64 << 20;
const GRACE_MS = 5000;
/** Marks the processes that belong to a directory of images, so that they can be found after a crash. */
export const JOB_MARK = "BLESSFS_SERVE_WORK";

export type ProgramWords = readonly [string, ...string[]];

/**
 * The command line that starts this program: the binary alone, or a runtime and the main module.
 *
 * @param argv `process.argv`
 */
export function programWords(argv: readonly string[] = process.argv): ProgramWords {
  const main = argv[1];
  const standalone = (globalThis as { Deno?: { build?: { standalone?: boolean } } }).Deno?.build
    ?.standalone;
  const isBunBinary = main !== undefined && /^(?:\/\$bunfs\/|[A-Z]:[\\/]~BUN)/.test(main);
  if (standalone || isBunBinary || main === undefined || !existsSync(main)) {
    return [process.execPath];
  }
  const isDeno = process.versions["deno"] !== undefined;
  return [process.execPath, ...isDeno ? ["run", "-A"] : [], main];
}

interface ProgramRun {
  readonly words: readonly string[];
  /** Where the run may leave files; its processes are identified by this path. */
  readonly workDir: string;
  /** The trace that the run belongs to, passed in the process's environment. */
  readonly traceparent?: string;
  readonly signal?: AbortSignal;
  /** The run is ended after this time. */
  readonly deadlineMs?: number;
  /** The run is ended when its resident memory exceeds this. */
  readonly memoryBytes: number;
  /** Receives each line of standard error that is a JSON object. */
  readonly onLine?: (document: Readonly<Record<string, unknown>>) => void;
}

export interface ProgramEnd {
  readonly code: number | undefined;
  /** Why the run was ended, if it did not end by itself. */
  readonly stopped: "aborted" | "deadline" | "memory" | undefined;
  readonly stdout: string;
  /** The last lines of standard error. */
  readonly stderr: string;
}

/** Runs the program; resolves once the process has exited, however it ended. */
export function runProgramAgain(program: ProgramWords, run: ProgramRun): Promise<ProgramEnd> {
  return new Run(program, run).ended;
}

class Run {
  readonly ended: Promise<ProgramEnd>;
  readonly #child: ChildProcess;
  readonly #run: ProgramRun;
  readonly #stdout: Uint8Array[] = [];
  readonly #stderr: string[] = [];
  #stdoutBytes = 0;
  #stopped: ProgramEnd["stopped"];
  #killTimer: ReturnType<typeof setTimeout> | undefined;
  readonly #timers: (ReturnType<typeof setTimeout> | ReturnType<typeof setInterval>)[] = [];
  readonly #onAbort = () => this.#stop("aborted");

  constructor(program: ProgramWords, run: ProgramRun) {
    this.#run = run;
    const [command, ...args] = limited([...program, ...run.words], run.memoryBytes);
    this.#child = spawn(command!, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        NO_COLOR: "1",
        [JOB_MARK]: run.workDir,
        ...run.traceparent === undefined ? {} : { TRACEPARENT: run.traceparent },
      },
    });
    this.ended = this.#watch();
  }

  async #watch(): Promise<ProgramEnd> {
    const { signal, deadlineMs } = this.#run;
    const child = this.#child;
    const exited = new Promise<number | undefined>((resolve) => {
      child.on("error", (error) => {
        this.#stderr.push(error.message);
        resolve(undefined);
      });
      child.on("close", (code) => resolve(code ?? undefined));
    });
    child.stdout?.on("data", (piece: Uint8Array) => this.#keep(piece));
    if (child.stderr) {
      createInterface({ input: child.stderr, crlfDelay: Infinity })
        .on("line", (line) => this.#line(line));
    }
    signal?.addEventListener("abort", this.#onAbort);
    if (signal?.aborted) this.#stop("aborted");
    if (deadlineMs !== undefined) {
      this.#timers.push(setTimeout(() => this.#stop("deadline"), deadlineMs));
    }
    preferAsVictim(child.pid);
    this.#timers.push(setInterval(() => this.#lookAtMemory(), MEMORY_LOOK_MS));
    try {
      const code = await exited;
      return {
        code,
        stopped: this.#stopped,
        stdout: Buffer.concat(this.#stdout).toString(),
        stderr: this.#stderr.join("\n"),
      };
    } finally {
      signal?.removeEventListener("abort", this.#onAbort);
      clearTimeout(this.#killTimer);
      for (const timer of this.#timers) clearInterval(timer);
    }
  }

  #keep(piece: Uint8Array): void {
    this.#stdoutBytes += piece.length;
    if (this.#stdoutBytes > STDOUT_BYTES_MAX) this.#stop("memory");
    else this.#stdout.push(piece);
  }

  #line(line: string): void {
    if (line.startsWith("{") && this.#run.onLine) {
      try {
        this.#run.onLine(JSON.parse(line));
      } catch {
        // The line was cut off when the process ended.
      }
    }
    if (line.startsWith('{"progress"')) return;
    this.#stderr.push(line);
    if (this.#stderr.length > STDERR_LINES_MAX) this.#stderr.shift();
  }

  #lookAtMemory(): void {
    const bytes = peakBytes(this.#child.pid);
    if (bytes !== undefined && bytes > this.#run.memoryBytes) this.#stop("memory");
  }

  /**
   * SIGTERM lets the process clean up, and SIGKILL follows after a grace period. A process over its memory limit is
   * killed at once.
   */
  #stop(why: NonNullable<ProgramEnd["stopped"]>): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = why;
    if (why === "memory") {
      this.#child.kill("SIGKILL");
      return;
    }
    this.#child.kill("SIGTERM");
    this.#killTimer = setTimeout(() => this.#child.kill("SIGKILL"), GRACE_MS);
  }
}

/**
 * Adds a data limit enforced by the kernel, if there is a shell to set one. It is a second line of defence: resident
 * memory is polled, but a process may grow faster than that.
 */
function limited(words: readonly string[], memoryBytes: number): readonly string[] {
  if (process.platform !== "linux" || !existsSync("/bin/sh")) return words;
  const kibibytes = Math.ceil((memoryBytes + RESERVED_BYTES) / 1024);
  return ["/bin/sh", "-c", `ulimit -d ${kibibytes}; exec "$0" "$@"`, ...words];
}

/** Makes the kernel kill a job rather than the server when the machine runs out of memory. proc(5), oom_score_adj. */
function preferAsVictim(pid: number | undefined): void {
  if (pid === undefined || process.platform !== "linux") return;
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, "1000");
  } catch {
    // The process has already exited, or the system does not allow it.
  }
}

/** Peak resident memory, so that no spike is missed. proc(5), VmHWM; undefined if unknown. */
function peakBytes(pid: number | undefined): number | undefined {
  if (pid === undefined || process.platform !== "linux") return undefined;
  try {
    const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
    return match === null ? undefined : Number(match[1]) * 1024;
  } catch {
    return undefined;
  }
}
