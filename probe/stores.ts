/**
 * The stores of all schemes of one probe, over one table of contents.
 *
 * @module
 */
import type { Scheme } from "./options.ts";
import { ContentTable } from "./units/content_table.ts";
import { CellCompositions } from "./units/plan_cutter.ts";
import { SchemeStore } from "./units/scheme_store.ts";
import type { StoredSizes } from "./units/stored_sizes.ts";

/** A scheme and its store. */
export interface MeasuredScheme {
  readonly scheme: Scheme;
  readonly store: SchemeStore;
}

/** Everything that a probe fills. */
export interface ProbeStores {
  readonly table: ContentTable;
  readonly sizes: StoredSizes | undefined;
  readonly measured: readonly MeasuredScheme[];
  readonly compositions: CellCompositions;
}

/** What the stores of a probe are for. */
export interface StoreChoices {
  /** Undefined where nothing is compressed here. */
  readonly sizes?: StoredSizes | undefined;
  /** Whether stored sizes are others than raw ones; by default, whether something is compressed. */
  readonly isCompressed?: boolean;
  /** Whether places of units are wanted. */
  readonly keepsPlaces?: boolean;
}

/** Empty stores. */
export function createStores(schemes: readonly Scheme[], choices: StoreChoices): ProbeStores {
  const { sizes, isCompressed = sizes !== undefined, keepsPlaces } = choices;
  const table = new ContentTable();
  const measured = schemes.map((scheme) => ({
    scheme,
    store: new SchemeStore(table, isCompressed, keepsPlaces),
  }));
  return { table, sizes, measured, compositions: new CellCompositions() };
}
