/**
 * The OCI layer that turns one source into another.
 *
 * @module
 */
import type { ImageSink } from "../io/sink.ts";
import { resolveOptions, type SourceOptions } from "../source/source.ts";
import { type DiffCounts, diffTrees } from "../tree/diff.ts";
import type { WarningSummary } from "../warnings.ts";
import { LAYER_HOLE_BYTES_MAX, writeTar } from "../tree/write_tar.ts";
import { counted, noCounts, type TarCounts } from "./export.ts";
import { withTree } from "./load_tree.ts";

/** What to compare, and where to write the layer. */
export interface DiffSourcesOptions extends SourceOptions {
  /** The source that the layer is applied to, as on the command line. */
  readonly before: string;
  /** The source that it results in; additions are put on this one. */
  readonly after: string;
  /** Receives the layer, uncompressed; without it, the sources are only compared. */
  readonly sink?: ImageSink | undefined;
  /** Unix time for everything that the sources give no time for; default 0. */
  readonly timestamp?: number | undefined;
}

/** The result of a comparison. */
export interface DiffReport extends Readonly<DiffCounts> {
  /** As it was given. */
  readonly before: string;
  /** As it was given. */
  readonly after: string;
  /** Whether the sources are the same. */
  readonly isEqual: boolean;
  /** The entries of the layer. */
  readonly entries: Readonly<TarCounts>;
  /** Of the layer; null when none was written. */
  readonly sizeBytes: number | null;
  /** What was left out or changed. */
  readonly warnings: readonly WarningSummary[];
}

/**
 * Compares two sources and writes the layer. Attributes, times and bytes are compared; applying the layer to the first
 * source gives the tree of the second. Throws what blessMerged() throws, after aborting the sink.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { diffSources } from "./diff.ts";
 * const directory = mkdtempSync(join(tmpdir(), "diff-"));
 * const tar = join(directory, "empty.tar");
 * writeFileSync(tar, new Uint8Array(1024));
 * const { isEqual } = await diffSources({
 *   before: `tar:${tar}`, after: `tar:${tar}`,
 * });
 * rmSync(directory, { recursive: true });
 * assertEquals(isEqual, true);
 * ```
 */
export async function diffSources(given: DiffSourcesOptions): Promise<DiffReport> {
  const options = resolveOptions(given);
  try {
    return await withTree(
      options.before,
      { ...options, additions: [], uidMap: undefined, gidMap: undefined },
      ({ tree: before }) =>
        withTree(options.after, options, async ({ tree: after }) => {
          const { warnings, signal, progress, sink } = options;
          const { items, counts } = await diffTrees(before, after, { warnings, signal });
          const entries = noCounts();
          const all = [...counted(items, entries, true)];
          const sizeBytes = sink === undefined ? null : await writeTar(all, sink, {
            denseHoleBytesMax: LAYER_HOLE_BYTES_MAX,
            signal,
            progress,
          });
          return {
            before: options.before,
            after: options.after,
            isEqual: counts.added + counts.removed + counts.changed === 0,
            ...counts,
            entries,
            sizeBytes,
            warnings: warnings.list(),
          };
        }),
    );
  } catch (error) {
    await options.sink?.abort();
    throw error;
  }
}
