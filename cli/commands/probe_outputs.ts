/**
 * The files that a probe writes beside its answer.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { parseSourceName } from "../../lib/source/source_name.ts";
import { reportChart } from "../../probe/chart.ts";
import type { ProbeReport } from "../../probe/report.ts";
import { safeLine } from "../errors_output.ts";
import type { CommandIo } from "../io.ts";
import type { ParsedArguments } from "../parsed_arguments.ts";

/** Files that get their names when they are whole. */
export class ProbeOutputs {
  /** Undefined when none are wanted. */
  readonly fingerprints: ImageSink | undefined;
  readonly #chart: ImageSink | undefined;

  /** Opened first, so that a file that is in the way is told before the work. */
  constructor(args: ParsedArguments, io: CommandIo) {
    const sourcePaths = localPaths(args.positionals("SOURCE"), args.flag("from"));
    const sinkOf = (path: string | undefined) =>
      path === undefined
        ? undefined
        : createFileSink(path, { force: args.flag("force"), signal: io.signal, sourcePaths });
    const [plot, fingerprints] = [fileValue(args, "plot"), fileValue(args, "fingerprints")];
    if (
      plot !== undefined && fingerprints !== undefined && resolve(plot) === resolve(fingerprints)
    ) {
      throw new UsageError(`--plot ${safeLine(plot)}`, "is the file of --fingerprints, too");
    }
    this.#chart = sinkOf(plot);
    this.fingerprints = sinkOf(fingerprints);
  }

  async writeChart(report: ProbeReport): Promise<void> {
    if (this.#chart === undefined) return;
    const chart = new TextEncoder().encode(reportChart(report));
    await this.#chart.write(chart, 0);
    await this.#chart.finish(chart.length);
  }

  /** Drops what was not finished. */
  async abort(): Promise<void> {
    await this.#chart?.abort();
    await this.fingerprints?.abort();
  }
}

/** Standard output has the report, and `-` is the name of no file. */
function fileValue(args: ParsedArguments, name: string): string | undefined {
  const path = args.value(name);
  if (path !== "-") return path;
  throw new UsageError(`--${name} -`, "standard output has the report: wanted a file");
}

function localPaths(sources: readonly string[], areFiles: boolean): readonly string[] {
  if (areFiles) return sources;
  return sources.flatMap((source) => {
    const name = parseSourceName(source, existsSync);
    return "path" in name ? [name.path] : [];
  });
}
