/**
 * Reads the files of a directory tree again, by their positions in the tree's tar.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { constants } from "node:fs";
import { firstIndex } from "../bytes/arithmetic.ts";
import { type ByteString, byteStringFromBytes, displayName } from "../bytes/byte_string.ts";
import { InputError, IoError } from "../errors.ts";
import {
  descriptorReader,
  type RandomReader,
  readAhead,
  readExactly,
} from "../io/random_reader.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../io/spool.ts";
import type { SystemCalls } from "../io/system_calls.ts";

/** The hint for files that have changed. */
export const CHANGED_HINT =
  "files changed while they were read: try again when nothing writes to them";

/** Linux include/uapi/linux/limits.h. */
export const PATH_BYTES_MAX = 4096;
// Linux include/uapi/linux/fcntl.h: the same on all architectures.
export const CURRENT_DIRECTORY = -100;
const CLOSE_ON_EXEC = 0o2000000;
export const DIRECTORY_FLAGS: number = constants.O_RDONLY | constants.O_DIRECTORY | CLOSE_ON_EXEC;
export const FILE_FLAGS: number = constants.O_RDONLY | constants.O_NOFOLLOW |
  constants.O_NONBLOCK | CLOSE_ON_EXEC;

/** The size of struct statx (statx(2)). Like its flags, it is the same on all architectures. */
export const STATX_BYTES = 256;
export const STATX_BASIC_STATS = 0x7ff;
export const NO_FOLLOW = 0x100;
export const EMPTY_PATH = 0x1000;
export const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(1);
/**
 * The fields of struct statx that change whenever a file's bytes do: its size and its change times. They usually tell files
 * apart, too. The inode number is left out because some file systems assign a new one when a file is reopened.
 */
const STATE_RANGES = [[40, 48], [96, 128]] as const;
const STATE_BYTES = 40;

const NOTHING_OPEN = { key: -1, descriptor: -1 };

/** There can be a million files: each takes a few numbers here and the bytes of its name. */
export class DirectoryFiles {
  readonly #calls: SystemCalls;
  readonly #name: string;
  readonly #tmpdir: string;
  readonly #root: string;
  /** Paths in the tar, such as `./usr/`. */
  readonly #directories: ByteString[] = [];
  /** Names, each terminated by a NUL and followed by the state in which the file was read. */
  #names = Buffer.alloc(1 << 16);
  #namesBytes = 0;
  /** Contiguous ranges: their offsets in the tar, ascending, and their lengths. */
  readonly #starts: number[] = [];
  readonly #lengths: number[] = [];
  readonly #directoryIndexes: number[] = [];
  /** Where the file's name begins; -1 - n for a file copied to offset n. */
  readonly #sources: number[] = [];
  /** File offsets at which parts of sparse files begin. */
  readonly #fileOffsets = new Map<number, number>();
  #last = { directory: 0, source: 0 };
  /** Small files are copied, because reopening them takes longer. */
  #copies: { readonly writer: SpoolWriter; readonly reader: RandomReader } | undefined;
  #shares = 1;
  readonly #status = Buffer.alloc(STATX_BYTES) as Buffer<ArrayBuffer>;
  /** The last file read, by source, and its directory, by index. */
  #file = NOTHING_OPEN;
  #directory = NOTHING_OPEN;
  readonly #path = Buffer.alloc(2 * PATH_BYTES_MAX) as Buffer<ArrayBuffer>;

  constructor(root: string, name: string, calls: SystemCalls, tmpdir: string) {
    this.#root = root;
    this.#name = name;
    this.#calls = calls;
    this.#tmpdir = tmpdir;
  }

  /** @returns the directory's index */
  addDirectory(path: ByteString): number {
    return this.#directories.push(path) - 1;
  }

  /**
   * Starts a file.
   *
   * @param status the file's statx(2) result
   * @returns the writer to copy its bytes to; undefined if the file is to be reopened
   */
  add(
    isCopied: boolean,
    directory: number,
    name: ByteString,
    status: Uint8Array,
  ): SpoolWriter | undefined {
    if (isCopied) {
      this.#copies ??= openCopies(this.#tmpdir, this.#name);
      const { writer } = this.#copies;
      this.#last = { directory, source: -1 - writer.sizeBytes };
      return writer;
    }
    const start = this.#namesBytes;
    const end = start + name.length + 1;
    if (end + STATE_BYTES > this.#names.length) {
      this.#names = Buffer.concat([this.#names], 2 * this.#names.length);
    }
    this.#names.write(`${name}\0`, start, "latin1");
    this.#names.set(stateOf(status), end);
    this.#namesBytes = end + STATE_BYTES;
    this.#last = { directory, source: start };
    return undefined;
  }

  /** Adds a part of the file, by its offset in the tar and in the file. */
  addRange(start: number, lengthBytes: number, fileOffset: number): void {
    if (fileOffset > 0) this.#fileOffsets.set(this.#starts.length, fileOffset);
    this.#starts.push(start);
    this.#lengths.push(lengthBytes);
    this.#directoryIndexes.push(this.#last.directory);
    this.#sources.push(this.#last.source);
  }

  /** Finishes adding. */
  flush(): void {
    this.#copies?.writer.flush();
  }

  /** Adds a reference. */
  share(): DirectoryFiles {
    this.#shares++;
    return this;
  }

  /** Releases a reference. */
  release(): void {
    if (--this.#shares > 0) return;
    this.#close(this.#file);
    this.#close(this.#directory);
    this.#copies?.reader.close();
  }

  /** A reader for the tar, in which headers read as zeros. It takes over one reference and releases it on `close`. */
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
    const [starts, lengths] = [this.#starts, this.#lengths];
    let filled = 0;
    let range = firstIndex(starts.length, (i) => starts[i]! + lengths[i]! > position);
    for (; range < starts.length; range++) {
      const start = starts[range]! - position;
      if (start >= target.length) break;
      if (start > filled) target.fill(0, filled, start);
      filled = Math.max(0, start);
      const end = Math.min(start + lengths[range]!, target.length);
      this.#readRange(range, target.subarray(filled, end), filled - start);
      filled = end;
    }
    target.fill(0, filled);
  }

  #readRange(range: number, target: Uint8Array<ArrayBuffer>, offset: number): void {
    const source = this.#sources[range]!;
    if (source < 0) return readExactly(this.#copies!.reader, target, -1 - source + offset);
    const descriptor = this.#reopen(range, source);
    const position = (this.#fileOffsets.get(range) ?? 0) + offset;
    for (let done = 0; done < target.length;) {
      const rest = done === 0 ? target : target.subarray(done);
      const count = this.#calls.pread(descriptor, rest, rest.length, position + done);
      if (count === 0) throw this.#changed(range);
      if (count < 0) throw this.#unreadable(range);
      done += count;
    }
    this.#checkUnchanged(range, source, descriptor);
  }

  /** The path may now lead to another file or other bytes, and the file may be written to meanwhile. */
  #checkUnchanged(range: number, source: number, descriptor: number): void {
    const status = this.#status;
    const failed = this.#calls.statx(descriptor, NOTHING, EMPTY_PATH, STATX_BASIC_STATS, status);
    if (failed !== 0 || !this.#isAsBefore(source)) throw this.#changed(range);
  }

  /** Whether the status matches the file as it was read. */
  #isAsBefore(source: number): boolean {
    const start = this.#names.indexOf(0, source) + 1;
    return stateOf(this.#status).equals(this.#names.subarray(start, start + STATE_BYTES));
  }

  /** The last file and its directory stay open. */
  #reopen(range: number, source: number): number {
    if (this.#file.key === source) return this.#file.descriptor;
    const index = this.#directoryIndexes[range]!;
    if (this.#directory.key !== index) {
      this.#close(this.#directory);
      this.#directory = NOTHING_OPEN;
      this.#setPath(this.#directories[index]!);
      const descriptor = this.#calls.openat(CURRENT_DIRECTORY, this.#path, DIRECTORY_FLAGS);
      if (descriptor < 0) throw this.#unreadable(range);
      this.#directory = { key: index, descriptor };
    }
    this.#close(this.#file);
    this.#file = NOTHING_OPEN;
    this.#names.copy(this.#path, 0, source, this.#names.indexOf(0, source) + 1);
    const descriptor = this.#calls.openat(this.#directory.descriptor, this.#path, FILE_FLAGS);
    if (descriptor < 0) throw this.#unreadable(range);
    this.#file = { key: source, descriptor };
    return descriptor;
  }

  #close({ descriptor }: typeof NOTHING_OPEN): void {
    if (descriptor >= 0) this.#calls.close(descriptor);
  }

  /** Builds the system's path from a path in the tar. */
  #setPath(path: ByteString): void {
    const rootBytes = this.#path.write(this.#root);
    this.#path.write(`${path.slice(1)}\0`, rootBytes, "latin1");
  }

  #pathOf(range: number): ByteString {
    const source = this.#sources[range]!;
    const name = byteStringFromBytes(this.#names, source, this.#names.indexOf(0, source));
    return this.#directories[this.#directoryIndexes[range]!]! + name;
  }

  /** The error for a failed call: either the file has changed, or it is unchanged but cannot be read. */
  #unreadable(range: number): InputError | IoError {
    const path = this.#pathOf(range);
    this.#setPath(path);
    const status = this.#status;
    const { statx } = this.#calls;
    const failed = statx(CURRENT_DIRECTORY, this.#path, NO_FOLLOW, STATX_BASIC_STATS, status);
    if (failed !== 0 || !this.#isAsBefore(this.#sources[range]!)) return this.#changed(range);
    return new IoError(this.#name, `${displayName(path)} cannot be read a second time`, {
      hint: "the disk may be damaged, or this process may have too many files open (`ulimit -n`)",
    });
  }

  #changed(range: number): InputError {
    const why = `${displayName(this.#pathOf(range))} changed after it was read`;
    return new InputError(this.#name, why, { code: "changed", hint: CHANGED_HINT });
  }
}

function stateOf(status: Uint8Array): Buffer {
  return Buffer.concat(STATE_RANGES.map(([start, end]) => status.subarray(start, end)));
}

function openCopies(directory: string, name: string) {
  const descriptor = createUnlinkedFile(directory);
  return {
    writer: new SpoolWriter(singleFile(descriptor, directory)),
    reader: readAhead(descriptorReader(descriptor, name, Infinity)),
  };
}
