/**
 * `blessfs bless --batch FILE`: makes many images, one per line, and reads layers that they share only once.
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { availableParallelism } from "node:os";
import { plainJson } from "../../lib/bytes/byte_string.ts";
import { InputError, InterruptedError, IoError, throwIfAborted } from "../../lib/errors.ts";
import { openFault } from "../../lib/io/random_reader.ts";
import { createLayerCache } from "../../lib/source/layers/load_layers.ts";
import { openImage } from "../../lib/source/source.ts";
import type { LayerCache } from "../../lib/source/types.ts";
import { Warnings } from "../../lib/warnings.ts";
import { readCommandLine } from "../arguments.ts";
import { type Command, type CommandIo, COMMON_OPTIONS, type ParsedArguments } from "../command.ts";
import { ClosedPipeError, errorLines, EXIT, failureFacts, isDebug, safeLine } from "../errors.ts";
import { SOURCE_OPERAND } from "../table/options.ts";
import { styleOf } from "../text.ts";
import { formatCount } from "../values.ts";
import { programVersion } from "../version.ts";
import { makeMerged } from "./bless.ts";
import { OutputNames, refuseTerminal } from "./outputs.ts";
import { parseJobs, parseSourceOptions } from "./sources.ts";

const LINE_BYTES_MAX = 1 << 20;

/** A line that is not empty. */
interface Line {
  /** Counted from 1. */
  readonly number: number;
  readonly text: string;
}

/** What a line asks for; null for parts that could not be read. */
interface Asked {
  source: string | null;
  output: string | null;
}

interface Outcome {
  readonly report: object;
  /** Undefined when the image was made. */
  readonly failure: unknown;
}

export async function runBatch(args: ParsedArguments, io: CommandIo): Promise<0 | 1> {
  const file = args.text("batch");
  if (file === "-") refuseTerminal("--batch", io, "write one JSON object a line into it");
  const jobs = args.parsed("jobs", parseJobs) ?? availableParallelism();
  const layerCache = createLayerCache();
  const batch = new Batch(args, io, layerCache);
  try {
    if (file === "-") return await batch.run(linesOf(io.stdin.chunks()), { lanes: jobs, jobs: 1 });
    const lines: Line[] = [];
    for await (const line of linesOf(bytesOf(file))) lines.push(line);
    await batch.announce(lines);
    const lanes = Math.max(1, Math.min(jobs, lines.length));
    return await batch.run(eachOf(lines), { lanes, jobs: Math.max(1, Math.floor(jobs / lanes)) });
  } finally {
    layerCache.close();
  }
}

class Batch {
  readonly #args: ParsedArguments;
  readonly #io: CommandIo;
  readonly #layerCache: LayerCache;
  /** The command that every line is parsed as a call of. */
  readonly #call: Command;
  readonly #names = new OutputNames();
  /** Finished lines that wait for an earlier line. */
  readonly #waiting = new Map<number, { readonly line: Line; readonly outcome: Outcome }>();
  #nextIndex = 0;
  #madeCount = 0;
  #failedCount = 0;
  #printing: Promise<void> = Promise.resolve();

  constructor(args: ParsedArguments, io: CommandIo, layerCache: LayerCache) {
    this.#args = args;
    this.#io = io;
    this.#layerCache = layerCache;
    this.#call = {
      name: "bless",
      summary: "make one image of a batch",
      examples: [],
      positionals: [SOURCE_OPERAND],
      options: args.options.filter((option) => !COMMON_OPTIONS.includes(option)),
      load: () => Promise.resolve((call: ParsedArguments) => makeMerged(call, io).then(() => {})),
    };
  }

  /** Finds out which layers are needed more than once. A line that cannot be read fails when its turn comes. */
  async announce(lines: readonly Line[]): Promise<void> {
    for (const line of lines) {
      throwIfAborted(this.#io.signal);
      try {
        const args = this.#argumentsOf(line);
        const source = args.positional("SOURCE");
        const options = {
          ...parseSourceOptions(args, this.#io, [source]),
          warnings: new Warnings(),
        };
        const image = await openImage(source, options);
        this.#layerCache.announce(image, options);
        image.close();
      } catch {
        // The line is read again later, and the error is reported then.
      }
    }
  }

  async run(
    lines: AsyncIterator<Line>,
    { lanes, jobs }: { readonly lanes: number; readonly jobs: number },
  ): Promise<0 | 1> {
    let index = 0;
    const stop = Promise.withResolvers<{ readonly done: true; readonly value: undefined }>();
    const lane = async () => {
      for (;;) {
        // Calls of a generator queue up, so lines arrive in order; after a failure, no lane waits for more lines.
        const { value: line, done } = await Promise.race([stop.promise, lines.next()]);
        if (done) return;
        const at = index++;
        const outcome = await this.#bless(line, jobs);
        this.#waiting.set(at, { line, outcome });
        this.#printing = this.#printing.then(() => this.#printReady());
        await this.#printing;
      }
    };
    const outcomes = await Promise.allSettled(
      Array.from({ length: lanes }, () =>
        lane().catch((error) => {
          stop.resolve({ done: true, value: undefined });
          throw error;
        })),
    );
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    this.#showSum();
    return this.#failedCount > 0 ? EXIT.answerNo : EXIT.done;
  }

  async #bless(line: Line, jobs: number): Promise<Outcome> {
    const { number } = line;
    const asked: Asked = { source: null, output: null };
    try {
      throwIfAborted(this.#io.signal);
      const args = this.#argumentsOf(line, asked);
      const shared = { jobs, layerCache: this.#layerCache, names: this.#names, line: number };
      const { document } = await makeMerged(args, this.#io, shared);
      const report = { line: number, ...document, version: programVersion() };
      return { report, failure: undefined };
    } catch (failure) {
      if (this.#io.signal.aborted || failure instanceof InterruptedError) throw failure;
      this.#names.release(number);
      const error = failureFacts(failure, this.#args.options);
      return { report: { line: number, ...asked, error }, failure };
    }
  }

  /** @param asked is filled in as far as the line could be read */
  #argumentsOf(
    { text, number }: Line,
    asked: Asked = { source: null, output: null },
  ): ParsedArguments {
    const what = `line ${number}`;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new InputError(what, `is not JSON: ${safeLine((cause as Error).message)}`, { cause });
    }
    if (!isRecord(value)) throw new InputError(what, "wanted a JSON object");
    const { source, output, options = {}, ...others } = value;
    const [unknown] = Object.keys(others);
    if (unknown !== undefined) {
      throw new InputError(what, `has \`${safeLine(unknown)}\`: wanted source, output and options`);
    }
    if (!isText(source)) throw new InputError(what, "wanted `source` to be a text");
    asked.source = source;
    if (!isText(output)) throw new InputError(what, "wanted `output` to be a text");
    asked.output = output;
    if (!isRecord(options)) throw new InputError(what, "wanted `options` to be an object");
    const words = Object.entries(options).flatMap(([name, found]) =>
      optionWords(name, found, what)
    );
    const line = ["bless", ...words, `--output=${output}`, "--", source];
    const args = this.#args.withCall(readCommandLine(line, [this.#call]).arguments());
    checkStreams(args, what);
    return args;
  }

  async #printReady(): Promise<void> {
    for (let next = this.#waiting.get(this.#nextIndex); next !== undefined;) {
      this.#waiting.delete(this.#nextIndex++);
      await this.#print(next.line, next.outcome);
      next = this.#waiting.get(this.#nextIndex);
    }
  }

  async #print({ number }: Line, { report, failure }: Outcome): Promise<void> {
    if (failure === undefined) this.#madeCount++;
    else this.#failedCount++;
    try {
      await this.#io.stdout.write(`${plainJson(report)}\n`);
      await this.#io.stdout.flush();
    } catch (error) {
      if (!(error instanceof ClosedPipeError)) throw error;
      throw new IoError("standard output", "was closed before all images were made", {
        code: "closedPipe",
      });
    }
    if (failure === undefined || this.#io.json) return;
    const style = styleOf(false);
    const lines = errorLines(failure, style, isDebug(this.#io.env), this.#args.options);
    this.#io.stderr.write(lines.replace(/^blessfs: (?!line \d)/, `blessfs: line ${number}: `));
  }

  #showSum(): void {
    if (this.#io.quiet || this.#io.json) return;
    const failed = this.#failedCount === 0 ? "" : `, ${formatCount(this.#failedCount)} failed`;
    const made = `${formatCount(this.#madeCount)} ${
      this.#madeCount === 1 ? "image" : "images"
    } made`;
    this.#io.stderr.write(`blessfs: ${made}${failed}\n`);
  }
}

/** Standard output carries the reports, and standard input may carry the batch itself. */
function checkStreams(args: ParsedArguments, what: string): void {
  const added = args.values("add")?.map((text) => text.split(":")[0]) ?? [];
  const inputs = [args.positional("SOURCE"), ...added, ...args.values("add-tar") ?? []];
  if (inputs.includes("-")) throw new InputError(what, "a batch reads nothing from standard input");
  const outputs = ["output", "index", "config"].map((name) => args.value(name));
  if (outputs.includes("-")) {
    throw new InputError(what, "standard output takes the reports of a batch");
  }
}

/** Options that apply to all lines, or that make no sense for a single one. */
const NOT_OF_LINES: ReadonlySet<string> = new Set([
  ...COMMON_OPTIONS.map(({ name }) => name),
  "batch",
  "jobs",
  "json",
  "output",
]);

function optionWords(name: string, value: unknown, what: string): string[] {
  if (NOT_OF_LINES.has(name)) {
    throw new InputError(what, `\`${name}\` is not an option of a line`);
  }
  if (value === true) return [`--${name}`];
  if (value === false) return [`--no-${name}`];
  const values = Array.isArray(value) ? value : [value];
  return values.map((one) => {
    if (typeof one === "string" || typeof one === "number") return `--${name}=${one}`;
    throw new InputError(what, `the option ${safeLine(name)} is neither a text nor a list of them`);
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

async function* eachOf(lines: readonly Line[]): AsyncGenerator<Line> {
  yield* lines;
}

async function* bytesOf(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path) as AsyncIterable<Uint8Array>;
  } catch (cause) {
    throw openFault(path, "a batch: one JSON object a line", cause);
  }
}

async function* linesOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  const decoder = new TextDecoder();
  let rest = "";
  let number = 0;
  const tooLong = () => {
    throw new InputError(`line ${number + 1}`, `has more than ${LINE_BYTES_MAX} bytes`);
  };
  for await (const piece of bytes) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop()!;
    if (rest.length > LINE_BYTES_MAX) tooLong();
    for (const text of lines) {
      number++;
      if (text.trim() !== "") yield { number, text };
    }
  }
  rest += decoder.decode();
  if (rest.trim() !== "") yield { number: number + 1, text: rest };
}
