/**
 * Tar: reads entries from any kind of tar, and writes them as PAX. To read the bytes of files as well, open the tar with
 * `openTar` from `@blessfs/blessfs/source`.
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
