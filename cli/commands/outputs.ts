/**
 * Where commands write to, and how they show what they wrote.
 *
 * @module
 */
import { existsSync, realpathSync, statSync } from "node:fs";
import { sep } from "node:path";
import type { TarCounts } from "../../lib/bless/export.ts";
import { IoError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { realPathOf, statIfThere } from "../../lib/io/paths.ts";
import { createStdoutSink, type ImageSink } from "../../lib/io/sink.ts";
import { isTreeDirectory } from "../../lib/source/source.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
import type { CommandIo, ParsedArguments } from "../command.ts";
import { ClosedPipeError, safeLine } from "../errors.ts";
import { formatCount, formatSize } from "../values.ts";

/** Standard output for what is made, which `what` names. A reader that leaves before it is whole is a failure. */
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

/** The sink of a tar: a file, or standard output for `-`. */
export function tarSink(
  output: string,
  { sources, addedPaths = [], force }: {
    readonly sources: readonly string[];
    readonly addedPaths?: readonly string[];
    readonly force: boolean;
  },
  io: CommandIo,
): ImageSink {
  if (output !== "-") {
    for (const source of sources) refuseInsideSource(output, source);
    for (const path of addedPaths) refuseInsideTree(output, path);
    const sourcePaths = [...localPaths(sources), ...addedPaths];
    return createFileSink(output, { force, signal: io.signal, sourcePaths });
  }
  const sink = stdoutSink("tar", io);
  if (!io.stdout.isTerminal) return sink;
  throw new UsageError("--output", "`-` is standard output, and that is a terminal", {
    hint: "redirect it into a file or a program",
  });
}

/**
 * The sink of `--config`: a file, or standard output for `-`; undefined where none is asked for, or nothing is to be written.
 *
 * @param image the output beside it; undefined when it is not a file
 */
export function configSink(
  args: ParsedArguments,
  io: CommandIo,
  { image, sourcePaths }: {
    readonly image: string | undefined;
    readonly sourcePaths: readonly string[];
  },
): ImageSink | undefined {
  const config = args.value("config");
  if (config === undefined || args.flag("dry-run")) return undefined;
  if (config === "-") {
    if (args.value("output") === "-") {
      throw new UsageError("--config", "the image takes standard output, so the config cannot");
    }
    return stdoutSink("config", io);
  }
  if (image !== undefined && realPathOf(image) === realPathOf(config)) {
    throw new UsageError(safeLine(config), "is named for the output and for the config", {
      hint: "name two files",
    });
  }
  refuseInsideSource(config, args.positional("SOURCE"));
  return createFileSink(config, { force: args.flag("force"), signal: io.signal, sourcePaths });
}

/** Refuses to wait for a person who types an image. */
export function refuseTerminal(operand: string, io: CommandIo, hint?: string): void {
  if (!io.stdin.isTerminal) return;
  const details = hint === undefined ? {} : { hint };
  throw new UsageError(operand, "`-` is standard input, and that is a terminal", details);
}

/** The paths of this machine that sources name. */
export function localPaths(sources: readonly string[]): string[] {
  return sources.flatMap((source) => {
    const name = parseSourceName(source, existsSync);
    return "path" in name ? [name.path] : [];
  });
}

/** Refuses a device that is written and read: a source under another name is still itself. */
export function refuseSameDevice(device: string, sourcePaths: readonly string[]): void {
  const { rdev } = statSync(device);
  for (const path of sourcePaths) {
    const source = statIfThere(path);
    if (source?.isBlockDevice() !== true || source.rdev !== rdev) continue;
    throw new UsageError(safeLine(device), "is the source too: the output must be another device");
  }
}

/**
 * Refuses an output inside the directory tree that is its source: it would be a part of itself, now or the next time.
 *
 * @param output a file or a directory, there or not
 * @throws {UsageError} when it lies there
 */
export function refuseInsideSource(output: string, source: string): void {
  const tree = treeOf(source);
  if (tree !== undefined) refuseInsideTree(output, tree);
}

/** Refuses an output inside a directory that is read. */
export function refuseInsideTree(output: string, tree: string): void {
  if (!existsSync(tree) || !statSync(tree).isDirectory()) return;
  const root = realpathSync.native(tree);
  const path = realPathOf(output);
  if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) return;
  throw new UsageError(safeLine(output), `lies inside its source ${safeLine(tree)}`, {
    hint: "name a place outside of the tree",
  });
}

/** The directory that a source is the tree of; undefined for every other source. */
function treeOf(source: string): string | undefined {
  const name = parseSourceName(source, existsSync);
  if (name.kind !== "rootfs" && name.kind !== "path") return undefined;
  const { path } = name;
  if (!existsSync(path) || !statSync(path).isDirectory()) return undefined;
  return name.kind === "rootfs" || isTreeDirectory(path) ? path : undefined;
}

/** Counts in words, those of nothing left out: `12 files, 3 directories`. */
export function countsText(counts: readonly (readonly [count: number, name: string])[]): string {
  return counts.filter(([count]) => count > 0)
    .map(([count, name]) => `${formatCount(count)} ${name}`).join(", ");
}

/** What a tar has in it, in one line. */
export function contentText(counts: TarCounts): string {
  const text = countsText([
    [counts.files, "files"],
    [counts.directories, "directories"],
    [counts.symlinks, "symlinks"],
    [counts.hardLinks, "hard links"],
    [counts.specialFiles, "special files"],
    [counts.whiteouts, "whiteouts"],
  ]);
  return text === "" ? "nothing" : text;
}

/** A size rounded, and exact: `1.5 MiB (1,572,864 bytes)`. */
export function exactSize(sizeBytes: number): string {
  return `${formatSize(sizeBytes)} (${formatCount(sizeBytes)} bytes)`;
}
