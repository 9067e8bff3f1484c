/**
 * Exports sources as tars: a whole source, or the OCI layer that turns one source into another.
 *
 * @module
 */
import { formatUuid } from "../bytes/digest.ts";
import type { ImageSink } from "../io/sink.ts";
import { resolveOptions, type SourceOptions } from "../source/source.ts";
import { uuidComment } from "../tar/pax.ts";
import {
  LAYER_HOLE_BYTES_MAX,
  layerItems,
  type TarItem,
  treeItems,
  writeTar,
} from "../tree/tar.ts";
import { rankPayloads } from "../tree/layer.ts";
import { WHITEOUT_PREFIX } from "../tree/whiteouts.ts";
import type { WarningSummary } from "../warnings.ts";
import { deriveUuid, withTree } from "./plan_image.ts";
import { type DiffCounts, diffTrees } from "../tree/diff.ts";

/** What to export, and where. */
export interface ExportOptions extends SourceOptions {
  /** The source as on the command line: an ext4 image, or any other source. */
  readonly source: string;
  /** Receives the tar; finished on success and aborted otherwise. */
  readonly sink: ImageSink;
  /** Treat the tree as an overlayfs layer: its whiteout devices and opaque attributes become OCI markers. */
  readonly layer?: boolean | undefined;
}

/** The number of entries in a tar, by kind. */
export interface TarCounts {
  /** Regular files; further names count as hard links. */
  files: number;
  /** Directories, including the root. */
  directories: number;
  /** Symbolic links. */
  symlinks: number;
  /** Devices and FIFOs. */
  specialFiles: number;
  /** Hard links to earlier entries. */
  hardLinks: number;
  /** Whiteouts and opaque markers. */
  whiteouts: number;
}

/** The result of an export. */
export interface ExportReport extends Readonly<TarCounts> {
  /** The source as given. */
  readonly source: string;
  /** The UUID that an image blessed from the tar will have. */
  readonly uuid: string;
  /** The size of the tar. */
  readonly sizeBytes: number;
  /** What was changed or left out. */
  readonly warnings: readonly WarningSummary[];
}

/**
 * Exports a source. The tar depends only on the source, and blessing it gives the same bytes as blessing the source
 * with the same options. To make this possible, the tar states the UUID, and the payload order of files that are not in
 * path order.
 *
 * Throws the errors of blessMerged(), after aborting the sink.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { createFileSink } from "../io/file_sink.ts";
 * import { NO_PROGRESS } from "../progress.ts";
 * import { Warnings } from "../warnings.ts";
 * import { exportTar } from "./export.ts";
 * const directory = mkdtempSync(join(tmpdir(), "export-"));
 * writeFileSync(join(directory, "empty.tar"), new Uint8Array(1024));
 * const { directories, sizeBytes } = await exportTar({
 *   source: `tar:${join(directory, "empty.tar")}`,
 *   sink: createFileSink(join(directory, "out.tar")),
 *   progress: NO_PROGRESS,
 *   warnings: new Warnings(),
 * });
 * assertEquals(directories, 1);
 * assertEquals(readFileSync(join(directory, "out.tar")).length, sizeBytes);
 * rmSync(directory, { recursive: true });
 * ```
 */
export async function exportTar(given: ExportOptions): Promise<ExportReport> {
  const options = resolveOptions(given);
  const { source, sink, layer = false, warnings } = options;
  try {
    return await withTree(source, options, async ({ tree, identity }) => {
      const uuid = formatUuid(deriveUuid(identity));
      const counts = noCounts();
      rankPayloads(tree, ({ firstLayer = 0 }) => firstLayer);
      const items = layer ? layerItems(tree, warnings) : treeItems(tree, warnings);
      const sizeBytes = await writeTar(counted(items, counts, layer), sink, {
        comment: uuidComment(uuid),
        denseHoleBytesMax: layer ? LAYER_HOLE_BYTES_MAX : 0,
        signal: options.signal,
        progress: options.progress,
      });
      return { source, uuid, sizeBytes, ...counts, warnings: warnings.list() };
    });
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

export function noCounts(): TarCounts {
  return { files: 0, directories: 0, symlinks: 0, specialFiles: 0, hardLinks: 0, whiteouts: 0 };
}

/** Counts entries while passing them on. In a layer, `.wh.` names count as whiteouts. */
export function* counted(
  items: Iterable<TarItem>,
  counts: TarCounts,
  isLayer: boolean,
): Generator<TarItem> {
  for (const item of items) {
    const { kind, path } = item.entry;
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (isLayer && name.startsWith(WHITEOUT_PREFIX)) counts.whiteouts++;
    else if (kind === "file") counts.files++;
    else if (kind === "directory") counts.directories++;
    else if (kind === "symlink") counts.symlinks++;
    else if (kind === "hardlink") counts.hardLinks++;
    else counts.specialFiles++;
    yield item;
  }
}

/** What to compare, and where to write the layer. */
export interface DiffSourcesOptions extends SourceOptions {
  /** The source that the layer is applied to, as on the command line. */
  readonly before: string;
  /** The source that results from applying it; additions are added to this one. */
  readonly after: string;
  /** Receives the layer, uncompressed; when left out, the sources are only compared. */
  readonly sink?: ImageSink | undefined;
}

/** The result of a comparison. */
export interface DiffReport extends Readonly<DiffCounts> {
  /** The source as given. */
  readonly before: string;
  /** The source as given. */
  readonly after: string;
  /** Whether the sources are the same. */
  readonly isEqual: boolean;
  /** The entries of the layer. */
  readonly entries: Readonly<TarCounts>;
  /** The size of the layer; null when none was written. */
  readonly sizeBytes: number | null;
  /** What was changed or left out. */
  readonly warnings: readonly WarningSummary[];
}

/**
 * Compares two sources and writes the layer that turns the first into the second. Attributes, times and contents are
 * compared. Throws the errors of blessMerged(), after aborting the sink.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
 * import { tmpdir } from "node:os";
 * import { join } from "node:path";
 * import { diffSources } from "./export.ts";
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
