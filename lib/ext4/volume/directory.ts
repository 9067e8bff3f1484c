/**
 * Walks directories: every block, every entry, and in a hashed one the index and the hash of every name. One walker
 * serves everyone and passes entries to a visitor.
 *
 * @module
 */
import { type ByteString, displayName } from "../../bytes/byte_string.ts";
import { crc32c } from "../../bytes/crc32c.ts";
import { littleEndianWords } from "../../bytes/arithmetic.ts";
import type { InputError } from "../../errors.ts";
import { DIRENT_TYPE, INCOMPAT, INODE_FLAG } from "../format/constants.ts";
import {
  DIRECTORY_TAIL_SIZE_BYTES,
  DirectoryEntries,
  type EntryRange,
  isEmptyBlock,
  verifyDirectoryBlock,
} from "../format/directory.ts";
import { INODE_BLOCK_FIELD_SIZE_BYTES } from "../format/inode.ts";
import type { DirectoryHash } from "../format/htree.ts";
import {
  describeRange,
  type DirectoryIndex,
  type HashRange,
  type MappedDirectory,
  NameHasher,
  readIndex,
} from "./htree.ts";
import { isHashed, SECTOR_SIZE_BYTES, seedOf } from "./inode.ts";
import { type FaultDetails, HERE, hex, inputError, type Location } from "./judge.ts";
import type { Volume } from "./volume.ts";

export interface Directory extends MappedDirectory {
  /** i_block and the attribute after it; undefined if its entries are in blocks. */
  readonly inlineData: Uint8Array | undefined;
  /** For readers: the kernel lists nothing from this logical block on. By default, all blocks are walked. */
  readonly endBlock?: number;
}

export interface DirectoryVisitor {
  /** Called if the directory has an entry for itself, or counts as if it had. */
  self(): void;
  /** Called with the inode number in "..". */
  parent(inodeNumber: number): void;
  /**
   * Called for each entry in use other than "." and "..".
   *
   * @param isRepeated whether its name occurred before
   */
  entry(entries: DirectoryEntries, index: number, walk: DirectoryWalk, isRepeated: boolean): void;
  /** Called if a block cannot be read; the walk then continues. By default, that ends the walk. */
  readonly fault?: ((error: InputError) => void) | undefined;
}

/** Blocks read at once: small directories lie side by side, and reading each separately costs more than checking it. */
const WINDOW_BLOCKS = 32;
/** Where the entries of an inline directory begin in i_block: after the parent's number. */
const INLINE_ENTRIES_AT = 4;
const DOT_COUNT = 2;
const TAIL_WORDS = DIRECTORY_TAIL_SIZE_BYTES / 4;
/** rec_len, name_len and file_type of the fake entry with the checksum. */
const TAIL_HEAD = DIRECTORY_TAIL_SIZE_BYTES | (DIRENT_TYPE.CHECKSUM_TAIL << 24);

/** Walks one directory after another, reusing its memory. */
export class DirectoryWalker {
  readonly #volume: Volume;
  readonly #window: BlockWindow;
  readonly #entries: DirectoryEntries;

  constructor(volume: Volume) {
    this.#volume = volume;
    this.#window = new BlockWindow(volume);
    // The data of an inline directory is i_block and part of a slot, and no slot is larger than a block.
    this.#entries = new DirectoryEntries(volume.blockSizeBytes + INODE_BLOCK_FIELD_SIZE_BYTES);
  }

  /**
   * Walks a directory.
   *
   * @param blocksBehind how many blocks of the next directories directly follow its own
   */
  walk(directory: Directory, visitor: DirectoryVisitor, blocksBehind = 0): void {
    const room = { window: this.#window, entries: this.#entries };
    const walk = new DirectoryWalk(this.#volume, directory, visitor, room);
    if (directory.inlineData !== undefined) walk.walkInline(directory.inlineData);
    else walk.walkBlocks(blocksBehind);
  }
}

interface Room {
  readonly window: BlockWindow;
  readonly entries: DirectoryEntries;
}

export class DirectoryWalk {
  readonly directory: Directory;
  readonly #volume: Volume;
  readonly #visitor: DirectoryVisitor;
  readonly #room: Room;
  readonly #entries: DirectoryEntries;
  readonly #seed: number | undefined;
  readonly #isEncrypted: boolean;
  #index: DirectoryIndex | undefined;
  /** Whether there should be an index, but its structure cannot be followed. */
  #isIndexLost = false;
  /** Names that may be in several blocks, including "." and ".."; undefined until there is one. */
  #allNames: Set<ByteString> | undefined;
  /** The set for looking up the block's names; undefined as long as their order shows that they differ. */
  #names: Set<ByteString> | undefined;
  /** The block; undefined in an inode. */
  #block: number | undefined;
  /** Where the block, or the inode, begins. */
  #offset = 0;

  constructor(volume: Volume, directory: Directory, visitor: DirectoryVisitor, room: Room) {
    this.directory = directory;
    this.#volume = volume;
    this.#visitor = visitor;
    this.#room = room;
    this.#entries = room.entries;
    this.#seed = seedOf(volume, directory.view);
    this.#isEncrypted = (directory.view.flags & INODE_FLAG.ENCRYPT) !== 0;
  }

  /** The location of an entry; inline entries are in no block. */
  locate(index: number): Location {
    const inode = this.directory.view.number;
    if (this.#block === undefined) return { inode, offset: this.#offset };
    return { inode, block: this.#block, offset: this.#offset + this.#entries.offsetAt(index) };
  }

  /**
   * The hash under which the kernel lists an entry of an encrypted directory; zeros if it does not list by hashes. If
   * names are folded, too, the hash is stored after the name.
   */
  hashOf(index: number): DirectoryHash {
    const { view } = this.directory;
    if ((view.flags & INODE_FLAG.CASEFOLD) !== 0) return this.#entries.storedHashAt(index);
    if (!isHashed(this.#volume, view)) return { hash: 0, minor: 0 };
    const { superblock } = this.#volume;
    const version = this.#index?.hashVersion ?? superblock.defaultHashVersion;
    return new NameHasher(superblock, version).wholeHash(this.#entries.nameAt(index));
  }

  /** Reports a fault of an entry: `entry "NAME" PROBLEM`. */
  reportEntry(index: number, problem: string, details: FaultDetails): void {
    const what = `entry "${displayName(this.#entries.nameAt(index))}" ${problem}`;
    this.#volume.judge.report("directory", this.locate(index), what, details);
  }

  /** Walks a directory inside its inode: the parent, then entries up to the end of i_block and of the attribute. */
  walkInline(data: Uint8Array): void {
    const words = littleEndianWords(data);
    this.#offset = this.#volume.inodeOffset(this.directory.view.number);
    // There is no entry ".", but it counts.
    this.#visitor.self();
    this.#visitor.parent(words[0]! >>> 0);
    this.#names = this.#sharedNames();
    const entries = this.#entries;
    const fieldEnd = INODE_BLOCK_FIELD_SIZE_BYTES;
    for (const [start, end] of [[INLINE_ENTRIES_AT, fieldEnd], [fieldEnd, data.length]] as const) {
      this.#readEntries({ bytes: data, words, firstWord: 0, start, end, dotCount: 0 });
      for (let i = 0; i < entries.count; i++) this.#visitEntry(i, false);
    }
  }

  walkBlocks(blocksBehind: number): void {
    const { view, runs, endBlock = Infinity } = this.directory;
    const inode = view.number;
    const { judge, blockSizeBytes } = this.#volume;
    const { window } = this.#room;
    this.#readIndex();
    // When listing by hashes, the kernel needs every block; when reading sequentially, it skips holes.
    const isReadable = !isHashed(this.#volume, view);
    let expected = 0;
    for (const { logicalBlock, startBlock, blockCount, unwritten } of runs) {
      if (logicalBlock !== expected) {
        judge.report("directory", { inode }, "hole in a directory at logical block", {
          found: expected,
          isReadable: isReadable || expected >= endBlock,
        });
        // The kernel gives up at a hole preceded by more than the inode's block count.
        const isEnd = (logicalBlock - 1) * blockSizeBytes > view.sectorCount * SECTOR_SIZE_BYTES;
        if (isEnd && endBlock < Infinity) break;
      }
      if (logicalBlock >= endBlock) break;
      if (unwritten) {
        const location = { inode, block: startBlock };
        judge.report("directory", location, "block is unwritten", { isReadable: true });
      }
      const walkedCount = Math.min(blockCount, endBlock - logicalBlock);
      expected = logicalBlock + walkedCount;
      for (let at = 0; at < walkedCount; at += WINDOW_BLOCKS) {
        const length = Math.min(WINDOW_BLOCKS, walkedCount - at);
        const behind = at + length < walkedCount ? 0 : blocksBehind;
        const bytes = window.read(startBlock + at, length, behind);
        if (bytes === undefined) {
          judge.report("directory", { inode, block: startBlock + at }, "block is past the end");
          break;
        }
        for (let i = 0; i < length; i++) {
          this.#block = startBlock + at + i;
          this.#offset = this.#block * blockSizeBytes;
          const part = bytes.subarray(i * blockSizeBytes, (i + 1) * blockSizeBytes);
          this.#attempt(() => this.#walkBlock(part, logicalBlock + at + i));
        }
      }
    }
    if (expected === 0) {
      const details = { isReadable: isReadable || endBlock === 0 };
      judge.report("directory", { inode }, "it has no block", details);
    }
  }

  /** Without the feature, or with a damaged index, the kernel reads all blocks sequentially. */
  #readIndex(): void {
    const { view } = this.directory;
    if ((view.flags & INODE_FLAG.INDEX) === 0 || !isHashed(this.#volume, view)) return;
    this.#attempt(() => {
      this.#index = readIndex(this.#volume, this.directory);
    });
    this.#isIndexLost = this.#index === undefined;
  }

  /** Runs `work`; if the visitor handles faults, the walk continues after one. */
  #attempt(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (this.#visitor.fault === undefined) throw error;
      this.#visitor.fault(inputError(error));
    }
  }

  #walkBlock(bytes: Uint8Array, logical: number): void {
    const index = this.#index;
    const isIndex = index?.indexBlocks.has(logical) ?? (this.#isIndexLost && logical === 0);
    if (isIndex && logical > 0) return;
    // A node of a lost index looks like a block without entries.
    if (this.#isIndexLost && logical > 0 && isEmptyBlock(bytes)) return;
    if (!this.#readBlock(bytes, isIndex, logical)) return;
    if (logical === 0) this.#visitDots();
    const range = index?.leaves.get(logical);
    if (range !== undefined && index?.hasher !== undefined) {
      return this.#visitLeaf(range, index.hasher);
    }
    this.#names = this.#isAlone() && index === undefined ? undefined : this.#sharedNames();
    const entries = this.#entries;
    for (let i = 0; i < Math.min(entries.dotCount, entries.count); i++) {
      if (!entries.isDots(i, 1) && !entries.isDots(i, 2)) this.#visitEntry(i, false);
    }
    for (let i = entries.dotCount; i < entries.count; i++) {
      this.#visitEntry(i, i < entries.firstUnordered);
    }
  }

  /** Whether a directory has only one block, so that no name can be in another. */
  #isAlone(): boolean {
    const { runs } = this.directory;
    return runs.length === 1 && runs[0]!.blockCount === 1;
  }

  #sharedNames(): Set<ByteString> {
    return this.#allNames ??= new Set([".", ".."]);
  }

  /** Checks a block's checksum and reads its entries as far as possible; false if none can be read. */
  #readBlock(bytes: Uint8Array, isIndex: boolean, logical: number): boolean {
    const { window } = this.#room;
    const { words } = window;
    const seed = this.#seed;
    const block = this.#block!;
    const firstWord = window.firstWord(block);
    const dotCount = logical === 0 ? DOT_COUNT : 0;
    if (seed === undefined || isIndex) {
      this.#readEntries({ bytes, words, firstWord, start: 0, end: bytes.length, dotCount });
      return true;
    }
    const tail = firstWord + (bytes.length >>> 2) - TAIL_WORDS;
    const end = bytes.length - DIRECTORY_TAIL_SIZE_BYTES;
    const range = { bytes, words, firstWord, start: 0, end, dotCount };
    const isTailSound = words[tail] === 0 && words[tail + 1] === TAIL_HEAD;
    const isRight = isTailSound && crc32c(seed, bytes.subarray(0, end)) === words[tail + 2]! >>> 0;
    if (!isRight) {
      this.#reportChecksum(bytes, seed);
      // A reader skips the block, as the kernel does.
      if (this.directory.endBlock !== undefined) return false;
    }
    if (isTailSound) this.#readEntries(range);
    return isTailSound;
  }

  /** The kernel skips such a block when reading sequentially, but fails when listing by hashes. */
  #reportChecksum(bytes: Uint8Array, seed: number): void {
    const { view } = this.directory;
    try {
      verifyDirectoryBlock(bytes, seed, HERE);
    } catch (error) {
      const location = { inode: view.number, block: this.#block! };
      this.#volume.judge.reportError("directory", location, inputError(error), {
        isReadable: !isHashed(this.#volume, view),
        outcome: "its names are left out",
      });
    }
  }

  #readEntries(range: EntryRange): void {
    const fault = this.#entries.read(
      this.#isEncrypted ? { ...range, isEncrypted: true } : range,
    );
    if (fault === undefined) return;
    const { problem, kind, data: { actual: found } } = fault;
    const inode = this.directory.view.number;
    const location = this.#block === undefined
      ? { inode, offset: this.#offset }
      : { inode, block: this.#block };
    const details = {
      ...found === undefined ? {} : { found },
      isReadable: kind !== "name",
      ...kind === "length" ? { outcome: "what follows it in the block is left out" } : {},
    };
    const report = () => this.#volume.judge.report("directory", location, problem, details);
    // Entries before an impossible name are listed.
    if (kind === "name") this.#attempt(report);
    else report();
  }

  /** Leaves come in the order of the directory's blocks, which need not be hash order. */
  #visitLeaf(range: HashRange, hasher: NameHasher): void {
    const entries = this.#entries;
    // Equal names have equal hashes: they are in one leaf, or in leaves that share a hash.
    const isShared = range.isHighShared || range.isLowShared;
    this.#names = isShared ? this.#sharedNames() : undefined;
    let lastHash = -1;
    for (let i = 0; i < entries.count; i++) {
      if (entries.inodeAt(i) === 0) continue;
      const name = entries.nameAt(i);
      const hash = hasher.hash(name);
      this.#visitEntry(i, hash > lastHash && name !== "." && name !== "..");
      lastHash = hash;
      if (hasher.isWithin(name, hash, range)) continue;
      const location = { inode: this.directory.view.number, block: this.#block! };
      const problem = `hash of "${displayName(name)}"`;
      this.#volume.judge.report("directory index", location, problem, {
        found: hasher.hashes(name).map(hex).join(" or "),
        wanted: describeRange(range),
        isReadable: true,
      });
    }
  }

  #visitDots(): void {
    const entries = this.#entries;
    const inode = this.directory.view.number;
    const location = { inode, block: this.#block!, offset: this.#offset };
    const bad = (problem: string, found: string | number, wanted?: string | number) =>
      this.#volume.judge.report("directory", location, problem, {
        found,
        ...wanted === undefined ? {} : { wanted },
        isReadable: true,
      });
    const shown = (index: number) =>
      index < entries.count
        ? `"${displayName(entries.nameAt(index))}" ${entries.inodeAt(index)}`
        : "none";
    if (entries.count < 1 || !entries.isDots(0, 1) || entries.inodeAt(0) !== inode) {
      bad('first entry, not "." of the directory', shown(0), `"." ${inode}`);
    }
    this.#visitor.self();
    if (entries.count < 2 || !entries.isDots(1, 2) || entries.inodeAt(1) === 0) {
      bad('second entry, not ".." of a parent', shown(1));
    } else this.#visitor.parent(entries.inodeAt(1));
    for (let i = 0; i < Math.min(DOT_COUNT, entries.count); i++) {
      if (!entries.isDots(i, 1) && !entries.isDots(i, 2)) continue;
      const wanted = this.typeIn(DIRENT_TYPE.DIRECTORY);
      if (entries.fileTypeAt(i) !== wanted) this.reportType(i, wanted, location);
      const behind = entries.byteBehindName(i);
      if (!entries.isDots(i, i + 1) || behind === 0) continue;
      bad(`byte behind the name "${".".repeat(i + 1)}"`, behind, 0);
    }
  }

  /**
   * The type byte that an entry of a DIRENT_TYPE has. Without filetype, that byte is the high half of the name's
   * length.
   */
  typeIn(type: number): number {
    return this.#volume.hasIncompat(INCOMPAT.FILETYPE) ? type : DIRENT_TYPE.UNKNOWN;
  }

  /** Reports the type of an entry. The kernel treats an unknown type as none. */
  reportType(index: number, wanted: number, location = this.locate(index)): void {
    const found = this.#entries.fileTypeAt(index);
    const problem = `file type of "${displayName(this.#entries.nameAt(index))}"`;
    this.#volume.judge.report("directory", location, problem, {
      found,
      wanted,
      isReadable: true,
      ...found === DIRENT_TYPE.UNKNOWN ? { severity: "note" } : {},
    });
  }

  /**
   * Visits an entry other than "." and "..".
   *
   * @param isNew whether its name is known to differ from all before it
   */
  #visitEntry(index: number, isNew: boolean): void {
    if (this.#entries.inodeAt(index) === 0) return;
    const isRepeated = (!isNew || this.#names !== undefined) && this.#lookUpName(index);
    this.#visitor.entry(this.#entries, index, this, isRepeated);
  }

  /** Returns whether a name is one of those before it, and adds it to them. */
  #lookUpName(index: number): boolean {
    const entries = this.#entries;
    if (this.#names === undefined) {
      this.#names = new Set([".", ".."]);
      for (let i = entries.dotCount; i < index; i++) {
        if (entries.inodeAt(i) !== 0) this.#names.add(entries.nameAt(i));
      }
    }
    const nameCount = this.#names.size;
    if (this.#names.add(entries.nameAt(index)).size > nameCount) return false;
    this.reportEntry(index, "is there twice", {
      found: entries.inodeAt(index),
      wanted: "each name once",
      isReadable: true,
      outcome: "the first one is taken",
    });
    return true;
  }
}

class BlockWindow {
  readonly #volume: Volume;
  readonly #buffer: Uint8Array;
  #words: Int32Array;
  #start = 0;
  #count = 0;

  constructor(volume: Volume) {
    this.#volume = volume;
    this.#buffer = new Uint8Array(WINDOW_BLOCKS * volume.blockSizeBytes);
    this.#words = littleEndianWords(this.#buffer);
  }

  get words(): Int32Array {
    return this.#words;
  }

  /**
   * Reads up to WINDOW_BLOCKS blocks, valid until the next call; undefined if the image ends before them.
   *
   * @param behind how many of the following blocks will be requested next
   */
  read(start: number, count: number, behind: number): Uint8Array | undefined {
    const { blockSizeBytes } = this.#volume;
    if (start < this.#start || start + count > this.#start + this.#count) {
      this.#start = start;
      this.#count = this.#fill(start, Math.min(WINDOW_BLOCKS, count + behind)) ||
        this.#fill(start, count);
      if (this.#count === 0) return undefined;
      // On a big-endian machine, the words are a copy.
      this.#words = littleEndianWords(this.#buffer);
    }
    const at = (start - this.#start) * blockSizeBytes;
    return this.#buffer.subarray(at, at + count * blockSizeBytes);
  }

  firstWord(block: number): number {
    return (block - this.#start) * (this.#volume.blockSizeBytes >>> 2);
  }

  #fill(start: number, count: number): number {
    return this.#volume.read(start, count, this.#buffer) === undefined ? 0 : count;
  }
}

/** For each of some directories in order, how many blocks right after its own belong to the next ones. */
export function blocksBehind(directories: readonly MappedDirectory[]): Uint8Array {
  const behind = new Uint8Array(directories.length);
  for (let i = directories.length - 2; i >= 0; i--) {
    const { runs } = directories[i]!;
    const run = runs[0];
    const next = directories[i + 1]!.runs[0];
    if (run === undefined || next === undefined || runs.length > 1) continue;
    if (next.startBlock !== run.startBlock + run.blockCount) continue;
    behind[i] = Math.min(WINDOW_BLOCKS, next.blockCount + behind[i + 1]!);
  }
  return behind;
}
