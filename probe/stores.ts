/**
 * The stores of all schemes of one probe, over one table of contents.
 *
 * @module
 */
import type { ProbeOptions, Scheme } from "./options.ts";
import type { StoredSizeOf } from "./units/compressor.ts";
import { storedSizeMeasure } from "./units/compressor.ts";
import { ContentTable } from "./units/content_table.ts";
import { CellCompositions } from "./units/plan_cutter.ts";
import { SchemeStore } from "./units/scheme_store.ts";

/** A scheme and its store. */
export interface MeasuredScheme {
  readonly scheme: Scheme;
  readonly store: SchemeStore;
}

/** Everything that a probe fills. */
export interface ProbeStores {
  readonly table: ContentTable;
  readonly storedSizeOf: StoredSizeOf | undefined;
  readonly measured: readonly MeasuredScheme[];
  readonly compositions: CellCompositions;
}

/** Empty stores. */
export function createStores(
  schemes: readonly Scheme[],
  compression: ProbeOptions["compression"],
): ProbeStores {
  const table = new ContentTable();
  const storedSizeOf = storedSizeMeasure(compression);
  const measured = schemes.map((scheme) => ({
    scheme,
    store: new SchemeStore(table, storedSizeOf !== undefined),
  }));
  return { table, storedSizeOf, measured, compositions: new CellCompositions() };
}
