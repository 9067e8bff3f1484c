/**
 * One run of the program, from the words of the command line to the exit code, without touching the process.
 *
 * @module
 */
import { plainJson } from "../lib/bytes/byte_string.ts";
import { BlessfsError, InterruptedError } from "../lib/errors.ts";
import type { WarningSummary } from "../lib/warnings.ts";
import { readCommandLine, type Request } from "./arguments.ts";
import type { Command, CommandIo, OptionSpec, ParsedArguments, ProcessIo } from "./command.ts";
import { COMPLETE_WORD, optionsOf } from "./command.ts";
import {
  ClosedPipeError,
  errorJson,
  errorLines,
  EXIT,
  type ExitCode,
  exitCodeOf,
  isDebug,
  safeLine,
} from "./errors.ts";
import { commandHelp, mainHelp, usageLines } from "./help.ts";
import {
  createJsonProgress,
  createProgress,
  NO_SHOWN_PROGRESS,
  type ShownProgress,
} from "./progress.ts";
import { aligned, type ColourChoice, isColoured, styleOf } from "./text.ts";
import { formatCount } from "./values.ts";
import { programVersion, VERSION } from "./version.ts";

/** Runs a command line. Every failure is shown on `io.stderr` and turned into the exit code; nothing is thrown. */
export async function runCommandLine(
  words: readonly string[],
  io: ProcessIo,
  commands: readonly Command[],
): Promise<ExitCode> {
  if (words[0] === COMPLETE_WORD) return await complete(words.slice(1), io, commands);
  const request = readCommandLine(words, commands);
  const run = new Run(request, io);
  try {
    const code = await answer(words, request, run, commands);
    await io.stdout.flush();
    run.end();
    return io.signal.aborted ? exitCodeOf(io.signal.reason) : code;
  } catch (error) {
    return run.fail(error);
  }
}

/** Answers a shell's completion script; on any error it offers nothing. */
async function complete(
  words: readonly string[],
  io: ProcessIo,
  commands: readonly Command[],
): Promise<ExitCode> {
  const { completeLine, offerText } = await import("./completions.ts");
  await io.stdout.write(offerText(completeLine(words.slice(0, -1), words.at(-1) ?? "", commands)));
  await io.stdout.flush();
  return EXIT.done;
}

async function answer(
  words: readonly string[],
  request: Request,
  run: Run,
  commands: readonly Command[],
): Promise<ExitCode> {
  const { io } = run;
  if (words.length === 0) {
    io.stderr.write(usageLines(commands));
    return EXIT.usage;
  }
  if (request.wantsHelp) {
    const unknown = request.command === undefined && request.operands.length > 0;
    if (unknown) request.arguments();
    await io.stdout.write(
      request.command ? commandHelp(request.command, commands) : mainHelp(commands),
    );
    return EXIT.done;
  }
  if (request.wantsVersion) {
    await io.stdout.write(
      request.wantsJson ? `${plainJson(programVersion(), 2)}\n` : `blessfs ${VERSION}\n`,
    );
    return EXIT.done;
  }
  const args = request.arguments();
  io.checkEnvironment?.(words);
  run.apply(args);
  const runCommand = await request.command!.load();
  return await runCommand(args, run.commandIo(args)) ?? EXIT.done;
}

/** The state of one run: the common options, and the progress on the screen. */
class Run {
  readonly io: ProcessIo;
  readonly #json: boolean;
  readonly #options: readonly OptionSpec[];
  readonly #colour: ColourChoice;
  #progress: ShownProgress = NO_SHOWN_PROGRESS;
  readonly #onAbort = () => this.#reportInterruption();

  constructor(request: Request, io: ProcessIo) {
    this.io = io;
    this.#json = request.wantsJson;
    this.#options = request.command === undefined ? [] : optionsOf(request.command);
    this.#colour = request.colour;
    // Registered first, so that the message appears before the sinks clean up.
    io.signal.addEventListener("abort", this.#onAbort);
  }

  apply(args: ParsedArguments): void {
    const { stderr, env } = this.io;
    const when = args.text("progress");
    if (when === "json") {
      this.#progress = createJsonProgress({ stderr, now: this.io.now });
      return;
    }
    const wanted = when === "always" ||
      when === "auto" && stderr.isTerminal && env["TERM"] !== "dumb" && !args.flag("quiet") &&
        !this.#json;
    if (!wanted) return;
    const canRedraw = stderr.isTerminal && env["TERM"] !== "dumb";
    this.#progress = createProgress({ stderr, now: this.io.now, canRedraw });
  }

  commandIo(args: ParsedArguments): CommandIo {
    const quiet = args.flag("quiet");
    const { io } = this;
    const writeJson = async (document: unknown) =>
      await io.stdout.write(`${plainJson(document, 2)}\n`);
    const writeReport = (report: object) => writeJson({ ...report, version: programVersion() });
    return {
      ...io,
      quiet,
      json: this.#json,
      progress: this.#progress,
      style: styleOf(isColoured(this.#colour, io.env, io.stdout.isTerminal)),
      warn: (warnings) => {
        if (!quiet && !this.#json) this.#warn(warnings);
      },
      writeJson,
      writeReport,
      answer: async (report, rows, outputs = []) => {
        if (this.#json) return await writeReport(report);
        if (quiet) return;
        if (outputs.includes("-")) io.stderr.write(aligned(rows));
        else await io.stdout.write(aligned(rows));
      },
    };
  }

  end(): void {
    this.#progress.close();
    this.io.signal.removeEventListener("abort", this.#onAbort);
  }

  /** Reports a failure and returns its exit code. */
  async fail(thrown: unknown): Promise<ExitCode> {
    this.end();
    const { io } = this;
    if (io.signal.aborted) return this.#failInterrupted(io.signal.reason);
    if (isClosedPipe(thrown)) return EXIT.done;
    let error = thrown;
    try {
      await io.stdout.flush();
    } catch (flushError) {
      // A closed pipe must not hide a failure of the work itself.
      if (!isClosedPipe(flushError) && !(thrown instanceof BlessfsError)) error = flushError;
    }
    this.#report(error);
    return exitCodeOf(error);
  }

  #failInterrupted(reason: unknown): ExitCode {
    // Without --json, this was already reported when the signal arrived.
    if (this.#json) this.#report(reason);
    return exitCodeOf(reason);
  }

  #report(error: unknown): void {
    const withStack = isDebug(this.io.env);
    this.io.stderr.write(
      this.#json
        ? errorJson(error, withStack, this.#options)
        : errorLines(error, this.#stderrStyle(), withStack, this.#options),
    );
  }

  #reportInterruption(): void {
    this.#progress.close();
    if (this.#json) return;
    const reason: unknown = this.io.signal.reason;
    const by = reason instanceof InterruptedError ? "interrupted" : "stopped";
    this.io.stderr.write(`${this.#stderrStyle().bold("blessfs:")} ${by}, cleaning up\n`);
  }

  #warn(warnings: readonly WarningSummary[]): void {
    const style = this.#stderrStyle();
    this.#progress.clear();
    for (const { message, count } of warnings) {
      const more = count > 1 ? ` (and ${formatCount(count - 1)} more like it)` : "";
      const label = `${style.bold("blessfs:")} ${style.yellow("warning:")}`;
      this.io.stderr.write(`${label} ${safeLine(message)}${more}\n`);
    }
  }

  #stderrStyle() {
    return styleOf(isColoured(this.#colour, this.io.env, this.io.stderr.isTerminal));
  }
}

const MAX_CAUSES = 8;

/** Whether an error is, or was caused by, the reader of standard output closing it. */
function isClosedPipe(error: unknown): boolean {
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth++) {
    if (current instanceof ClosedPipeError) return true;
    current = current.cause;
  }
  return false;
}
