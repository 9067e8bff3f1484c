/** A process that is not there: what a run writes is collected, signals and clocks are moved by the test. */
import type { Command } from "../../cli/command.ts";
import type { ProcessIo } from "../../cli/command.ts";
import { runCommandLine } from "../../cli/run.ts";
import { resultStream } from "../../cli/process.ts";
import { Buffer } from "node:buffer";

/** What can be set about the process. */
export interface FakeOptions {
  readonly env?: Record<string, string>;
  readonly stdoutIsTerminal?: boolean;
  readonly stderrIsTerminal?: boolean;
  readonly stdinIsTerminal?: boolean;
  readonly columns?: number;
  readonly stdin?: readonly Uint8Array[];
  /** Fails in the place of a write to standard output. */
  readonly failWrite?: () => Error | undefined;
}

/** A fake process and what came out of it. */
export interface FakeProcess {
  readonly io: ProcessIo;
  readonly controller: AbortController;
  readonly clock: { nowMs: number };
  stdoutBytes(): Uint8Array;
  stdout(): string;
  stderr(): string;
}

export function fakeProcess(options: FakeOptions = {}): FakeProcess {
  const out: Uint8Array[] = [];
  let notices = "";
  const controller = new AbortController();
  const clock = { nowMs: 0 };
  const stdout = resultStream((bytes) => {
    const failure = options.failWrite?.();
    if (failure !== undefined) return Promise.reject(failure);
    out.push(bytes.slice());
    return Promise.resolve(bytes.length);
  }, options.stdoutIsTerminal ?? false);
  return {
    controller,
    clock,
    stdoutBytes: () => Buffer.concat(out),
    stdout: () => Buffer.concat(out).toString("utf8"),
    stderr: () => notices,
    io: {
      stdin: {
        isTerminal: options.stdinIsTerminal ?? false,
        async *chunks() {
          yield* options.stdin ?? [];
        },
      },
      stdout,
      stderr: {
        isTerminal: options.stderrIsTerminal ?? false,
        columns: () => options.columns,
        write(text) {
          notices += text;
        },
      },
      env: options.env ?? {},
      cwd: "/nowhere",
      signal: controller.signal,
      now: () => clock.nowMs,
    },
  };
}

/** One run in a fake process. */
export async function runFake(
  words: readonly string[],
  commands: readonly Command[],
  options: FakeOptions = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const fake = fakeProcess(options);
  const code = await runCommandLine(words, fake.io, commands);
  return { code, stdout: fake.stdout(), stderr: fake.stderr() };
}
