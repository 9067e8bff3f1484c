/**
 * Where commands write their output, and how they describe it.
 *
 * @module
 */
import { existsSync, realpathSync, statSync } from "node:fs";
import { sep } from "node:path";
import { IoError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { realPathOf, statIfThere } from "../../lib/io/paths.ts";
import { createStdoutSink, type ImageSink } from "../../lib/io/sink.ts";
import { isTreeDirectory } from "../../lib/source/source.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { ClosedPipeError, safeLine } from "../errors.ts";
import { formatCount, formatSize } from "../values.ts";

/** A sink that writes to standard output; `what` names the output. It is an error if the reader closes it early. */
export function stdoutSink(what: string, io: CommandIo): ImageSink {
  if (!io.json) {
    return createStdoutSink(async (bytes) => {
      try {
        await io.stdout.writeThrough(bytes);
      } catch (error) {
        if (!(error instanceof ClosedPipeError)) throw error;
        throw new IoError("standard output", `was closed before the ${what} was whole`);
      }
    });
  }
  const why = `the ${what} takes standard output, so the report cannot`;
  throw new UsageError("--json", why, {
    hint: `write the ${what} to a file, or leave out --json`,
  });
}

/** Outputs by their real paths: no file may be written twice, neither by one call nor by two lines of a batch. */
export class OutputNames {
  readonly #named = new Map<string, { readonly what: string; readonly line: number | undefined }>();

  /** @throws {UsageError} for a path that is already taken */
  take(path: string, what: string, line?: number): void {
    const real = realPathOf(path);
    const other = this.#named.get(real);
    if (other === undefined) return void this.#named.set(real, { what, line });
    const isOtherLine = other.line !== line;
    const why = isOtherLine
      ? `is the output of line ${other.line} too`
      : `is named for ${other.what} and for ${what}`;
    throw new UsageError(safeLine(path), why, isOtherLine ? {} : { hint: "name two files" });
  }

  /** Forgets the outputs of a line that failed. */
  release(line: number): void {
    for (const [path, named] of this.#named) if (named.line === line) this.#named.delete(path);
  }
}

/** A call's inputs; no output may be one of them or lie inside one. */
interface CallInputs {
  readonly sources: readonly string[];
  /** Files and directories that are added. */
  readonly added?: readonly string[];
}

/** The outputs of one call. They are checked before the work begins, and get their names when they are complete. */
export class Outputs {
  readonly sourcePaths: readonly string[];
  readonly #args: ParsedArguments;
  readonly #io: CommandIo;
  readonly #inputs: CallInputs;
  readonly #names: OutputNames;
  readonly #line: number | undefined;

  /** @param names those of all lines, for a line of a batch */
  constructor(
    args: ParsedArguments,
    io: CommandIo,
    inputs: CallInputs,
    { names = new OutputNames(), line }: { names?: OutputNames; line?: number } = {},
  ) {
    this.#args = args;
    this.#io = io;
    this.#inputs = inputs;
    this.#names = names;
    this.#line = line;
    this.sourcePaths = [...localPaths(inputs.sources), ...inputs.added ?? []];
  }

  /**
   * Takes a name.
   *
   * @param what what the output is, for the error
   * @throws {UsageError} when another output has this name, or it lies inside an input
   */
  take(path: string, what: string): void {
    this.#names.take(path, what, this.#line);
    this.#refuseInside(path);
  }

  /**
   * The sink of a file.
   *
   * @param otherPaths more paths it must not be
   */
  file(path: string, what: string, otherPaths: readonly string[] = []): ImageSink {
    this.#names.take(path, what, this.#line);
    const sourcePaths = [...this.sourcePaths, ...otherPaths];
    const options = { force: this.#args.flag("force"), signal: this.#io.signal, sourcePaths };
    const sink = createFileSink(path, options);
    this.#refuseInside(path);
    return sink;
  }

  #refuseInside(path: string): void {
    for (const source of this.#inputs.sources) refuseInsideSource(path, source);
    for (const added of this.#inputs.added ?? []) refuseInsideTree(path, added);
  }

  /** The sink of a tar: a file, or standard output for `-`. */
  tar(path: string): ImageSink {
    if (path !== "-") return this.file(path, "the tar");
    const sink = stdoutSink("tar", this.#io);
    if (!this.#io.stdout.isTerminal) return sink;
    throw new UsageError("--output", "`-` is standard output, and that is a terminal", {
      hint: "redirect it into a file or a program",
    });
  }

  /** The sink of `--config`; undefined if not requested, or with `--dry-run`. */
  config(otherPaths: readonly string[] = []): ImageSink | undefined {
    const config = this.#args.value("config");
    if (config === undefined || this.#args.flag("dry-run")) return undefined;
    if (config !== "-") return this.file(config, "the config", otherPaths);
    if (this.#args.value("output") !== "-") return stdoutSink("config", this.#io);
    throw new UsageError("--config", "the image takes standard output, so the config cannot");
  }
}

/** Refuses to read an image from a terminal. */
export function refuseTerminal(operand: string, io: CommandIo, hint?: string): void {
  if (!io.stdin.isTerminal) return;
  throw new UsageError(operand, "`-` is standard input, and that is a terminal", { hint });
}

/** The local paths that sources name. */
export function localPaths(sources: readonly string[]): string[] {
  return sources.flatMap((source) => {
    const name = parseSourceName(source, existsSync);
    return "path" in name ? [name.path] : [];
  });
}

/** Refuses a device that is both read and written, even if a source names it differently. */
export function refuseSameDevice(device: string, sourcePaths: readonly string[]): void {
  const { rdev } = statSync(device);
  for (const path of sourcePaths) {
    const source = statIfThere(path);
    if (source?.isBlockDevice() !== true || source.rdev !== rdev) continue;
    throw new UsageError(safeLine(device), "is the source too: the output must be another device");
  }
}

/**
 * Refuses an output inside the directory tree that is its source: it would become part of its own input, now or next
 * time.
 *
 * @param output a file or a directory, which may not exist yet
 * @throws {UsageError} when it lies inside
 */
export function refuseInsideSource(output: string, source: string): void {
  const tree = treeOf(source);
  if (tree !== undefined) refuseInsideTree(output, tree);
}

function refuseInsideTree(output: string, tree: string): void {
  if (!existsSync(tree) || !statSync(tree).isDirectory()) return;
  const root = realpathSync.native(tree);
  const path = realPathOf(output);
  if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) return;
  throw new UsageError(safeLine(output), `lies inside its source ${safeLine(tree)}`, {
    hint: "name a place outside of the tree",
  });
}

/** The directory that a source reads as a tree; undefined for every other source. */
function treeOf(source: string): string | undefined {
  const name = parseSourceName(source, existsSync);
  if (name.kind !== "rootfs" && name.kind !== "path") return undefined;
  const { path } = name;
  if (!existsSync(path) || !statSync(path).isDirectory()) return undefined;
  return name.kind === "rootfs" || isTreeDirectory(path) ? path : undefined;
}

/** Counts in words, without the zero ones: `12 files, 3 directories`. */
export function countsText(counts: readonly (readonly [count: number, name: string])[]): string {
  return counts.filter(([count]) => count > 0)
    .map(([count, name]) => `${formatCount(count)} ${name}`).join(", ");
}

/** A size, rounded and exact: `1.5 MiB (1,572,864 bytes)`. */
export function exactSize(sizeBytes: number): string {
  return `${formatSize(sizeBytes)} (${formatCount(sizeBytes)} bytes)`;
}
