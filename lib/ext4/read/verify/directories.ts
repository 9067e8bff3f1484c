/**
 * The directories: every block, every entry, and what each of them names.
 *
 * @module
 */
import type { ByteString } from "../../../bytes/byte_string.ts";
import { displayName } from "../../../bytes/byte_string.ts";
import { InputError } from "../../../errors.ts";
import { inodeSeed } from "../../format/checksum.ts";
import {
  DIRENT_TYPE,
  FILE_MODE,
  INCOMPAT,
  INODE_FLAG,
  INODE_NUMBER,
} from "../../format/constants.ts";
import type { DirectoryEntry } from "../../format/directory.ts";
import {
  decodeDirectoryBlock,
  decodeDirectoryEntries,
  verifyDirectoryBlock,
} from "../../format/directory.ts";
import { viewOf } from "../../format/fields.ts";
import type { Context, KeptInode } from "./context.ts";
import { HERE, hex } from "./findings.ts";
import type { DirectoryIndex, HashRange, NameHasher } from "./htree.ts";
import { readIndex } from "./htree.ts";
import { offsetOf } from "./inodes.ts";
import type { LinkTable } from "./links.ts";

/** Blocks that are read at once. */
export const DIRECTORY_READ_BLOCKS = 32;
/** Where the entries of an inline directory begin in i_block: behind the parent's number. */
const INLINE_ENTRIES_AT = 4;

const TYPE_OF_MODE: ReadonlyMap<number, number> = new Map([
  [FILE_MODE.REGULAR, DIRENT_TYPE.REGULAR],
  [FILE_MODE.DIRECTORY, DIRENT_TYPE.DIRECTORY],
  [FILE_MODE.CHARACTER_DEVICE, DIRENT_TYPE.CHARACTER_DEVICE],
  [FILE_MODE.BLOCK_DEVICE, DIRENT_TYPE.BLOCK_DEVICE],
  [FILE_MODE.FIFO, DIRENT_TYPE.FIFO],
  [FILE_MODE.SOCKET, DIRENT_TYPE.SOCKET],
  [FILE_MODE.SYMLINK, DIRENT_TYPE.SYMLINK],
]);

interface Visit {
  readonly context: Context;
  readonly links: LinkTable;
  readonly directory: KeptInode;
  readonly seed: number | undefined;
  readonly index: DirectoryIndex | undefined;
  readonly buffer: Uint8Array;
  /** The names so far, "." and ".." among them; in a hashed directory, those of leaves that share a hash. */
  names: Set<ByteString>;
}

/** A block of a directory. */
interface BlockPlace {
  readonly logical: number;
  readonly block: number;
}

/** Where an entry is; inline ones are in no block. */
interface EntryPlace {
  readonly inode: number;
  readonly block?: number;
  readonly offset: number;
}

/**
 * Looks at one directory.
 *
 * @param buffer room for DIRECTORY_READ_BLOCKS blocks
 */
export function checkDirectory(
  context: Context,
  links: LinkTable,
  directory: KeptInode,
  buffer: Uint8Array,
): void {
  const { volume } = context;
  const { number, view } = directory;
  if ((view.flags & INODE_FLAG.ENCRYPT) !== 0 && volume.hasIncompat(INCOMPAT.ENCRYPT)) {
    throw new InputError(volume.reader.name, `the directory inode ${number} is encrypted`);
  }
  const seed = volume.seed === undefined
    ? undefined
    : inodeSeed(volume.seed, number, view.generation);
  const isIndexed = (view.flags & INODE_FLAG.INDEX) !== 0 && directory.inlineData === undefined;
  const index = isIndexed ? readIndex(context, directory, seed) : undefined;
  const names = new Set([".", ".."]);
  const visit: Visit = { context, links, directory, seed, index, names, buffer };
  if (directory.inlineData !== undefined) visitInline(visit, directory.inlineData);
  else visitBlocks(visit);
}

/** A directory inside its inode: the parent, then entries up to the end of i_block and of the attribute. */
function visitInline(visit: Visit, data: Uint8Array): void {
  const { context, directory, links } = visit;
  const inode = directory.number;
  links.setDotDot(inode, viewOf(data).getUint32(0, true));
  // There is no entry ".", but it counts.
  context.book.refer(inode);
  const fieldEnd = directory.view.blockField.length;
  const place = { inode, offset: offsetOf(context, inode) };
  for (const [start, end] of [[INLINE_ENTRIES_AT, fieldEnd], [fieldEnd, data.length]] as const) {
    const entries = context.findings.attempt(
      "directory",
      place,
      () => decodeDirectoryEntries(data, { start, end, what: HERE }),
    );
    for (const entry of entries ?? []) visitEntry(visit, entry, place);
  }
}

function visitBlocks(visit: Visit): void {
  const { context, directory } = visit;
  const { volume, findings } = context;
  const inode = directory.number;
  let expected = 0;
  for (const { logical, start, count, unwritten } of directory.runs) {
    if (logical !== expected) {
      findings.add("directory", { inode }, "hole in a directory at logical block", {
        found: expected,
      });
    }
    if (unwritten) findings.add("directory", { inode, block: start }, "block is unwritten");
    expected = logical + count;
    for (let at = 0; at < count; at += DIRECTORY_READ_BLOCKS) {
      const length = Math.min(DIRECTORY_READ_BLOCKS, count - at);
      const bytes = volume.read(start + at, length, visit.buffer);
      if (bytes === undefined) {
        findings.add("directory", { inode, block: start + at }, "block is past the end");
        break;
      }
      for (let i = 0; i < length; i++) {
        const part = bytes.subarray(i * volume.blockSizeBytes, (i + 1) * volume.blockSizeBytes);
        visitBlock(visit, part, { logical: logical + at + i, block: start + at + i });
      }
    }
  }
  if (expected === 0) findings.add("directory", { inode }, "it has no block");
}

function visitBlock(visit: Visit, bytes: Uint8Array, { logical, block }: BlockPlace): void {
  const { context, directory, seed, index } = visit;
  const { findings, volume } = context;
  const place = { inode: directory.number, block };
  const isIndex = index?.indexBlocks.has(logical) ?? false;
  if (isIndex && logical > 0) return;
  if (!isIndex && seed !== undefined) {
    findings.attempt("directory", place, () => verifyDirectoryBlock(bytes, seed, HERE));
  }
  const entries = findings.attempt(
    "directory",
    place,
    () =>
      isIndex
        ? decodeDirectoryEntries(bytes, { start: 0, end: bytes.length, what: HERE })
        : decodeDirectoryBlock(bytes, { checksummed: volume.seed !== undefined, what: HERE }),
  );
  if (entries === undefined) return;
  const offset = block * volume.blockSizeBytes;
  if (logical === 0) visitDots(visit, entries, { ...place, offset });
  const range = index?.leaves.get(logical);
  if (range !== undefined && index?.hasher !== undefined) {
    visitLeaf(visit, entries, { ...place, offset }, range, index.hasher);
    return;
  }
  let at = offset;
  for (const [i, entry] of entries.entries()) {
    const isDot = logical === 0 && i < 2;
    if (!isDot) visitEntry(visit, entry, { ...place, offset: at });
    at += entry.recordLength;
  }
}

/** The leaves come in the order of the directory's blocks, which need not be that of their hashes. */
function visitLeaf(
  visit: Visit,
  entries: readonly DirectoryEntry[],
  place: { readonly inode: number; readonly block: number; readonly offset: number },
  range: HashRange,
  hasher: NameHasher,
): void {
  const { findings } = visit.context;
  const { inode, block } = place;
  // Equal names have equal hashes: they are in one leaf, or in leaves that share a hash.
  const isShared = range.isHighShared || range.isLowShared;
  const all = visit.names;
  visit.names = isShared ? all : new Set([".", ".."]);
  let offset = place.offset;
  for (const entry of entries) {
    if (entry.inodeNumber !== 0) {
      visitEntry(visit, entry, { inode, block, offset });
      if (!hasher.isWithin(entry.name, range)) {
        findings.add("directory index", { inode, block }, `hash of "${displayName(entry.name)}"`, {
          found: hasher.hashes(entry.name).map(hex).join(" or "),
          wanted: `${hex(range.low)} to ${range.high === Infinity ? "the end" : hex(range.high)}`,
        });
      }
    }
    offset += entry.recordLength;
  }
  visit.names = all;
}

/** The first two entries of a directory: itself and its parent. */
function visitDots(
  visit: Visit,
  entries: readonly DirectoryEntry[],
  place: EntryPlace,
): void {
  const { context, links } = visit;
  const { findings, book } = context;
  const [dot, dotDot] = entries;
  if (dot?.name !== "." || dot.inodeNumber !== place.inode) {
    findings.add("directory", place, 'first entry, not "." of the directory', {
      found: dot === undefined ? "none" : `"${displayName(dot.name)}" ${dot.inodeNumber}`,
      wanted: `"." ${place.inode}`,
    });
  }
  book.refer(place.inode);
  if (dotDot === undefined || dotDot.name !== ".." || dotDot.inodeNumber === 0) {
    findings.add("directory", place, 'second entry, not ".." of a parent', {
      found: dotDot === undefined ? "none" : `"${displayName(dotDot.name)}" ${dotDot.inodeNumber}`,
    });
  } else links.setDotDot(place.inode, dotDot.inodeNumber);
  for (const entry of entries.slice(0, 2)) checkType(visit, entry, DIRENT_TYPE.DIRECTORY, place);
}

/** An entry that names something else. */
function visitEntry(
  visit: Visit,
  entry: DirectoryEntry,
  place: EntryPlace,
): void {
  const { inodeNumber, name } = entry;
  if (inodeNumber === 0) return;
  const { context, links, names, directory } = visit;
  const { findings, book, volume } = context;
  const bad = (why: string, wanted: string) =>
    findings.add("directory", place, `entry "${displayName(name)}" ${why}`, {
      found: inodeNumber,
      wanted,
    });
  const nameCount = names.size;
  if (names.add(name).size === nameCount) bad("is there twice", "each name once");
  const { inodesCount } = volume.superblock;
  if (inodeNumber < volume.firstInode || inodeNumber > inodesCount) {
    const isRoot = inodeNumber === INODE_NUMBER.ROOT;
    bad(
      isRoot ? "names the root" : "names an inode that no entry can name",
      `${volume.firstInode} to ${inodesCount}`,
    );
    return;
  }
  if (!book.isUsed(inodeNumber)) {
    bad("names an inode that is not in use", "an inode in use");
    return;
  }
  if (book.isHidden(inodeNumber)) bad("names an inode of the file system itself", "a file");
  const type = book.type(inodeNumber);
  checkType(visit, entry, TYPE_OF_MODE.get(type) ?? DIRENT_TYPE.UNKNOWN, place);
  book.refer(inodeNumber);
  if (type !== FILE_MODE.DIRECTORY) return;
  const first = links.name(inodeNumber, directory.number);
  if (first !== undefined) bad("is a second name of a directory", `only the one in inode ${first}`);
}

/** Without the feature filetype the byte is the high half of the name's length. */
function checkType(
  visit: Visit,
  entry: DirectoryEntry,
  type: number,
  place: EntryPlace,
): void {
  const { context } = visit;
  const wanted = context.volume.hasIncompat(INCOMPAT.FILETYPE) ? type : DIRENT_TYPE.UNKNOWN;
  if (entry.fileType === wanted) return;
  context.findings.add("directory", place, `file type of "${displayName(entry.name)}"`, {
    found: entry.fileType,
    wanted,
  });
}
