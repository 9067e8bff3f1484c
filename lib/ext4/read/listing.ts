/**
 * Names of an image one after another, for listings: no tree is built.
 *
 * @module
 */
import type { ByteString } from "../../bytes/byte_string.ts";
import { displayName } from "../../bytes/byte_string.ts";
import { InputError } from "../../errors.ts";
import { readDirectory } from "./directory.ts";
import { isReservedInode } from "./inode.ts";
import { DEFAULT_READ_LIMITS } from "./limits.ts";
import type { FoundInode } from "./path.ts";
import type { Ext4Image } from "./types.ts";

/**
 * The names in a directory in byte order, and with `recursive` those below each of them, a directory before what is in
 * it. A lost+found is a name like any other. Memory holds the names of the directories that are open, and a number for
 * each directory.
 *
 * @throws {InputError} for a damaged directory, and one that has two names
 */
export function* listNames(
  image: Ext4Image,
  start: FoundInode,
  options: { readonly recursive: boolean },
): Generator<FoundInode> {
  const { maxPathDepth } = DEFAULT_READ_LIMITS;
  const pending = [{ directory: start, depth: 0 }];
  const waiting: { path: ByteString; inodeNumber: number; depth: number }[] = [];
  const seen = new Set<number>([start.inode.number]);
  for (let item = pending.pop(); item; item = pending.pop()) {
    const { directory, depth } = item;
    const { names } = readDirectory(image, directory.inode);
    for (const { name, inodeNumber } of [...names].sort((a, b) => (a.name < b.name ? 1 : -1))) {
      waiting.push({ path: `${directory.path}/${name}`, inodeNumber, depth: depth + 1 });
    }
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const { path, inodeNumber } = next;
      if (isReservedInode(image, inodeNumber)) {
        throw new InputError(displayName(path), `it is the reserved inode ${inodeNumber}`);
      }
      const inode = image.inode(inodeNumber);
      yield { path, inode };
      if (!options.recursive || inode.kind !== "directory") continue;
      if (seen.has(inodeNumber)) {
        throw new InputError(displayName(path), `it is a second name of ${inode.what}`);
      }
      if (next.depth > maxPathDepth) {
        throw new InputError(displayName(path), `it is over ${maxPathDepth} directories deep`);
      }
      seen.add(inodeNumber);
      pending.push({ directory: { path, inode }, depth: next.depth });
      break;
    }
  }
}
