/**
 * Names in the image: those of one directory, all names below one, and the inode at a path, also as a stream of its
 * bytes.
 *
 * @module
 */
import { type ByteString, byteStringFromText, displayName } from "../../bytes/byte_string.ts";
import { payloadStream } from "../../model/node.ts";
import { InputError } from "../../errors.ts";
import { INCOMPAT, INODE_FLAG, INODE_NUMBER } from "../format/constants.ts";
import type { DirectoryEntries } from "../format/directory.ts";
import { CIPHERTEXT_BYTES_MIN, noKeyName } from "../format/htree.ts";
import { readBlockMap } from "../volume/block_map.ts";
import { type DirectoryVisitor, type DirectoryWalk, DirectoryWalker } from "../volume/directory.ts";
import { isReservedInode, judgeSize, kindOfDirent, type NodeKind } from "../volume/inode.ts";
import { faultInImage, inputError } from "../volume/judge.ts";
import { filePayload, inlineData, readSymlink } from "./content.ts";
import {
  DEFAULT_READ_LIMITS,
  type Ext4Image,
  hasFlag,
  hasInlineData,
  type ImageInode,
} from "./image.ts";

/** One name in a directory; never "." or "..". */
export interface DirectoryName {
  /** 1 to 255 bytes. */
  readonly name: ByteString;
  /** The inode that has this name. */
  readonly inodeNumber: number;
  /** The kind of inode given by the entry; undefined if the entry does not give one. */
  readonly kind: NodeKind | undefined;
}

/** The contents of a directory. */
export interface DirectoryContent {
  /** The inode number in "..". */
  readonly parentInodeNumber: number;
  /** In the order of the directory's blocks; each name once. */
  readonly names: readonly DirectoryName[];
  /** Blocks of the directory, including those of its map. */
  readonly blockCount: number;
  /** Why some names may be missing; only with `keepsGoing`. */
  readonly fault?: InputError;
}

/** One walker per image, whose buffers serve all directories. */
const WALKERS = new WeakMap<Ext4Image, DirectoryWalker>();

/** Options for reading a directory. */
export interface ReadDirectoryOptions {
  /** The most names allowed; 1,000,000 by default. */
  readonly maxChildCount?: number;
  /** Reads whatever is readable and returns the first fault with it. */
  readonly keepsGoing?: boolean;
}

/**
 * Reads a whole directory. Checks every block's checksum, every record and, in a hashed directory, the index and the
 * hash of every name. For an encrypted directory, the names are those that the kernel shows without the key.
 *
 * @throws {InputError} for a directory that the kernel does not list, or with more names than `maxChildCount`
 */
export function readDirectory(
  image: Ext4Image,
  inode: ImageInode,
  options: ReadDirectoryOptions = {},
): DirectoryContent {
  if (inode.kind !== "directory") throw new InputError(inode.what, `it is a ${inode.kind}`);
  const names = new NameCollector(image, inode, options);
  let blockCount = 0;
  try {
    blockCount = walkDirectory(image, inode, names);
  } catch (error) {
    if (names.fault === undefined) throw error;
    names.fault(inputError(error));
  }
  const { parentInodeNumber, firstFault } = names;
  const fault = firstFault === undefined ? {} : { fault: partFault("names in it", firstFault) };
  return { parentInodeNumber, names: names.names, blockCount, ...fault };
}

/** Adds to a fault which part of something it makes unreadable. */
export function partFault(part: string, fault: InputError): InputError {
  return faultInImage(part, fault) as InputError;
}

function walkDirectory(image: Ext4Image, inode: ImageInode, names: NameCollector): number {
  const { view } = inode;
  const isInline = hasInlineData(inode);
  const endBlock = Math.ceil(view.sizeBytes / image.blockSizeBytes);
  const map = isInline ? undefined : readBlockMap(image, view, { endBlock });
  if (map !== undefined) judgeSize(image, view, map);
  const walker = WALKERS.get(image) ?? new DirectoryWalker(image);
  WALKERS.set(image, walker);
  walker.walk({
    view,
    runs: map?.runs ?? [],
    inlineData: isInline ? inlineData(image, inode).bytes : undefined,
    endBlock,
  }, names);
  return map?.blockCount ?? 0;
}

/** Names in reverse byte order. Of two equal names, which only damage causes, keeps the first in the directory. */
export function namesBackwards(names: readonly DirectoryName[]): DirectoryName[] {
  return [...names]
    .sort((a, b) => a.name < b.name ? 1 : a.name > b.name ? -1 : 0)
    .filter(({ name }, i, sorted) => i === 0 || sorted[i - 1]!.name !== name);
}

class NameCollector implements DirectoryVisitor {
  readonly names: DirectoryName[] = [];
  parentInodeNumber = 0;
  firstFault: InputError | undefined;
  /** Undefined if the first fault ends the walk. */
  readonly fault: ((error: InputError) => void) | undefined;
  readonly #hasTypes: boolean;
  readonly #isEncrypted: boolean;
  readonly #maxCount: number;
  readonly #image: Ext4Image;
  readonly #inode: ImageInode;

  constructor(image: Ext4Image, inode: ImageInode, options: ReadDirectoryOptions) {
    this.#hasTypes = image.hasIncompat(INCOMPAT.FILETYPE);
    this.#isEncrypted = hasFlag(inode, INODE_FLAG.ENCRYPT);
    this.#image = image;
    this.#inode = inode;
    this.#maxCount = options.maxChildCount ?? DEFAULT_READ_LIMITS.maxChildCount;
    this.fault = options.keepsGoing ? (error) => void (this.firstFault ??= error) : undefined;
  }

  self(): void {}

  parent(inodeNumber: number): void {
    this.parentInodeNumber = inodeNumber;
  }

  entry(
    entries: DirectoryEntries,
    index: number,
    walk: DirectoryWalk,
    isRepeated: boolean,
  ): void {
    if (isRepeated) return;
    const inodeNumber = entries.inodeAt(index);
    const { inodesCount } = this.#image.geometry;
    if (inodeNumber > inodesCount) {
      return walk.reportEntry(index, "names an inode that is not there", {
        found: inodeNumber,
        wanted: `at most ${inodesCount}`,
        isReadable: true,
        outcome: "it is left out",
      });
    }
    if (this.names.length >= this.#maxCount) {
      throw new InputError(this.#inode.what, `it has more than ${this.#maxCount} names`);
    }
    // Without the feature, the byte is the high half of the name's length.
    const kind = this.#hasTypes ? kindOfDirent(entries.fileTypeAt(index)) : undefined;
    this.names.push({ name: this.#nameOf(entries, index, walk), inodeNumber, kind });
  }

  #nameOf(entries: DirectoryEntries, index: number, walk: DirectoryWalk): ByteString {
    const name = entries.nameAt(index);
    if (!this.#isEncrypted) return name;
    if (name.length < CIPHERTEXT_BYTES_MIN) {
      const details = { found: name.length, wanted: `at least ${CIPHERTEXT_BYTES_MIN}` };
      walk.reportEntry(index, "is too short for an encrypted name", details);
    }
    return noKeyName(name, walk.hashOf(index));
  }
}

/** The inode that a path led to. */
export interface FoundInode {
  /** The inode. */
  readonly inode: ImageInode;
  /** Its path with all symlinks resolved; empty for the root, otherwise starting with a slash. */
  readonly path: ByteString;
}

/** Like the kernel, treats more symlinks than this as a loop. */
const SYMLINK_HOPS_MAX = 40;

/**
 * The inode at a path. Symlinks on the way are followed inside the image, where the root's `..` is the root;
 * `followsLast` says whether to follow the last name, too.
 *
 * @throws {InputError} if nothing is there, or a directory on the way is damaged
 */
export function findInode(
  image: Ext4Image,
  path: ByteString,
  options: { readonly followsLast: boolean },
): FoundInode {
  const trail: FoundInode[] = [{ inode: image.inode(INODE_NUMBER.ROOT), path: "" }];
  const directories: KnownDirectories = new Map();
  const wanted = splitPath(path);
  let hopCount = 0;
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const here = trail.at(-1)!;
    const asked = displayName(path);
    if (here.inode.kind !== "directory") {
      const why = `${displayName(here.path)} is not a directory`;
      throw new InputError(asked, why, { code: "wrongKind" });
    }
    if (name === ".") continue;
    if (name === "..") {
      if (trail.length > 1) trail.pop();
      continue;
    }
    const found = child(image, here, name, directories);
    if (found === undefined) {
      const missing = displayName(`${here.path}/${name}`);
      const why = missing === asked ? "does not exist" : `${missing} does not exist`;
      throw new InputError(asked, why, { code: "notFound" });
    }
    if (found.inode.kind !== "symlink" || (wanted.length === 0 && !options.followsLast)) {
      trail.push(found);
      continue;
    }
    if (++hopCount > SYMLINK_HOPS_MAX) {
      const why = `it leads over more than ${SYMLINK_HOPS_MAX} symlinks`;
      throw new InputError(asked, why, { code: "limitExceeded" });
    }
    const target = readSymlink(image, found.inode);
    if (target.startsWith("/")) trail.length = 1;
    wanted.push(...splitPath(target));
  }
  return trail.at(-1)!;
}

/**
 * Streams the bytes of a regular file, zeros for holes. Symlinks are followed inside the image, which must stay open
 * until the stream has ended or was cancelled.
 *
 * @param path text; for names that are not UTF-8, use findInode() and payloadStream()
 * @throws {InputError} if nothing is there (code `notFound`), it is not a regular file, or it is damaged
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { blessMerged, fileStream, MemorySink, openExt4Image } from "@blessfs/blessfs";
 *
 * const sink = new MemorySink();
 * await blessMerged({ source: "oci:fixtures/oci-tiny", sink });
 * using image = openExt4Image(sink.bytes);
 * const text = await new Response(fileStream(image, "/etc/motd")).text();
 * assertEquals(text, "Welcome again.\n");
 * ```
 */
export function fileStream(
  image: Ext4Image,
  path: string,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const { inode } = findInode(image, byteStringFromText(path), { followsLast: true });
  return payloadStream(filePayload(image, inode));
}

/** Directories on the way, each read once however often symlinks lead through it. */
type KnownDirectories = Map<number, ReadonlyMap<ByteString, number>>;

function child(
  image: Ext4Image,
  parent: FoundInode,
  name: ByteString,
  directories: KnownDirectories,
): FoundInode | undefined {
  let names = directories.get(parent.inode.number);
  if (names === undefined) {
    const content = readDirectory(image, parent.inode);
    names = new Map(
      namesBackwards(content.names).map((entry) => [entry.name, entry.inodeNumber]),
    );
    directories.set(parent.inode.number, names);
  }
  const inodeNumber = names.get(name);
  if (inodeNumber === undefined) return undefined;
  if (isReservedInode(image, inodeNumber)) {
    throw new InputError(parent.inode.what, `a name in it is the reserved inode ${inodeNumber}`);
  }
  return { inode: image.inode(inodeNumber), path: `${parent.path}/${name}` };
}

/** The names of a path, last one first. A trailing slash asks for a directory, like ".". */
function splitPath(path: ByteString): ByteString[] {
  const all = path.split("/");
  const names = all.filter((name) => name !== "" && name !== ".");
  const last = all.at(-1);
  if (names.length > 0 && (last === "" || last === ".")) names.push(".");
  return names.reverse();
}

/** Options for listing names. */
export interface ListOptions {
  /** Whether to list subdirectories, too. */
  readonly recursive: boolean;
  /** Called for anything unreadable, which is then left out; by default it is an error. */
  readonly onFault?: ((path: ByteString, error: InputError) => void) | undefined;
}

/**
 * Lists the names in a directory in byte order and, with `recursive`, those below each of them, a directory before its
 * contents. lost+found is treated like any other name. Memory holds the names of the open directories and a number per
 * directory.
 *
 * @throws {InputError} for a damaged directory, or one that has two names
 */
export function* listNames(
  image: Ext4Image,
  start: FoundInode,
  options: ListOptions,
): Generator<FoundInode> {
  const { maxPathDepth } = DEFAULT_READ_LIMITS;
  const waiting: { path: ByteString; inodeNumber: number; depth: number }[] = [];
  const seen = new Set<number>([start.inode.number]);
  const look = <T>(path: ByteString, work: () => T): T | undefined =>
    goOn(path, options.onFault, work);
  let item: { directory: FoundInode; depth: number } | undefined = { directory: start, depth: 0 };
  while (item !== undefined) {
    const { directory, depth }: { directory: FoundInode; depth: number } = item;
    item = undefined;
    const content = readDirectory(image, directory.inode, {
      keepsGoing: options.onFault !== undefined,
    });
    if (content.fault !== undefined) options.onFault?.(directory.path || "/", content.fault);
    for (const { name, inodeNumber } of namesBackwards(content.names)) {
      waiting.push({ path: `${directory.path}/${name}`, inodeNumber, depth: depth + 1 });
    }
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const { path, inodeNumber, depth } = next;
      const inode = look(path, () => {
        if (isReservedInode(image, inodeNumber)) {
          throw new InputError(displayName(path), `it is the reserved inode ${inodeNumber}`);
        }
        return image.inode(inodeNumber);
      });
      if (inode === undefined) continue;
      yield { path, inode };
      if (!options.recursive || inode.kind !== "directory") continue;
      const isFollowed = look(path, () => {
        if (seen.has(inodeNumber)) {
          throw new InputError(displayName(path), `it is a second name of ${inode.what}`);
        }
        if (depth > maxPathDepth) {
          throw new InputError(displayName(path), `it is over ${maxPathDepth} directories deep`);
        }
        return true;
      });
      if (!isFollowed) continue;
      seen.add(inodeNumber);
      item = { directory: { path, inode }, depth };
      break;
    }
  }
}

/** The result of `work`; undefined if it throws an InputError and a fault handler takes it. */
export function goOn<T>(
  path: ByteString,
  onFault: ListOptions["onFault"],
  work: () => T,
): T | undefined {
  try {
    return work();
  } catch (error) {
    if (onFault === undefined) throw error;
    onFault(path === "" ? "/" : path, inputError(error));
    return undefined;
  }
}
