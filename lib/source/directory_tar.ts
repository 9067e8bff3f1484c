/**
 * Reads a directory tree as the tar that tar(1) would create, byte for byte, but without a copy: the headers are generated
 * here, and files are read in place, once for the digest and again when an image is written.
 *
 * Unusual cases are left to tar(1), which handles or reports them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { constants } from "node:fs";
import { tmpdir as systemTmpdir } from "node:os";
import { alignUp } from "../bytes/arithmetic.ts";
import { type ByteString, byteStringFromBytes } from "../bytes/byte_string.ts";
import type { SystemCalls } from "../io/system_calls.ts";
import {
  type DataSegment,
  EMPTY_PAYLOAD_INDEX,
  type PayloadIndex,
  type Xattr,
} from "../model/node.ts";
import type { TarEntry, TarEntryKind } from "../tar/entry.ts";
import {
  DEFAULT_TAR_LIMITS,
  paddedSizeBytes,
  TAR_BLOCK_SIZE_BYTES,
  type TarLimits,
} from "../tar/header.ts";
import { PayloadScanner } from "../tar/payload.ts";
import {
  encodeTarEntry,
  END_OF_ARCHIVE_SIZE_BYTES,
  putGnuTarHead,
  type StoredRange,
} from "../tar/writer.ts";
import {
  CURRENT_DIRECTORY,
  DIRECTORY_FLAGS,
  DirectoryFiles,
  EMPTY_PATH,
  FILE_FLAGS,
  NO_FOLLOW,
  NOTHING,
  PATH_BYTES_MAX,
  STATX_BASIC_STATS,
  STATX_BYTES,
} from "./directory_files.ts";
import type { SourceOptions } from "./types.ts";

const PIECE_BYTES = 1 << 20;
/** GNU tar pads to records of 20 blocks. */
const RECORD_BYTES = 20 * TAR_BLOCK_SIZE_BYTES;
/** Linux include/uapi/linux/limits.h: the limit for an attribute's value and for a list of names. */
const XATTR_BYTES_MAX = 65536;
/** struct linux_dirent64 (getdents(2)). */
const DIRENT = { lengthOffset: 16, nameOffset: 19 } as const;

// Linux include/uapi/linux/fcntl.h and stat.h: the same on all architectures, like the layout of struct statx.
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
/** Offsets in 32-bit words. 64-bit numbers take two. */
const STATX = {
  linkCount: 4,
  uid: 5,
  gid: 6,
  mode: 7,
  inode: 8,
  sizeBytes: 10,
  units: 12,
  ctime: 24,
  mtime: 28,
  deviceMajor: 32,
  deviceMinor: 33,
  fileSystem: 34,
} as const;
/** The unit of stat(2)'s block count. */
const UNIT_BYTES = 512;

const KIND_OF_FORMAT: Readonly<Record<number, TarEntryKind | undefined>> = {
  0o01: "fifo",
  0o02: "characterDevice",
  0o04: "directory",
  0o06: "blockDevice",
  0o10: "file",
  0o12: "symlink",
};

const NO_XATTRS: readonly Xattr[] = [];
const NO_SEGMENTS: readonly DataSegment[] = [];
/** Larger files are not copied. */
const COPIED_BYTES_MAX = 8192;
/** Files in more parts are left to tar(1). */
const SEGMENTS_MAX = 1 << 16;

/** The most that a PAX record takes in addition to its name and value, or that all records for numbers take together. */
const RECORD_BYTES_MAX = 256;
/** The next number means "no id" in the kernel. */
const ID_MAX = 0xfffffffe;

/** Thrown if tar(1) has to read the tree. */
export class LeftToTar extends Error {
  override readonly name: string = "LeftToTar";
}

/** An entry whose payload and offset are filled in once known. */
type NewEntry = Omit<TarEntry, "xattrs" | "payload" | "headerOffset"> & {
  xattrs: readonly Xattr[];
  payload: PayloadIndex | undefined;
  headerOffset: number;
};

/** A directory being read. */
interface OpenDirectory {
  readonly descriptor: number;
  /** Its path in the tar, such as `./usr/`. */
  readonly path: ByteString;
  /** Its index among all directories. */
  readonly index: number;
  readonly names: readonly ByteString[];
  next: number;
}

/** The next member of the tar: a header, and ranges of the open file. */
interface Member {
  readonly entry: NewEntry;
  /** Set for sparse files; other headers follow from the entry. */
  readonly head?: Uint8Array;
  readonly ranges: readonly StoredRange[];
}

/** A tree as a tar: its pieces are produced once and in order, and earlier bytes can be read again at any position. */
export class DirectoryTar {
  readonly #calls: SystemCalls;
  /** The current path, terminated by a NUL, and the length of the part that leads to the tree. */
  readonly #path = Buffer.alloc(PATH_BYTES_MAX) as Buffer<ArrayBuffer>;
  readonly #rootBytes: number;
  /** The path's last component, in the same form. */
  readonly #lastName = Buffer.alloc(PATH_BYTES_MAX) as Buffer<ArrayBuffer>;
  readonly #statusBytes = new Uint8Array(STATX_BYTES);
  readonly #status = new Uint32Array(this.#statusBytes.buffer);
  readonly #statusAfterBytes = new Uint8Array(STATX_BYTES);
  readonly #statusAfter = new Uint32Array(this.#statusAfterBytes.buffer);
  readonly #scratch = Buffer.alloc(XATTR_BYTES_MAX) as Buffer<ArrayBuffer>;
  readonly #value = new Uint8Array(XATTR_BYTES_MAX);
  readonly #limits: TarLimits;
  readonly #total = { entries: 0, attributeBytes: 0, recordBytes: 0, extraPieces: 0 };
  readonly #scanner = new PayloadScanner();
  readonly #piece = new Uint8Array(PIECE_BYTES);
  #filled = 0;
  #sizeBytes = 0;
  /** The file being read; -1 for none. */
  #file = -1;
  /** Open directories; the last one is being read. */
  readonly #directories: OpenDirectory[] = [];
  /** The first path of each file that has several. */
  readonly #firstPaths = new Map<string, ByteString>();
  /** Reads files again. */
  readonly files: DirectoryFiles;

  /**
   * @param directory its absolute path
   * @param name its name in messages
   */
  constructor(
    directory: string,
    name: string,
    calls: SystemCalls,
    { tarLimits, tmpdir = systemTmpdir() }: Pick<SourceOptions, "tarLimits" | "tmpdir">,
  ) {
    this.#calls = calls;
    this.#limits = { ...DEFAULT_TAR_LIMITS, ...tarLimits };
    this.files = new DirectoryFiles(directory, name, calls, tmpdir);
    this.#rootBytes = this.#path.write(`${directory}/`);
  }

  /**
   * The bytes of the tar, all through one buffer.
   *
   * @param emit receives every entry as a TarIndexer would report it
   * @throws {LeftToTar}
   */
  *pieces(emit: (entry: TarEntry) => void): Generator<Uint8Array> {
    try {
      for (let member: Member | undefined = this.#root(); member; member = this.#next()) {
        if (!this.#putHead(member)) {
          yield this.#cut();
          if (!this.#putHead(member)) throw new LeftToTar();
        }
        if (this.#file >= 0) yield* this.#contents(member);
        const { entry } = member;
        this.#checkLimits(entry);
        // A tar has them in the file system's order.
        if (entry.xattrs.length > 1) {
          entry.xattrs = entry.xattrs.toSorted((a, b) => a.name < b.name ? -1 : 1);
        }
        emit(entry);
      }
    } finally {
      for (const { descriptor } of this.#directories) this.#calls.close(descriptor);
      this.#closeFile();
    }
    this.files.flush();
    yield this.#cut();
    const endBytes = alignUp(this.#sizeBytes + END_OF_ARCHIVE_SIZE_BYTES, RECORD_BYTES);
    yield new Uint8Array(endBytes - this.#sizeBytes);
  }

  /** Puts a header into the piece; false if there is not enough room. */
  #putHead({ entry, head }: Member): boolean {
    const lengthBytes = head?.length ?? putGnuTarHead(entry, this.#piece, this.#filled);
    if (lengthBytes < 0) throw new LeftToTar();
    if (this.#filled + lengthBytes > PIECE_BYTES) return false;
    if (head !== undefined) this.#piece.set(head, this.#filled);
    entry.headerOffset = this.#sizeBytes + this.#filled;
    this.#filled += lengthBytes;
    return true;
  }

  /** Anything beyond a limit is left to tar(1): the reader of its output reports the problem. */
  #checkLimits({ path, linkTarget, uid, gid, xattrs, payload }: NewEntry): void {
    const { sizeBytes, segments, dataRuns } = payload ?? EMPTY_PAYLOAD_INDEX;
    let attributeBytes = Math.max(0, path.length - 256) + Math.max(0, linkTarget.length - 256);
    let recordBytes = RECORD_BYTES_MAX + path.length + linkTarget.length;
    for (const { name, value } of xattrs) {
      attributeBytes += 128 + name.length + value.length;
      recordBytes += RECORD_BYTES_MAX + 3 * name.length + value.length;
    }
    const total = this.#total;
    total.entries++;
    total.attributeBytes += attributeBytes;
    total.recordBytes += recordBytes;
    total.extraPieces += Math.max(0, segments.length - 1) + Math.max(0, dataRuns.length - 1);
    const limits = this.#limits;
    const isWithin = total.entries <= limits.layerEntries &&
      2 * total.entries <= limits.layerHeaders &&
      total.attributeBytes <= limits.attributeBytes &&
      recordBytes <= limits.extendedHeaderBytes &&
      total.recordBytes <= limits.extendedHeaderTotalBytes &&
      total.extraPieces <= limits.extraPayloadPieces &&
      segments.length <= limits.sparseSegments && sizeBytes <= limits.fileSizeBytes &&
      Math.max(path.length, linkTarget.length) <= limits.pathBytes &&
      this.#directories.length <= limits.pathDepth && Math.max(uid, gid) <= ID_MAX;
    if (!isWithin) throw new LeftToTar();
  }

  #cut(): Uint8Array {
    const piece = this.#piece.subarray(0, this.#filled);
    this.#sizeBytes += this.#filled;
    this.#filled = 0;
    return piece;
  }

  *#contents({ entry, ranges }: Member): Generator<Uint8Array> {
    const segments: DataSegment[] = [];
    const { index, names, next } = this.#directories.at(-1)!;
    const isSmall = ranges.length === 1 && ranges[0]!.lengthBytes <= COPIED_BYTES_MAX;
    const copy = this.files.add(isSmall, index, names[next - 1]!, this.#statusBytes);
    for (const { fileOffset, lengthBytes } of ranges) {
      const storeOffset = this.#sizeBytes + this.#filled;
      segments.push({ fileOffset, storeOffset, lengthBytes });
      this.files.addRange(storeOffset, lengthBytes, fileOffset);
      for (let done = 0; done < lengthBytes;) {
        if (this.#filled === PIECE_BYTES) yield this.#cut();
        const start = this.#filled;
        const target = this.#piece.subarray(
          start,
          Math.min(PIECE_BYTES, start + lengthBytes - done),
        );
        const count = this.#calls.pread(this.#file, target, target.length, fileOffset + done);
        if (count <= 0) throw new LeftToTar();
        this.#filled += count;
        this.#scanner.push(fileOffset + done, this.#piece, start, this.#filled);
        copy?.append(this.#piece.subarray(start, this.#filled));
        done += count;
      }
    }
    this.#checkUnchanged(this.#file);
    this.#closeFile();
    const { sizeBytes } = entry.payload!;
    entry.payload = { sizeBytes, segments, ...this.#scanner.finish() };
    // A piece is a whole number of blocks.
    const end = paddedSizeBytes(this.#filled);
    this.#piece.fill(0, this.#filled, end);
    this.#filled = end;
  }

  #closeFile(): void {
    if (this.#file >= 0) this.#calls.close(this.#file);
    this.#file = -1;
  }

  #root(): Member {
    if (this.#rootBytes > PATH_BYTES_MAX - 2) throw new LeftToTar();
    const descriptor = this.#openDirectory("./", CURRENT_DIRECTORY, this.#path, 0);
    this.#readStatus(descriptor, NOTHING, EMPTY_PATH, this.#statusBytes);
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
    this.#readStatus(directory.descriptor, this.#lastName, NO_FOLLOW, this.#statusBytes);
    const kind = KIND_OF_FORMAT[(this.#status[STATX.mode]! & 0xf000) >> 12];
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
    const index = this.files.addDirectory(path);
    this.#directories.push({ descriptor, path, index, names, next: 0 });
    const scratch = this.#scratch;
    for (;;) {
      const count = this.#calls.getdents64(descriptor, scratch, scratch.length);
      if (count < 0) throw new LeftToTar();
      if (count === 0) break;
      for (let at = 0; at < count; at += scratch.readUInt16LE(at + DIRENT.lengthOffset)) {
        const start = at + DIRENT.nameOffset;
        const entry = scratch.toString("latin1", start, scratch.indexOf(0, start));
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

  /** Whether it is still the same, unchanged file. tar(1) also compares the time of the last change. */
  #checkUnchanged(descriptor: number): void {
    this.#readStatus(descriptor, NOTHING, EMPTY_PATH, this.#statusAfterBytes);
    const { inode, sizeBytes, ctime, mtime, fileSystem } = STATX;
    // In a timestamp, the nanoseconds follow the seconds.
    for (const first of [inode, sizeBytes, ctime, ctime + 1, mtime, mtime + 1, fileSystem]) {
      const isSame = this.#status[first] === this.#statusAfter[first] &&
        this.#status[first + 1] === this.#statusAfter[first + 1];
      if (!isSame) throw new LeftToTar();
    }
  }

  #longNumber(word: number): number {
    return this.#status[word]! + this.#status[word + 1]! * 2 ** 32;
  }

  /** @param directory its own descriptor, or that of the directory containing the last component */
  #member(path: ByteString, kind: TarEntryKind, directory: number): Member {
    const sizeBytes = kind === "file" ? this.#longNumber(STATX.sizeBytes) : 0;
    const firstPath = kind === "directory" ? undefined : this.#firstPath(path);
    const isLink = firstPath !== undefined;
    const hasData = sizeBytes > 0 && !isLink;
    if (hasData) this.#file = this.#open(directory, this.#lastName, FILE_FLAGS);
    const status = this.#status;
    const isDevice = kind === "characterDevice" || kind === "blockDevice";
    const segments = hasData ? this.#segments(sizeBytes, this.#file) : NO_SEGMENTS;
    const entry: NewEntry = {
      kind: isLink ? "hardlink" : kind,
      path,
      linkTarget: firstPath ?? (kind === "symlink" ? this.#target(directory) : ""),
      mode: status[STATX.mode]! & 0o7777,
      uid: status[STATX.uid]!,
      gid: status[STATX.gid]!,
      mtimeSeconds: status[STATX.mtime]! + (status[STATX.mtime + 1]! | 0) * 2 ** 32,
      mtimeNanoseconds: status[STATX.mtime + 2]!,
      deviceMajor: isDevice ? status[STATX.deviceMajor]! : 0,
      deviceMinor: isDevice ? status[STATX.deviceMinor]! : 0,
      xattrs: isLink
        ? NO_XATTRS
        : this.#xattrs(path, kind === "directory" ? directory : this.#file),
      payload: kind !== "file" || isLink
        ? undefined
        : hasData
        ? { ...EMPTY_PAYLOAD_INDEX, sizeBytes, segments }
        : EMPTY_PAYLOAD_INDEX,
      headerOffset: 0,
    };
    const isSparse = hasData && segments[0]?.lengthBytes !== sizeBytes;
    if (!isSparse) return { entry, ranges: segments };
    const { head, storedRanges } = encodeTarEntry(entry);
    return { entry, head, ranges: storedRanges };
  }

  /** Undefined if the file has no other path, or none seen before. */
  #firstPath(path: ByteString): ByteString | undefined {
    if (this.#status[STATX.linkCount] === 1) return undefined;
    const { inode, fileSystem } = STATX;
    const key = [inode, inode + 1, fileSystem, fileSystem + 1].map((i) => this.#status[i]).join();
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

  /** @param descriptor -1 if it is not open */
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

  /** Builds the system's path from a path in the tar. */
  #setPath(path: ByteString): void {
    const end = this.#rootBytes + this.#path.write(path.slice(2), this.#rootBytes, "latin1");
    this.#path[end] = 0;
  }

  /** The parts of a file that are not holes. */
  #segments(sizeBytes: number, descriptor: number): readonly DataSegment[] {
    if (this.#longNumber(STATX.units) >= Math.ceil(sizeBytes / UNIT_BYTES)) {
      return [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }];
    }
    const segments: DataSegment[] = [];
    for (let end = 0; end < sizeBytes;) {
      const fileOffset = Number(this.#calls.lseek(descriptor, end, SEEK_DATA));
      // The rest is a hole, or holes cannot be found.
      if (fileOffset < 0) break;
      end = Math.min(sizeBytes, Number(this.#calls.lseek(descriptor, fileOffset, SEEK_HOLE)));
      if (end <= fileOffset || segments.length === SEGMENTS_MAX) throw new LeftToTar();
      segments.push({ fileOffset, storeOffset: 0, lengthBytes: end - fileOffset });
    }
    return segments;
  }
}
