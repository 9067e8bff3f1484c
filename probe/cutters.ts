/**
 * The sinks that fill the stores.
 *
 * @module
 */
import type { ImageSink } from "../lib/io/sink.ts";
import type { Scheme } from "./options.ts";
import type { ProbeStores } from "./stores.ts";
import { CellCutter } from "./units/cell_cutter.ts";
import { ChunkCutter } from "./units/chunk_cutter.ts";
import type { ImageCollector } from "./units/scheme_store.ts";
import type { StoredSizes } from "./units/stored_sizes.ts";
import { pause } from "./units/stored_sizes.ts";

/** Told which content each cell of the grid has. */
export type CellListener = (cellIndex: number, content: number) => void;

/** A sink that cuts as a scheme does. */
export function cutterOf(
  scheme: Scheme,
  collector: ImageCollector,
  stores: ProbeStores,
  listener?: CellListener,
): ImageSink {
  const { table, sizes } = stores;
  if (scheme.chunker !== undefined) {
    return new ChunkCutter(scheme.chunker, (chunk, rawBytes, offset) => {
      collector.add(table.indexOfBytes(chunk, sizes), rawBytes, offset);
    });
  }
  return new CellCutter(scheme.gridBytes, (cell, cellIndex, rawBytes) => {
    const content = table.indexOfBytes(cell, sizes);
    collector.add(content, rawBytes, cellIndex * scheme.gridBytes);
    listener?.(cellIndex, content);
  });
}

/** What cutters stop for. */
export interface CutPauses {
  /** Undefined where nothing is compressed. */
  readonly sizes?: StoredSizes | undefined;
  readonly signal?: AbortSignal | undefined;
}

const PAUSE_AFTER_BYTES = 16 * 1024 * 1024;

/** Gives the same bytes to sinks that never wait, with a pause now and then, and without a promise for every write. */
export function cutTogether(sinks: readonly ImageSink[], pauses: CutPauses): ImageSink {
  let sincePause = 0;
  return {
    write: (bytes, offset) => {
      for (const sink of sinks) sink.write(bytes, offset);
      sincePause += bytes.length * sinks.length;
      if (sincePause < PAUSE_AFTER_BYTES) return;
      sincePause = 0;
      return pause(pauses.sizes, pauses.signal);
    },
    finish: (sizeBytes) => {
      for (const sink of sinks) sink.finish(sizeBytes);
    },
    abort: () => {
      for (const sink of sinks) sink.abort();
    },
  };
}
