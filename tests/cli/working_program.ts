/**
 * The real program around commands that misbehave: what a process does with signals, pipes and faults is tested with
 * these, as the real commands are too quick or too polite for it.
 */
import { isMainThread } from "node:worker_threads";
import type { Command, CommandIo, ParsedArguments } from "../../cli/command.ts";
import { JSON_OPTION } from "../../cli/command.ts";
import { runProgram } from "../../cli/process.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { createStdoutSink } from "../../lib/io/sink.ts";

const MIB = 1 << 20;

function spin(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

function command(
  name: string,
  run: (args: ParsedArguments, io: CommandIo) => Promise<void>,
  positionals: Command["positionals"] = [],
): Command {
  const load = () => Promise.resolve(run);
  return { name, summary: name, examples: [], options: [JSON_OPTION], positionals, load };
}

const FILE = [{ name: "FILE", summary: "the output" }];

const commands: readonly Command[] = [
  /** Writes for ever, in loops that do not yield for 100 ms. */
  command("endless", async (args, io) => {
    const sink = createFileSink(args.positional("FILE"), { signal: io.signal });
    await sink.write(new Uint8Array(1), 0);
    io.stderr.write("working\n");
    for (let offset = MIB;; offset += MIB) {
      spin(100);
      await sink.write(new Uint8Array(16 * MIB), offset);
      offset += 16 * MIB;
      await sink.write(new Uint8Array(MIB), offset);
    }
  }, FILE),
  /** After the first signal it spins and never looks at it again. */
  command("stubborn", async (args, io) => {
    const sink = createFileSink(args.positional("FILE"), { signal: io.signal });
    await sink.write(new Uint8Array(1), 0);
    io.signal.addEventListener("abort", () =>
      setTimeout(() => {
        io.stderr.write("stubborn\n");
        spin(60_000);
      }));
    io.stderr.write("working\n");
    await new Promise(() => {});
  }, FILE),
  /** Waits for something that never comes and never looks at the signal. */
  command("deaf", async (args, io) => {
    const sink = createFileSink(args.positional("FILE"), { signal: io.signal });
    await sink.write(new Uint8Array(1), 0);
    io.stderr.write("working\n");
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  }, FILE),
  /** Streams a large image to standard output. */
  command("stream", async (_args, io) => {
    const sink = createStdoutSink((bytes) => io.stdout.writeThrough(bytes));
    const bytes = new Uint8Array(MIB);
    if (io.env["BLESSFS_TEST_SAYS_SO"]) io.stderr.write("streaming\n");
    for (let piece = 0; piece < 64; piece++) await sink.write(bytes.fill(piece), piece * 2 * MIB);
    await sink.finish(128 * MIB);
  }),
  command("lines", async (_args, io) => {
    for (let i = 0; i < 200_000; i++) await io.stdout.write(`line ${i}\n`);
  }),
  command("fault", () => Promise.reject(new TypeError("x is undefined"))),
  /** Fails outside of the command's own promise. */
  command("stray", async () => {
    setTimeout(() => {
      throw new Error("astray");
    });
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  }),
  /** Leaves a timer behind that would hold the process back. */
  command("lingering", (_args, io) => {
    setTimeout(() => {}, 60_000);
    io.progress.begin("left open", 10);
    return Promise.resolve();
  }),
  command("echo", async (_args, io) => {
    for await (const chunk of io.stdin.chunks()) await io.stdout.write(chunk);
  }),
  /** Takes a second and a half, with progress. */
  command("slow", async (_args, io) => {
    const task = io.progress.begin("layer 1/1", 100);
    for (let i = 0; i < 15; i++) {
      spin(100);
      task.advance(5);
      await Promise.resolve();
    }
    task.end();
    await io.stdout.write("finished\n");
  }),
  /** Writes more than a limit on the size of files allows. */
  command("large", async (args) => {
    const sink = createFileSink(args.positional("FILE"));
    for (let piece = 0; piece < 16; piece++) {
      await sink.write(new Uint8Array(MIB).fill(1), piece * MIB);
    }
    await sink.finish(16 * MIB);
  }, FILE),
];

if (isMainThread) await runProgram(commands);
