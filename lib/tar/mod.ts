/**
 * Tar: entries read from any kind of tar, and written as PAX. A tar with the bytes of its files is opened by `openTar` of
 * `@blessfs/blessfs/source`.
 *
 * @example List what is in a tar
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readFileSync } from "node:fs";
 * import { displayName } from "@blessfs/blessfs";
 * import { TarIndexer } from "@blessfs/blessfs/tar";
 *
 * const names: string[] = [];
 * const indexer = new TarIndexer({
 *   name: "gnu-v7.tar",
 *   emit: (entry) => names.push(displayName(entry.path)),
 *   warn: () => {},
 * });
 * // In pieces of any size.
 * indexer.push(readFileSync("fixtures/tar/gnu-v7.tar"));
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
export { DEFAULT_TAR_LIMITS } from "./header.ts";
export type { TarLimits } from "./header.ts";
export type { WarnCallback } from "./pax.ts";
