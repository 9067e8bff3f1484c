/**
 * The process around a run: its streams, its signals and how it exits.
 *
 * Standard output has one owner. When the reader closes the pipe, a ClosedPipeError is thrown on every runtime, and a
 * slow reader never blocks the thread, so signals are still handled.
 *
 * @module
 */
import { Buffer, isUtf8 } from "node:buffer";
import { readFileSync, writeSync } from "node:fs";
import process from "node:process";
import { isatty } from "node:tty";
import { InterruptedError, IoError, UsageError } from "../lib/errors.ts";
import { displayPath, ioErrorFrom, systemErrorFacts } from "../lib/io/system_error.ts";
import type { Command, InputStream, NoticeStream, ResultStream } from "./command.ts";
import type { ExitCode } from "./errors.ts";
import { ClosedPipeError, errorLines, EXIT, exitCodeOf, isDebug, SIGNAL_EXITS } from "./errors.ts";
import { runCommandLine } from "./run.ts";
import { styleOf } from "./text.ts";

/** After an interruption, partial files are removed at once; the work itself gets this long to notice. */
const GRACE_MS = 2000;

/**
 * Runs this process's command line and exits. The only place that sets an exit code.
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
  const name = process.argv[2];
  const isHandled = commands.some((command) => command.name === name && command.handlesSignals);
  const signal = isHandled ? new AbortController().signal : watchSignals();
  const finished = runCommandLine(process.argv.slice(2), {
    stdin: standardInput(signal),
    stdout: standardOutput(signal),
    stderr,
    env: process.env,
    cwd: process.cwd(),
    signal,
    now: () => performance.now(),
    checkEnvironment,
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

/**
 * A runtime and its threads need at least this many descriptors; with fewer it exits with its own message and exit
 * code.
 */
const OPEN_FILES_MIN = 32;

/**
 * Refuses to run where the runtime, not this program, would determine the outcome.
 *
 * @throws UsageError for a variable that changes the runtime's behaviour, and for words that it could not decode
 * @throws IoError where too few files may be open
 */
function checkEnvironment(words: readonly string[]): void {
  const isBun = process.versions["bun"] !== undefined;
  // Bun inserts this variable's options before the program's own words.
  if (isBun && import.meta.url.startsWith("file:///$bunfs/") && process.execArgv.length > 0) {
    throw new UsageError("BUN_OPTIONS", "changes what this program does: unset it");
  }
  if (
    process.versions["deno"] === undefined && process.env["NODE_TLS_REJECT_UNAUTHORIZED"] === "0"
  ) {
    const why = "is 0, so no certificate would be checked: unset it";
    throw new UsageError("NODE_TLS_REJECT_UNAUTHORIZED", why);
  }
  const openFilesMax = openFilesLimit();
  if (openFilesMax < OPEN_FILES_MIN) {
    throw new IoError("open files", `the limit is ${openFilesMax}: wanted ${OPEN_FILES_MIN}`, {
      hint: "raise the limit on open files (`ulimit -n`)",
    });
  }
  // Runtimes replace bytes that are not UTF-8 with U+FFFD, and would then look for a file of that name.
  const undecoded = words.find((word) => word.includes("\ufffd"));
  if (undecoded !== undefined && !isUtf8(procFile("cmdline"))) {
    throw new UsageError(
      displayPath(undecoded),
      "is not UTF-8, and the runtime cannot open such a name",
      {
        hint: "make a symbolic link to it, and name that",
      },
    );
  }
}

/** The soft limit of this process; Infinity where it is unknown. */
function openFilesLimit(): number {
  const match = /^Max open files\s+(\d+)/m.exec(procFile("limits").toString("latin1"));
  return match === null ? Infinity : Number(match[1]);
}

/** A file of proc(5) about this process; empty if it does not exist. */
function procFile(name: string): Buffer {
  try {
    return readFileSync(`/proc/self/${name}`);
  } catch {
    return Buffer.alloc(0);
  }
}

/** All output has been flushed by now, so nothing still open may delay the exit. */
function end(code: ExitCode): void {
  process.exitCode = code;
  process.exit();
}

type EndingSignal = keyof typeof SIGNAL_EXITS;

const ENDING_SIGNALS = Object.keys(SIGNAL_EXITS) as EndingSignal[];

/**
 * Starts watching for signals.
 *
 * @returns an AbortSignal, aborted by the first signal with an InterruptedError whose data names it
 */
function watchSignals(): AbortSignal {
  const controller = new AbortController();
  const handlers = new Map<EndingSignal, () => void>();
  for (const name of ENDING_SIGNALS) {
    const isIgnored = name === "SIGHUP" ? hangupIsIgnored() : false;
    if (isIgnored === undefined) continue;
    if (isIgnored) {
      ignore("SIGHUP");
      continue;
    }
    const handler = () => {
      for (const [other, known] of handlers) process.removeListener(other, known);
      controller.abort(
        new InterruptedError("interrupted", `by ${name}`, { data: { signal: name } }),
      );
    };
    handlers.set(name, handler);
    process.on(name, handler);
  }
  ignore("SIGXFSZ");
  return controller.signal;
}

/**
 * Whether this process was started with SIGHUP ignored, as nohup(1) does; undefined where this cannot be determined, in
 * which case the signal is left alone. The other signals are always handled, because non-interactive shells ignore
 * SIGINT in background jobs.
 */
function hangupIsIgnored(): boolean | undefined {
  // proc(5): SigIgn is a hexadecimal mask with signal 1 in its lowest bit.
  const status = procFile("status").toString("latin1");
  const mask = /^SigIgn:\s*[0-9a-f]*([0-9a-f])$/m.exec(status);
  return mask === null ? undefined : (parseInt(mask[1]!, 16) & 1) === 1;
}

/**
 * Installs an empty handler. Under nohup, SIGHUP needs one in Deno, which takes over that signal as soon as any other
 * has a handler. SIGXFSZ needs one there too: without a handler, a file that grows beyond `ulimit -f` kills the
 * process; with one, the write fails with EFBIG.
 */
function ignore(name: "SIGHUP" | "SIGXFSZ"): void {
  try {
    process.on(name, () => {});
  } catch {
    // Windows does not have these signals.
  }
}

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const BUFFER_BYTES = 64 << 10;
const MAX_STDERR_TRIES = 200;

/** Writes some of the bytes and returns how many. */
type RawWrite = (bytes: Uint8Array) => Promise<number>;

/**
 * A result stream over a raw write. Text is buffered up to 64 KiB; call `flush` at the end. Aborting the signal
 * abandons a write that is waiting for its reader, with the signal's reason.
 */
export function resultStream(
  rawWrite: RawWrite,
  isTerminal: boolean,
  signal?: AbortSignal,
): ResultStream {
  const encoder = new TextEncoder();
  const buffer = new Uint8Array(BUFFER_BYTES);
  let heldBytes = 0;

  async function writeAll(bytes: Uint8Array): Promise<void> {
    let done = 0;
    let waitMs = 1;
    while (done < bytes.length) {
      try {
        done += await untilAborted(rawWrite(bytes.subarray(done)), signal);
        waitMs = 1;
      } catch (cause) {
        if (signal?.aborted) throw signal.reason;
        const code = systemErrorFacts(cause)?.code;
        if (code === "EPIPE" || code === "ECONNRESET") throw new ClosedPipeError();
        if (code !== "EAGAIN") throw ioErrorFrom("standard output", "cannot be written", cause);
        await new Promise((resolve) => setTimeout(resolve, waitMs));
        waitMs = Math.min(waitMs * 2, 50);
      }
    }
  }

  async function flush(): Promise<void> {
    const held = buffer.slice(0, heldBytes);
    heldBytes = 0;
    await writeAll(held);
  }

  function hold(bytes: Uint8Array): void {
    buffer.set(bytes, heldBytes);
    heldBytes += bytes.length;
  }

  async function writeThrough(bytes: Uint8Array): Promise<void> {
    await flush();
    await writeAll(bytes);
  }

  async function flushAndHold(bytes: Uint8Array): Promise<void> {
    await flush();
    hold(bytes);
  }

  return {
    isTerminal,
    flush,
    writeThrough,
    write(data) {
      const bytes = typeof data === "string" ? encoder.encode(data) : data;
      if (bytes.length > BUFFER_BYTES) return writeThrough(bytes);
      if (bytes.length > BUFFER_BYTES - heldBytes) return flushAndHold(bytes);
      return hold(bytes);
    },
  };
}

/** The result of the work, or a rejection as soon as the signal is aborted. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** Standard output of this process; its writes stop when the signal is aborted. */
function standardOutput(signal: AbortSignal): ResultStream {
  return resultStream(rawStandardOutput(), isatty(STDOUT), signal);
}

/**
 * In Deno, only its own call does not block the event loop while a pipe is full; in Bun and Node the stream's write
 * does not block either.
 */
function rawStandardOutput(): RawWrite {
  const runtime = (globalThis as { Deno?: { stdout: { write: RawWrite } } }).Deno;
  if (runtime !== undefined) return (bytes) => runtime.stdout.write(bytes);
  const stream = process.stdout;
  // The callback receives the error; without a listener the event would be thrown as well.
  stream.on("error", () => {});
  return (bytes) =>
    new Promise((resolve, reject) => {
      stream.write(bytes, (error) => error ? reject(error) : resolve(bytes.length));
    });
}

/** Standard error of this process. Writes are synchronous, so that nothing is lost when the process exits. */
function standardError(): NoticeStream {
  return {
    isTerminal: isatty(STDERR),
    columns: () => process.stderr.columns || undefined,
    write(text) {
      const bytes = new TextEncoder().encode(text);
      let done = 0;
      for (let tries = 0; done < bytes.length && tries < MAX_STDERR_TRIES; tries++) {
        try {
          done += writeSync(STDERR, bytes, done);
        } catch (error) {
          if (systemErrorFacts(error)?.code !== "EAGAIN") return;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
        }
      }
    },
  };
}

/**
 * Standard input of this process; untouched until its bytes are requested. Waiting for them stops when the signal is
 * aborted.
 */
function standardInput(signal: AbortSignal): InputStream {
  return {
    isTerminal: isatty(STDIN),
    async *chunks() {
      const chunks = process.stdin[Symbol.asyncIterator]();
      for (;;) {
        const { done, value } = await untilAborted(chunks.next(), signal);
        if (done) return;
        yield value as Uint8Array;
      }
    },
  };
}
