/**
 * Names: of one directory, of all below one, and the inode that a path leads to, also as a stream of its bytes.
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
  /** What the entry says that the inode is; undefined when it does not say. */
  readonly kind: NodeKind | undefined;
}

/** What a directory holds. */
export interface DirectoryContent {
  /** What ".." says. */
  readonly parentInodeNumber: number;
  /** In the order of the directory's blocks; each name once. */
  readonly names: readonly DirectoryName[];
  /** Blocks that the directory maps, its map included. */
  readonly blockCount: number;
  /** Why some of its names may be missing; only with `keepsGoing`. */
  readonly fault?: InputError;
}

/** One for each image, for its room serves all directories. */
const WALKERS = new WeakMap<Ext4Image, DirectoryWalker>();

/** How a directory is read. */
export interface ReadDirectoryOptions {
  /** Most names; 1,000,000 by default. */
  readonly maxChildCount?: number;
  /** Reads what can be read, and gives the first fault beside it. */
  readonly keepsGoing?: boolean;
}

/**
 * Reads a whole directory. Every block's checksum, every record, and in a hashed one the index and the hash of every name
 * are checked. The names of an encrypted directory are those that the kernel shows without the key.
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

/** A fault that costs a part of something: the message says which. */
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

/** Names in byte order, the last one first. Of two that are equal, which only damage makes, the first in the directory. */
export function namesBackwards(names: readonly DirectoryName[]): DirectoryName[] {
  return [...names]
    .sort((a, b) => a.name < b.name ? 1 : a.name > b.name ? -1 : 0)
    .filter(({ name }, i, sorted) => i === 0 || sorted[i - 1]!.name !== name);
}

class NameCollector implements DirectoryVisitor {
  readonly names: DirectoryName[] = [];
  parentInodeNumber = 0;
  firstFault: InputError | undefined;
  /** Undefined where the first fault ends the walk. */
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
    // Without the feature the byte is the high half of the length of the name.
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

/** What a path led to. */
export interface FoundInode {
  /** The inode. */
  readonly inode: ImageInode;
  /** Where it is, with all symlinks followed; empty for the root, else it starts with a slash. */
  readonly path: ByteString;
}

/** As the kernel: more symlinks than these are taken for a circle. */
const SYMLINK_HOPS_MAX = 40;

/**
 * The inode at a path. Symlinks on the way are followed inside the image, where `..` of the root is the root; the last
 * name is followed when `followsLast` says so.
 *
 * @throws {InputError} when nothing is there, and for a damaged directory on the way
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
 * The bytes of a regular file, zeros for holes. Symlinks are followed inside the image, which must stay open until the stream
 * has ended or was cancelled.
 *
 * @param path text; a name that is not UTF-8 is found by findInode() and read by payloadStream()
 * @throws {InputError} when nothing is there (code `notFound`), for what is not a regular file, and for damage
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

/** The names of a path, the last one first. A slash at the end asks for a directory, as "." does. */
function splitPath(path: ByteString): ByteString[] {
  const all = path.split("/");
  const names = all.filter((name) => name !== "" && name !== ".");
  const last = all.at(-1);
  if (names.length > 0 && (last === "" || last === ".")) names.push(".");
  return names.reverse();
}

/** What is listed. */
export interface ListOptions {
  /** Whether names below names are listed, too. */
  readonly recursive: boolean;
  /** Hears of what cannot be read and is left out; without it, that is an error. */
  readonly onFault?: ((path: ByteString, error: InputError) => void) | undefined;
}

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

/** What some work gives; undefined when it throws an InputError and somebody hears of it. */
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
