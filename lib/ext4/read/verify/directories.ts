/**
 * The directories: every block, every entry, and what each of them names.
 *
 * @module
 */
import type { ByteString } from "../../../bytes/byte_string.ts";
import { displayName } from "../../../bytes/byte_string.ts";
import { crc32c } from "../../../bytes/crc32c.ts";
import { littleEndianWords } from "../../../bytes/words.ts";
import { InputError, invariant } from "../../../errors.ts";
import { inodeSeed } from "../../format/checksum.ts";
import {
  DIRENT_TYPE,
  FILE_MODE,
  INCOMPAT,
  INODE_FLAG,
  INODE_NUMBER,
} from "../../format/constants.ts";
import {
  decodeDirectoryBlock,
  decodeDirectoryEntries,
  DIRECTORY_TAIL_SIZE_BYTES,
  verifyDirectoryBlock,
} from "../../format/directory.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../../format/inode.ts";
import { BlockWindow, WINDOW_BLOCKS } from "./block_window.ts";
import type { Context, KeptInode } from "./context.ts";
import { EntryList } from "./entry_list.ts";
import type { Place } from "./findings.ts";
import { HERE, hex } from "./findings.ts";
import type { DirectoryIndex, HashRange, NameHasher } from "./htree.ts";
import { readIndex } from "./htree.ts";
import { INODE_TRAIT } from "./inode_book.ts";
import { offsetOf } from "./inodes.ts";
import type { LinkTable } from "./links.ts";
import type { Volume } from "./volume.ts";

/** Where the entries of an inline directory begin in i_block: behind the parent's number. */
const INLINE_ENTRIES_AT = 4;
/** "." and ".." of the first block. */
const DOT_COUNT = 2;
const TAIL_WORDS = DIRECTORY_TAIL_SIZE_BYTES / 4;
/** rec_len, name_len and file_type of the fake entry with the checksum. */
const TAIL_HEAD = DIRECTORY_TAIL_SIZE_BYTES | (DIRENT_TYPE.CHECKSUM_TAIL << 24);

/** What entries say of a type, by i_mode >> 12. */
const FILE_TYPES: readonly number[] = Array.from(
  { length: 16 },
  (_, type) =>
    new Map<number, number>([
      [FILE_MODE.REGULAR, DIRENT_TYPE.REGULAR],
      [FILE_MODE.DIRECTORY, DIRENT_TYPE.DIRECTORY],
      [FILE_MODE.CHARACTER_DEVICE, DIRENT_TYPE.CHARACTER_DEVICE],
      [FILE_MODE.BLOCK_DEVICE, DIRENT_TYPE.BLOCK_DEVICE],
      [FILE_MODE.FIFO, DIRENT_TYPE.FIFO],
      [FILE_MODE.SOCKET, DIRENT_TYPE.SOCKET],
      [FILE_MODE.SYMLINK, DIRENT_TYPE.SYMLINK],
    ]).get(type << 12) ?? DIRENT_TYPE.UNKNOWN,
);

/** What one directory after the other is read into. */
export class DirectoryRoom {
  readonly window: BlockWindow;
  readonly list: EntryList;

  constructor(volume: Volume) {
    this.window = new BlockWindow(volume);
    // The data of an inline directory is i_block and a part of a slot, and no slot is larger than a block.
    this.list = new EntryList(volume.blockSizeBytes + INODE_BLOCK_FIELD_SIZE_BYTES);
  }
}

interface Visit {
  readonly context: Context;
  readonly links: LinkTable;
  readonly directory: KeptInode;
  readonly seed: number | undefined;
  readonly index: DirectoryIndex | undefined;
  readonly room: DirectoryRoom;
  /** Names that may be in several blocks, "." and ".." among them; undefined until there is one. */
  allNames: Set<ByteString> | undefined;
  /** Where the names of the block are to be looked up; undefined as long as their order tells that they differ. */
  names: Set<ByteString> | undefined;
  /** The block; undefined in an inode. */
  block: number | undefined;
  /** Where the block, or the inode, begins. */
  offset: number;
}

/**
 * Looks at one directory.
 *
 * @param behind how many blocks behind its own the next directories have
 */
export function checkDirectory(
  context: Context,
  links: LinkTable,
  directory: KeptInode,
  room: DirectoryRoom,
  behind: number,
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
  const visit: Visit = {
    context,
    links,
    directory,
    seed,
    index: isIndexed ? readIndex(context, directory, seed) : undefined,
    room,
    allNames: undefined,
    names: undefined,
    block: undefined,
    offset: 0,
  };
  if (directory.inlineData !== undefined) visitInline(visit, directory.inlineData);
  else visitBlocks(visit, behind);
}

/** A directory inside its inode: the parent, then entries up to the end of i_block and of the attribute. */
function visitInline(visit: Visit, data: Uint8Array): void {
  const { context, directory, links, room: { list } } = visit;
  const inode = directory.number;
  const words = littleEndianWords(data);
  links.setDotDot(inode, words[0]! >>> 0);
  // There is no entry ".", but it counts.
  context.book.refer(inode);
  visit.offset = offsetOf(context, inode);
  visit.names = allNamesOf(visit);
  const fieldEnd = INODE_BLOCK_FIELD_SIZE_BYTES;
  for (const [start, end] of [[INLINE_ENTRIES_AT, fieldEnd], [fieldEnd, data.length]] as const) {
    if (!list.read({ bytes: data, words, firstWord: 0, start, end, dotCount: 0 })) {
      tellBadEntries(visit, () => decodeDirectoryEntries(data, { start, end, what: HERE }));
      continue;
    }
    for (let i = 0; i < list.count; i++) visitEntry(visit, i, false);
  }
}

function visitBlocks(visit: Visit, behind: number): void {
  const { context, directory, room: { window } } = visit;
  const { volume: { blockSizeBytes }, findings } = context;
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
    for (let at = 0; at < count; at += WINDOW_BLOCKS) {
      const length = Math.min(WINDOW_BLOCKS, count - at);
      const bytes = window.read(start + at, length, at + length < count ? 0 : behind);
      if (bytes === undefined) {
        findings.add("directory", { inode, block: start + at }, "block is past the end");
        break;
      }
      for (let i = 0; i < length; i++) {
        visit.block = start + at + i;
        visit.offset = visit.block * blockSizeBytes;
        const part = bytes.subarray(i * blockSizeBytes, (i + 1) * blockSizeBytes);
        visitBlock(visit, part, logical + at + i, visit.block);
      }
    }
  }
  if (expected === 0) findings.add("directory", { inode }, "it has no block");
}

function visitBlock(visit: Visit, bytes: Uint8Array, logical: number, block: number): void {
  const { index, room: { list } } = visit;
  const isIndex = index?.indexBlocks.has(logical) ?? false;
  if (isIndex && logical > 0) return;
  if (!readEntries(visit, bytes, isIndex, { logical, block })) return;
  if (logical === 0) visitDots(visit);
  const range = index?.leaves.get(logical);
  if (range !== undefined && index?.hasher !== undefined) {
    visitLeaf(visit, range, index.hasher);
    return;
  }
  visit.names = isAlone(visit.directory) && index === undefined ? undefined : allNamesOf(visit);
  for (let i = list.dotCount; i < list.count; i++) {
    visitEntry(visit, i, i < list.firstUnordered);
  }
}

/** Whether a directory has one block, so that no name can be in another. */
function isAlone({ runs }: KeptInode): boolean {
  return runs.length === 1 && runs[0]!.count === 1;
}

/** Names of a directory of several blocks. */
function allNamesOf(visit: Visit): Set<ByteString> {
  return visit.allNames ??= new Set([".", ".."]);
}

/** Judges the checksum of a block and reads its entries; false when they cannot be read. */
function readEntries(
  visit: Visit,
  bytes: Uint8Array,
  isIndex: boolean,
  { logical, block }: { readonly logical: number; readonly block: number },
): boolean {
  const { context: { findings }, directory, room: { list, window }, seed } = visit;
  const { words } = window;
  const firstWord = window.firstWord(block);
  const hasTail = seed !== undefined && !isIndex;
  const tail = firstWord + (bytes.length >>> 2) - TAIL_WORDS;
  const isTailSound = words[tail] === 0 && words[tail + 1] === TAIL_HEAD;
  const end = hasTail ? bytes.length - DIRECTORY_TAIL_SIZE_BYTES : bytes.length;
  const dotCount = logical === 0 ? DOT_COUNT : 0;
  const range = { bytes, words, firstWord, start: 0, end, dotCount };
  const isRead = (!hasTail || isTailSound) && list.read(range);
  if (hasTail) {
    const isRight = isRead && crc32c(seed, bytes.subarray(0, end)) === words[tail + 2]! >>> 0;
    const place = { inode: directory.number, block };
    if (!isRight) {
      findings.attempt("directory", place, () => verifyDirectoryBlock(bytes, seed, HERE));
    }
  }
  if (isRead) return true;
  tellBadEntries(visit, () => {
    if (!isIndex) decodeDirectoryBlock(bytes, { checksummed: seed !== undefined, what: HERE });
    else decodeDirectoryEntries(bytes, { start: 0, end: bytes.length, what: HERE });
  });
  return false;
}

/** Lets the strict decoder say what is wrong with entries. */
function tellBadEntries(visit: Visit, decode: () => void): void {
  const { context: { findings }, directory, block } = visit;
  const inode = directory.number;
  const place = block === undefined ? { inode, offset: visit.offset } : { inode, block };
  findings.attempt("directory", place, () => {
    decode();
    invariant(false, `entries of the directory inode ${inode} are right and wrong`);
  });
}

/** The leaves come in the order of the directory's blocks, which need not be that of their hashes. */
function visitLeaf(visit: Visit, range: HashRange, hasher: NameHasher): void {
  const { context: { findings }, directory, room: { list } } = visit;
  // Equal names have equal hashes: they are in one leaf, or in leaves that share a hash.
  const isShared = range.isHighShared || range.isLowShared;
  visit.names = isShared ? allNamesOf(visit) : undefined;
  let lastHash = -1;
  for (let i = 0; i < list.count; i++) {
    if (list.inodeAt(i) === 0) continue;
    const name = list.nameAt(i);
    const hash = hasher.hash(name);
    visitEntry(visit, i, hash > lastHash && name !== "." && name !== "..");
    lastHash = hash;
    if (hasher.isWithin(name, hash, range)) continue;
    const place = { inode: directory.number, block: visit.block! };
    findings.add("directory index", place, `hash of "${displayName(name)}"`, {
      found: hasher.hashes(name).map(hex).join(" or "),
      wanted: `${hex(range.low)} to ${range.high === Infinity ? "the end" : hex(range.high)}`,
    });
  }
}

/** The first two entries of a directory: itself and its parent. */
function visitDots(visit: Visit): void {
  const { context: { findings, book }, directory, links, room: { list } } = visit;
  const inode = directory.number;
  const place = { inode, block: visit.block!, offset: visit.offset };
  const shown = (index: number) =>
    index < list.count ? `"${displayName(list.nameAt(index))}" ${list.inodeAt(index)}` : "none";
  if (list.count < 1 || !list.isDots(0, 1) || list.inodeAt(0) !== inode) {
    findings.add("directory", place, 'first entry, not "." of the directory', {
      found: shown(0),
      wanted: `"." ${inode}`,
    });
  }
  book.refer(inode);
  if (list.count < 2 || !list.isDots(1, 2) || list.inodeAt(1) === 0) {
    findings.add("directory", place, 'second entry, not ".." of a parent', { found: shown(1) });
  } else links.setDotDot(inode, list.inodeAt(1));
  for (let i = 0; i < Math.min(DOT_COUNT, list.count); i++) {
    if (!isOfType(visit, i, DIRENT_TYPE.DIRECTORY)) {
      tellType(visit, i, DIRENT_TYPE.DIRECTORY, place);
    }
  }
}

/**
 * An entry that names something else.
 *
 * @param isNew whether its name is known to differ from all before it
 */
function visitEntry(visit: Visit, index: number, isNew: boolean): void {
  const { context: { book, volume }, links, directory, room: { list } } = visit;
  const inode = list.inodeAt(index);
  if (inode === 0) return;
  if (!isNew || visit.names !== undefined) lookUpName(visit, index);
  const { inodesCount } = volume.superblock;
  if (inode < volume.firstInode || inode > inodesCount) {
    const isRoot = inode === INODE_NUMBER.ROOT;
    tell(
      visit,
      index,
      isRoot ? "names the root" : "names an inode that no entry can name",
      `${volume.firstInode} to ${inodesCount}`,
    );
    return;
  }
  const kind = book.kind(inode);
  if ((kind & INODE_TRAIT.USED) === 0) {
    tell(visit, index, "names an inode that is not in use", "an inode in use");
    return;
  }
  if ((kind & INODE_TRAIT.HIDDEN) !== 0) {
    tell(visit, index, "names an inode of the file system itself", "a file");
  }
  const type = FILE_TYPES[kind & 0xf]!;
  if (!isOfType(visit, index, type)) tellType(visit, index, type, placeOf(visit, index));
  book.refer(inode);
  if (type !== DIRENT_TYPE.DIRECTORY) return;
  const first = links.name(inode, directory.number);
  if (first === undefined) return;
  tell(visit, index, "is a second name of a directory", `only the one in inode ${first}`);
}

/** Looks a name up among those before it. */
function lookUpName(visit: Visit, index: number): void {
  const { list } = visit.room;
  if (visit.names === undefined) {
    visit.names = new Set([".", ".."]);
    for (let i = list.dotCount; i < index; i++) {
      if (list.inodeAt(i) !== 0) visit.names.add(list.nameAt(i));
    }
  }
  const nameCount = visit.names.size;
  if (visit.names.add(list.nameAt(index)).size > nameCount) return;
  tell(visit, index, "is there twice", "each name once");
}

function tell(visit: Visit, index: number, why: string, wanted: string): void {
  const { context: { findings }, room: { list } } = visit;
  const name = displayName(list.nameAt(index));
  const found = list.inodeAt(index);
  findings.add("directory", placeOf(visit, index), `entry "${name}" ${why}`, { found, wanted });
}

/** Inline entries are in no block. */
function placeOf({ directory, block, offset, room: { list } }: Visit, index: number): Place {
  const inode = directory.number;
  if (block === undefined) return { inode, offset };
  return { inode, block, offset: offset + list.offsetAt(index) };
}

/** Without the feature filetype the byte is the high half of the name's length. */
function isOfType({ context: { volume }, room: { list } }: Visit, index: number, type: number) {
  const wanted = volume.hasIncompat(INCOMPAT.FILETYPE) ? type : DIRENT_TYPE.UNKNOWN;
  return list.fileTypeAt(index) === wanted;
}

function tellType(visit: Visit, index: number, type: number, place: Place): void {
  const { context: { findings, volume }, room: { list } } = visit;
  findings.add("directory", place, `file type of "${displayName(list.nameAt(index))}"`, {
    found: list.fileTypeAt(index),
    wanted: volume.hasIncompat(INCOMPAT.FILETYPE) ? type : DIRENT_TYPE.UNKNOWN,
  });
}
