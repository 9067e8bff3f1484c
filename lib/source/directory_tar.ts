/**
 * A directory tree as the tar that tar(1) would make of it, byte for byte, but without a copy: the headers are made here, and
 * files are read where they lie, once for the digest and again when an image is written.
 *
 * What is unusual is left to tar(1), which knows what to do or to say.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { constants } from "node:fs";
import { alignUp, firstIndex } from "../bytes/arithmetic.ts";
import { type ByteString, byteStringFromBytes, displayName } from "../bytes/byte_string.ts";
import { InputError } from "../errors.ts";
import type { RandomReader } from "../io/random_reader.ts";
import type { SystemCalls } from "../io/system_calls.ts";
import type { Xattr } from "../model/node.ts";
import { type DataSegment, EMPTY_PAYLOAD_INDEX } from "../model/payload.ts";
import type { TarEntry, TarEntryKind } from "../tar/entry.ts";
import { paddedSizeBytes, TAR_BLOCK_SIZE_BYTES } from "../tar/header.ts";
import {
  encodeTarEntry,
  END_OF_ARCHIVE_SIZE_BYTES,
  putGnuTarHead,
  type StoredRange,
} from "../tar/writer.ts";

/** What to do about files that are not as they were. */
export const CHANGED_HINT =
  "files changed while they were read: try again when nothing writes to them";

const PIECE_BYTES = 1 << 20;
/** GNU tar fills up records of 20 blocks. */
const RECORD_BYTES = 20 * TAR_BLOCK_SIZE_BYTES;
/** Linux include/uapi/linux/limits.h; a list of attributes and the value of one have the same limit. */
const PATH_BYTES_MAX = 4096;
const XATTR_BYTES_MAX = 65536;
/** struct linux_dirent64 (getdents(2)). */
const DIRENT = { lengthOffset: 16, nameOffset: 19 } as const;

// Linux include/uapi/linux/fcntl.h and stat.h: the same for all processors, as the layout of struct statx is.
const CURRENT_DIRECTORY = -100;
const NO_FOLLOW = 0x100;
const EMPTY_PATH = 0x1000;
const CLOSE_ON_EXEC = 0o2000000;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const DIRECTORY_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | CLOSE_ON_EXEC;
const FILE_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK |
  CLOSE_ON_EXEC;
const STATX_BASIC_STATS = 0x7ff;
const STATX_BYTES = 256;
const STATX = {
  linkCount: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  inode: 32,
  sizeBytes: 40,
  units: 48,
  mtime: 112,
  deviceMajor: 128,
  deviceMinor: 132,
  fileSystem: 136,
} as const;
/** Where owner, mode, inode and size lie, the times of change, and the file system. */
const STATX_UNCHANGED = [[20, 48], [96, 108], [112, 124], [136, 144]] as const;
/** What stat(2) counts the space of a file in. */
const UNIT_BYTES = 512;

const KIND_OF_FORMAT: Readonly<Record<number, TarEntryKind | undefined>> = {
  0o01: "fifo",
  0o02: "characterDevice",
  0o04: "directory",
  0o06: "blockDevice",
  0o10: "file",
  0o12: "symlink",
};

const NOTHING = new Uint8Array(1);
const NO_XATTRS: readonly Xattr[] = [];
const NO_RANGES: readonly StoredRange[] = [];
/** A file in more parts is not worth the trouble. */
const SEGMENTS_MAX = 1 << 16;

/** Says that tar(1) has to read the tree. */
export class LeftToTar extends Error {
  override readonly name: string = "LeftToTar";
}

type NewEntry = Omit<TarEntry, "headerOffset">;

/** A directory that is being read. */
interface OpenDirectory {
  readonly descriptor: number;
  /** Its path in the tar: `./usr/`. */
  readonly path: ByteString;
  readonly names: readonly ByteString[];
  next: number;
}

/** What goes into the tar next: a head, and ranges of an open file. */
interface Member {
  readonly entry: NewEntry;
  /** Of a sparse file; that of any other follows from the entry. */
  readonly head?: Uint8Array;
  readonly ranges: readonly StoredRange[];
  readonly descriptor: number;
}

/** A tree as a tar: its pieces are read once and in order, and what has passed can be read again at any position. */
export class DirectoryTar {
  readonly #calls: SystemCalls;
  readonly #name: string;
  /** The path of what is looked at, ended by a NUL, and how much of it leads to the tree. */
  readonly #path = Buffer.alloc(PATH_BYTES_MAX) as Buffer<ArrayBuffer>;
  readonly #rootBytes: number;
  /** Its last name, in the same way. */
  readonly #lastName = Buffer.alloc(PATH_BYTES_MAX) as Buffer<ArrayBuffer>;
  readonly #status = Buffer.alloc(STATX_BYTES) as Buffer<ArrayBuffer>;
  readonly #statusAfter = Buffer.alloc(STATX_BYTES) as Buffer<ArrayBuffer>;
  readonly #scratch = Buffer.alloc(XATTR_BYTES_MAX) as Buffer<ArrayBuffer>;
  readonly #value = new Uint8Array(XATTR_BYTES_MAX);
  readonly #piece = new Uint8Array(PIECE_BYTES);
  #filled = 0;
  #sizeBytes = 0;
  /** Opened and not done with; the last one is being read. */
  readonly #directories: OpenDirectory[] = [];
  /** The first path of each file that has several. */
  readonly #firstPaths = new Map<string, ByteString>();
  readonly #ranges = new RangeTable();
  #shares = 1;
  /** The file that was read again last. */
  #reopened = { nameOffset: -1, descriptor: -1 };

  /**
   * @param directory its absolute path
   * @param name what to call it in messages
   */
  constructor(directory: string, name: string, calls: SystemCalls) {
    this.#calls = calls;
    this.#name = name;
    this.#rootBytes = this.#path.write(`${directory}/`);
  }

  /**
   * The bytes of the tar, all through one buffer.
   *
   * @throws {LeftToTar}
   */
  *pieces(): Generator<Uint8Array> {
    try {
      for (let member: Member | undefined = this.#root(); member; member = this.#next()) {
        if (!this.#putHead(member)) {
          yield this.#cut();
          if (!this.#putHead(member)) throw new LeftToTar();
        }
        if (member.descriptor >= 0) yield* this.#contents(member);
      }
    } finally {
      for (const { descriptor } of this.#directories) this.#calls.close(descriptor);
    }
    yield this.#cut();
    const endBytes = alignUp(this.#sizeBytes + END_OF_ARCHIVE_SIZE_BYTES, RECORD_BYTES);
    yield new Uint8Array(endBytes - this.#sizeBytes);
  }

  /** Puts a head into the piece; false where there is not enough room. */
  #putHead({ entry, head }: Member): boolean {
    const lengthBytes = head?.length ?? putGnuTarHead(entry, this.#piece, this.#filled);
    if (lengthBytes < 0) throw new LeftToTar();
    if (this.#filled + lengthBytes > PIECE_BYTES) return false;
    if (head !== undefined) this.#piece.set(head, this.#filled);
    this.#filled += lengthBytes;
    return true;
  }

  #cut(): Uint8Array {
    const piece = this.#piece.subarray(0, this.#filled);
    this.#sizeBytes += this.#filled;
    this.#filled = 0;
    return piece;
  }

  *#contents({ entry, ranges, descriptor }: Member): Generator<Uint8Array> {
    try {
      this.#ranges.setFile(entry.path);
      for (const { fileOffset, lengthBytes } of ranges) {
        this.#ranges.add(this.#sizeBytes + this.#filled, fileOffset, lengthBytes);
        for (let done = 0; done < lengthBytes;) {
          if (this.#filled === PIECE_BYTES) yield this.#cut();
          const end = Math.min(PIECE_BYTES, this.#filled + lengthBytes - done);
          const target = this.#piece.subarray(this.#filled, end);
          const count = this.#calls.pread(descriptor, target, target.length, fileOffset + done);
          if (count <= 0) throw new LeftToTar();
          done += count;
          this.#filled += count;
        }
      }
      this.#checkUnchanged(descriptor);
    } finally {
      this.#calls.close(descriptor);
    }
    // A piece is a whole number of blocks.
    const end = paddedSizeBytes(this.#filled);
    this.#piece.fill(0, this.#filled, end);
    this.#filled = end;
  }

  #root(): Member {
    if (this.#rootBytes > PATH_BYTES_MAX - 2) throw new LeftToTar();
    const descriptor = this.#openDirectory("./", CURRENT_DIRECTORY, this.#path, 0);
    this.#readStatus(descriptor, NOTHING, EMPTY_PATH, this.#status);
    return this.#member("./", "directory", descriptor);
  }

  #next(): Member | undefined {
    for (let last = this.#directories.at(-1); last; last = this.#directories.at(-1)) {
      const name = last.names[last.next++];
      if (name !== undefined) return this.#named(last, name);
      this.#directories.pop();
      this.#calls.close(last.descriptor);
    }
    return undefined;
  }

  #named(directory: OpenDirectory, name: ByteString): Member {
    if (this.#rootBytes + directory.path.length + name.length >= PATH_BYTES_MAX) {
      throw new LeftToTar();
    }
    this.#lastName[this.#lastName.write(name, "latin1")] = 0;
    this.#readStatus(directory.descriptor, this.#lastName, NO_FOLLOW, this.#status);
    const kind = KIND_OF_FORMAT[this.#status.readUInt16LE(STATX.mode) >> 12];
    if (kind === undefined) throw new LeftToTar();
    const path = directory.path + name;
    if (kind !== "directory") return this.#member(path, kind, directory.descriptor);
    const inside = `${path}/`;
    const flags = constants.O_NOFOLLOW;
    const descriptor = this.#openDirectory(inside, directory.descriptor, this.#lastName, flags);
    return this.#member(inside, kind, descriptor);
  }

  #openDirectory(
    path: ByteString,
    parent: number,
    name: Uint8Array<ArrayBuffer>,
    flags: number,
  ): number {
    const descriptor = this.#open(parent, name, flags | DIRECTORY_FLAGS);
    const names: ByteString[] = [];
    this.#directories.push({ descriptor, path, names, next: 0 });
    const scratch = this.#scratch;
    for (;;) {
      const count = this.#calls.getdents64(descriptor, scratch, scratch.length);
      if (count < 0) throw new LeftToTar();
      if (count === 0) break;
      for (let at = 0; at < count; at += scratch.readUInt16LE(at + DIRENT.lengthOffset)) {
        const start = at + DIRENT.nameOffset;
        const entry = byteStringFromBytes(scratch, start, scratch.indexOf(0, start));
        if (entry !== "." && entry !== "..") names.push(entry);
      }
    }
    names.sort();
    return descriptor;
  }

  #open(directory: number, name: Uint8Array<ArrayBuffer>, flags: number): number {
    const descriptor = this.#calls.openat(directory, name, flags);
    if (descriptor < 0) throw new LeftToTar();
    return descriptor;
  }

  #readStatus(
    directory: number,
    name: Uint8Array<ArrayBuffer>,
    flags: number,
    target: Uint8Array<ArrayBuffer>,
  ): void {
    const failed = this.#calls.statx(directory, name, flags, STATX_BASIC_STATS, target);
    if (failed !== 0) throw new LeftToTar();
  }

  /** Whether it is still the same file, and not changed since: tar(1) also looks at the time of the last change. */
  #checkUnchanged(descriptor: number): void {
    this.#readStatus(descriptor, NOTHING, EMPTY_PATH, this.#statusAfter);
    for (const [start, end] of STATX_UNCHANGED) {
      for (let at = start; at < end; at++) {
        if (this.#status[at] !== this.#statusAfter[at]) throw new LeftToTar();
      }
    }
  }

  #number(offset: number): number {
    return this.#status.readUInt32LE(offset);
  }

  #longNumber(offset: number): number {
    return this.#number(offset) + this.#number(offset + 4) * 2 ** 32;
  }

  /** @param directory its own descriptor, or that of the directory that the last name is in */
  #member(path: ByteString, kind: TarEntryKind, directory: number): Member {
    const sizeBytes = kind === "file" ? this.#longNumber(STATX.sizeBytes) : 0;
    const firstPath = kind === "directory" ? undefined : this.#firstPath(path);
    const isLink = firstPath !== undefined;
    const hasData = sizeBytes > 0 && !isLink;
    const descriptor = hasData ? this.#open(directory, this.#lastName, FILE_FLAGS) : -1;
    try {
      const isDevice = kind === "characterDevice" || kind === "blockDevice";
      const entry: NewEntry = {
        kind: isLink ? "hardlink" : kind,
        path,
        linkTarget: firstPath ?? (kind === "symlink" ? this.#target(directory) : ""),
        mode: this.#status.readUInt16LE(STATX.mode) & 0o7777,
        uid: this.#number(STATX.uid),
        gid: this.#number(STATX.gid),
        mtimeSeconds: Number(this.#status.readBigInt64LE(STATX.mtime)),
        mtimeNanoseconds: this.#number(STATX.mtime + 8),
        deviceMajor: isDevice ? this.#number(STATX.deviceMajor) : 0,
        deviceMinor: isDevice ? this.#number(STATX.deviceMinor) : 0,
        xattrs: isLink
          ? NO_XATTRS
          : this.#xattrs(path, kind === "directory" ? directory : descriptor),
        payload: undefined,
      };
      if (!hasData) return { entry, ranges: NO_RANGES, descriptor };
      return { ...this.#file(entry, sizeBytes, descriptor), descriptor };
    } catch (error) {
      if (descriptor >= 0) this.#calls.close(descriptor);
      throw error;
    }
  }

  /** Undefined for a file that has no other path, or none that was met before. */
  #firstPath(path: ByteString): ByteString | undefined {
    if (this.#number(STATX.linkCount) === 1) return undefined;
    const [inode, fileSystem] = [STATX.inode, STATX.fileSystem];
    const key = this.#status.toString("latin1", inode, inode + 8) +
      this.#status.toString("latin1", fileSystem, fileSystem + 8);
    const firstPath = this.#firstPaths.get(key);
    if (firstPath === undefined) this.#firstPaths.set(key, path);
    return firstPath;
  }

  #target(directory: number): ByteString {
    const scratch = this.#scratch;
    const count = this.#calls.readlinkat(directory, this.#lastName, scratch, scratch.length);
    if (count < 0) throw new LeftToTar();
    return byteStringFromBytes(scratch, 0, count);
  }

  /** @param descriptor -1 for what is not open */
  #xattrs(path: ByteString, descriptor: number): readonly Xattr[] {
    const calls = this.#calls;
    const isOpen = descriptor >= 0;
    if (!isOpen) this.#setPath(path);
    const listBytes = isOpen
      ? calls.flistxattr(descriptor, this.#scratch, XATTR_BYTES_MAX)
      : calls.llistxattr(this.#path, this.#scratch, XATTR_BYTES_MAX);
    if (listBytes < 0) throw new LeftToTar();
    if (listBytes === 0) return NO_XATTRS;
    const names = byteStringFromBytes(this.#scratch, 0, listBytes - 1).split("\0");
    return names.map((name) => {
      const cName = Buffer.from(`${name}\0`, "latin1") as Buffer<ArrayBuffer>;
      const count = isOpen
        ? calls.fgetxattr(descriptor, cName, this.#value, XATTR_BYTES_MAX)
        : calls.lgetxattr(this.#path, cName, this.#value, XATTR_BYTES_MAX);
      if (count < 0) throw new LeftToTar();
      return { name, value: this.#value.slice(0, count) };
    });
  }

  /** Puts the path for the system together from one in the tar. */
  #setPath(path: ByteString): void {
    const end = this.#rootBytes + this.#path.write(path.slice(2), this.#rootBytes, "latin1");
    this.#path[end] = 0;
  }

  #file(entry: NewEntry, sizeBytes: number, descriptor: number): Omit<Member, "descriptor"> {
    const segments = this.#longNumber(STATX.units) < Math.ceil(sizeBytes / UNIT_BYTES)
      ? this.#data(descriptor, sizeBytes)
      : [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }];
    const filled = { ...entry, payload: { ...EMPTY_PAYLOAD_INDEX, sizeBytes, segments } };
    if (segments[0]?.lengthBytes === sizeBytes) return { entry: filled, ranges: segments };
    const { head, storedRanges } = encodeTarEntry(filled);
    return { entry: filled, head, ranges: storedRanges };
  }

  /** What of a file is not a hole. */
  #data(descriptor: number, sizeBytes: number): DataSegment[] {
    const segments: DataSegment[] = [];
    for (let end = 0; end < sizeBytes;) {
      const fileOffset = Number(this.#calls.lseek(descriptor, end, SEEK_DATA));
      // The rest is a hole, or holes cannot be told.
      if (fileOffset < 0) break;
      end = Math.min(sizeBytes, Number(this.#calls.lseek(descriptor, fileOffset, SEEK_HOLE)));
      if (end <= fileOffset || segments.length === SEGMENTS_MAX) throw new LeftToTar();
      segments.push({ fileOffset, storeOffset: 0, lengthBytes: end - fileOffset });
    }
    return segments;
  }

  /** Takes one more share in what is held open. */
  share(): DirectoryTar {
    this.#shares++;
    return this;
  }

  /** Gives a share back. */
  release(): void {
    if (--this.#shares === 0) this.#letGo();
  }

  /** A reader over what passed. It takes over one share, which its `close` gives back. */
  reader(name: string, _offsetBytes: number, sizeBytes: number): RandomReader {
    let isOpen = true;
    return {
      name,
      sizeBytes,
      readAt: (target, position) => {
        const count = Math.max(0, Math.min(target.length, sizeBytes - position));
        this.#readAt(target.subarray(0, count) as Uint8Array<ArrayBuffer>, position);
        return count;
      },
      close: () => {
        if (isOpen) this.release();
        isOpen = false;
      },
    };
  }

  #readAt(target: Uint8Array<ArrayBuffer>, position: number): void {
    const { starts, lengths } = this.#ranges;
    let filled = 0;
    let range = firstIndex(starts.length, (i) => starts[i]! + lengths[i]! > position);
    for (; range < starts.length; range++) {
      const start = starts[range]! - position;
      if (start >= target.length) break;
      // Heads and padding, which nobody asks for.
      if (start > filled) target.fill(0, filled, start);
      filled = Math.max(0, start);
      const end = Math.min(start + lengths[range]!, target.length);
      this.#readRange(range, target.subarray(filled, end), filled - start);
      filled = end;
    }
    target.fill(0, filled);
  }

  #readRange(range: number, target: Uint8Array<ArrayBuffer>, offset: number): void {
    const descriptor = this.#reopen(range);
    const position = (this.#ranges.fileOffsets.get(range) ?? 0) + offset;
    for (let done = 0; done < target.length;) {
      const rest = done === 0 ? target : target.subarray(done);
      const count = this.#calls.pread(descriptor, rest, rest.length, position + done);
      if (count <= 0) throw this.#changed(range);
      done += count;
    }
  }

  /** The descriptor of a range's file. */
  #reopen(range: number): number {
    const nameOffset = this.#ranges.nameOffsets[range]!;
    if (this.#reopened.nameOffset === nameOffset) return this.#reopened.descriptor;
    this.#letGo();
    this.#setPath(this.#ranges.pathOf(range));
    const descriptor = this.#calls.openat(CURRENT_DIRECTORY, this.#path, FILE_FLAGS);
    if (descriptor < 0) throw this.#changed(range);
    this.#reopened = { nameOffset, descriptor };
    return descriptor;
  }

  #letGo(): void {
    const { descriptor } = this.#reopened;
    if (descriptor >= 0) this.#calls.close(descriptor);
    this.#reopened = { nameOffset: -1, descriptor: -1 };
  }

  #changed(range: number): InputError {
    const why = `${displayName(this.#ranges.pathOf(range))} changed after it was read`;
    return new InputError(this.#name, why, { code: "changed", hint: CHANGED_HINT });
  }
}

/** Where the data of files lies in the tar. There can be a million: a row is some numbers and the bytes of a name. */
class RangeTable {
  /** Offsets in the tar, ascending. */
  readonly starts: number[] = [];
  readonly lengths: number[] = [];
  /** Where the file's name begins among the names. */
  readonly nameOffsets: number[] = [];
  /** Where in the file the parts of sparse files begin, by row. */
  readonly fileOffsets = new Map<number, number>();
  readonly #directories: ByteString[] = [];
  readonly #directoryIndexes: number[] = [];
  #names = Buffer.alloc(1 << 16);
  #namesBytes = 0;
  #nameOffset = 0;

  /** Says which file the next ranges are of. */
  setFile(path: ByteString): void {
    const nameStart = path.lastIndexOf("/") + 1;
    const directory = path.slice(0, nameStart);
    if (this.#directories.at(-1) !== directory) this.#directories.push(directory);
    if (this.#namesBytes + path.length > this.#names.length) {
      this.#names = Buffer.concat([this.#names], 2 * this.#names.length);
    }
    this.#nameOffset = this.#namesBytes;
    const name = path.slice(nameStart);
    this.#namesBytes += this.#names.write(name, this.#nameOffset, "latin1") + 1;
  }

  add(start: number, fileOffset: number, lengthBytes: number): void {
    if (fileOffset > 0) this.fileOffsets.set(this.starts.length, fileOffset);
    this.starts.push(start);
    this.lengths.push(lengthBytes);
    this.nameOffsets.push(this.#nameOffset);
    this.#directoryIndexes.push(this.#directories.length - 1);
  }

  pathOf(range: number): ByteString {
    const start = this.nameOffsets[range]!;
    const name = byteStringFromBytes(this.#names, start, this.#names.indexOf(0, start));
    return this.#directories[this.#directoryIndexes[range]!]! + name;
  }
}
