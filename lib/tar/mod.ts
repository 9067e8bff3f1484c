/**
 * Tar: entries read from any kind of tar, and written as PAX.
 *
 * @example List what is in a tar
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { displayName, TarIndexer } from "../../mod.ts";
 *
 * const names: string[] = [];
 * const indexer = new TarIndexer({
 *   name: "gnu-v7.tar",
 *   emit: (entry) => names.push(displayName(entry.path)),
 *   warn: () => {},
 * });
 * // In pieces of any size.
 * indexer.push(readFileSync(new URL("../../fixtures/tar/gnu-v7.tar", import.meta.url)));
 * indexer.end();
 * assertEquals(names.slice(0, 3), ["simple/", "simple/dir/", "simple/dir/file"]);
 * ```
 *
 * @module
 */
export { TarIndexer } from "./indexer.ts";
export type { TarIndexerOptions } from "./indexer.ts";
export { encodeTarEntry, END_OF_ARCHIVE_SIZE_BYTES } from "./writer.ts";
export type { EncodedTarEntry, StoredRange } from "./writer.ts";
export type { TarEntry, TarEntryKind } from "./entry.ts";
export type { TarLimits } from "./limits.ts";
export type { WarnCallback } from "./pax.ts";
