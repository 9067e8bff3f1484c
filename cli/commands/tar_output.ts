/**
 * Where commands that write a tar write it to.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { createStdoutSink, type ImageSink } from "../../lib/io/sink.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
import type { TarCounts } from "../../lib/bless/export.ts";
import type { CommandIo } from "../io.ts";
import { formatCount } from "../sizes.ts";
import { refuseInsideSource } from "./outside_source.ts";

/** The sink of `-o`: a file, or standard output for `-`. */
export function tarSink(
  output: string,
  sources: readonly string[],
  force: boolean,
  io: CommandIo,
): ImageSink {
  if (output !== "-") {
    for (const source of sources) refuseInsideSource(output, source);
    return createFileSink(output, { force, signal: io.signal, sourcePaths: localPaths(sources) });
  }
  if (io.json) {
    throw new UsageError("--json", "the tar takes standard output, so the report cannot", {
      hint: "write the tar to a file, or leave out --json",
    });
  }
  if (io.stdout.isTerminal) {
    throw new UsageError("--output", "`-` is standard output, and that is a terminal", {
      hint: "direct it into a file or a program",
    });
  }
  return createStdoutSink((bytes) => io.stdout.writeThrough(bytes));
}

function localPaths(sources: readonly string[]): string[] {
  return sources.flatMap((source) => {
    const name = parseSourceName(source, existsSync);
    return "path" in name ? [name.path] : [];
  });
}

/** What a tar has in it, in one line. */
export function contentText(counts: TarCounts): string {
  const kinds: [count: number, name: string][] = [
    [counts.files, "files"],
    [counts.directories, "directories"],
    [counts.symlinks, "symlinks"],
    [counts.hardLinks, "hard links"],
    [counts.specialFiles, "special files"],
    [counts.whiteouts, "whiteouts"],
  ];
  const shown = kinds.filter(([count]) => count > 0).map(([count, name]) =>
    `${formatCount(count)} ${name}`
  );
  return shown.length === 0 ? "nothing" : shown.join(", ");
}
