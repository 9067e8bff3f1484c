/**
 * Giving an image that is there a hash tree: behind its data, or in a file of its own.
 *
 * @module
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  type Stats,
  statSync,
  writeSync,
} from "node:fs";
import { setImmediate } from "node:timers/promises";
import { BlessfsError, InputError, invariant, throwIfAborted } from "../errors.ts";
import { readFileInto } from "../io/file_source.ts";
import { openFileReader, type RandomReader, readExactly } from "../io/random_reader.ts";
import type { ImageSink } from "../io/sink.ts";
import { displayPath, ioErrorFrom } from "../io/system_error.ts";
import type { ThreadOptions } from "../io/thread.ts";
import { NO_PROGRESS, type Progress } from "../progress.ts";
import { treeShape } from "../verity/format.ts";
import type { HashTree } from "../verity/hash_tree.ts";
import { dataBlocksOf, TreeSink, type VerityReport, verityReport } from "../verity/verity_sink.ts";
import { appendedTreeOffset, ext4Bytes } from "./verity_place.ts";

/** What to do. */
export interface FormatVerityOptions extends ThreadOptions {
  /** A regular file or a block device. */
  readonly image: string;
  /** Goes before every block that is hashed; at most 256 bytes. */
  readonly salt: Uint8Array;
  /** How much of the image is hashed; all of it when left out. */
  readonly dataBytes?: number | undefined;
  /** Takes the tree; it goes behind the data when left out. */
  readonly hashSink?: ImageSink | undefined;
  /** Replace a tree, or whatever else is behind the data. */
  readonly force?: boolean | undefined;
  /** Ends the work when it is aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Progress reporter. */
  readonly progress?: Progress | undefined;
}

const PIECE_BYTES = 1 << 20;

/**
 * Hashes an image and writes its tree. Behind the data, the superblock is written last, when the rest is on the disk: a
 * tree that is not whole is never taken for one. Whatever fails, the image ends with its data.
 *
 * @throws {InputError} when the image is not whole blocks, or has something behind its data
 * @throws {IoError} when reading or writing fails
 * @throws {InterruptedError} when the signal is aborted
 */
export async function formatVerity(options: FormatVerityOptions): Promise<VerityReport> {
  const { image, hashSink } = options;
  let tree: HashTree | undefined;
  try {
    const reader = openFileReader(image, { what: "an image" });
    let dataBytes: number;
    try {
      const before = statOf(image);
      dataBytes = dataBytesOf(reader, before.isFile(), options);
      tree = await hashImage(reader, dataBytes, options);
      checkUnchanged(image, before);
    } finally {
      reader.close();
    }
    if (hashSink === undefined) {
      await appendTree(image, tree, dataBytes);
      return verityReport(tree, dataBytes);
    }
    await tree.writeTo(hashSink, 0);
    await hashSink.finish(tree.shape.sizeBytes);
    return verityReport(tree, 0);
  } catch (error) {
    await hashSink?.abort();
    throw error;
  } finally {
    tree?.close();
  }
}

function statOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be looked at", cause);
  }
}

function checkUnchanged(path: string, before: Stats): void {
  const after = statOf(path);
  if (after.size === before.size && after.mtimeMs === before.mtimeMs) return;
  throw new InputError(displayPath(path), "changed while it was hashed", {
    code: "changed",
    hint: "unmount it, and let nothing write to it meanwhile",
  });
}

function dataBytesOf(
  reader: RandomReader,
  isFile: boolean,
  options: FormatVerityOptions,
): number {
  const { hashSink, force = false } = options;
  const shown = displayPath(reader.name);
  const known = hashSink === undefined ? appendedTreeOffset(reader) : undefined;
  if (known !== undefined && !force) {
    throw new InputError(shown, `has a hash tree already, at offset ${known}`, {
      code: "alreadyExists",
      remedies: [{ option: "force", change: "set", to: "replace it" }],
    });
  }
  const dataBytes = options.dataBytes ?? known ?? dataEnd(reader, isFile, options);
  const dataBlocks = dataBlocksOf(dataBytes);
  if (dataBlocks === undefined) {
    throw new InputError(shown, `has ${dataBytes} bytes: wanted a multiple of 4096`, {
      remedies: [{ option: "dataBytes", change: "set", to: "hash a part of it" }],
    });
  }
  if (dataBytes > reader.sizeBytes) {
    throw new InputError(shown, `has ${reader.sizeBytes} bytes: wanted ${dataBytes} of data`);
  }
  if (hashSink !== undefined) return dataBytes;
  const neededBytes = dataBytes + treeShape(dataBlocks).sizeBytes;
  if (!isFile && neededBytes > reader.sizeBytes) {
    throw new InputError(
      shown,
      `has ${reader.sizeBytes} bytes: data and tree need ${neededBytes}`,
      {
        code: "doesNotFit",
        remedies: [
          { option: "dataBytes", change: "set", to: "hash a part of it" },
          { option: "hashFile", change: "set", to: "put the tree elsewhere" },
        ],
      },
    );
  }
  if (isFile && !force && dataBytes < reader.sizeBytes) {
    throw new InputError(shown, `has ${reader.sizeBytes - dataBytes} bytes behind its data`, {
      code: "alreadyExists",
      remedies: [{ option: "force", change: "set", to: "replace them" }],
    });
  }
  return dataBytes;
}

/** What is behind a file system may be a tree that was never finished, so it is not taken for data. */
function dataEnd(
  reader: RandomReader,
  isFile: boolean,
  { hashSink, force = false }: FormatVerityOptions,
): number {
  const fileSystemBytes = ext4Bytes(reader);
  const behindBytes = reader.sizeBytes - (fileSystemBytes ?? reader.sizeBytes);
  if (fileSystemBytes === undefined || behindBytes <= 0 || hashSink !== undefined) {
    return reader.sizeBytes;
  }
  // A device is as long as it is; what is behind its file system is free.
  if (force || !isFile) return fileSystemBytes;
  throw new InputError(
    displayPath(reader.name),
    `has ${behindBytes} bytes behind its file system of ${fileSystemBytes} bytes`,
    {
      code: "alreadyExists",
      remedies: [
        { option: "force", change: "set", to: "replace them" },
        { option: "dataBytes", change: "set", to: "hash them too" },
      ],
    },
  );
}

async function hashImage(
  reader: RandomReader,
  dataBytes: number,
  { salt, signal, progress = NO_PROGRESS, workerUrl }: FormatVerityOptions,
): Promise<HashTree> {
  const sink = new TreeSink({ dataBlocks: dataBlocksOf(dataBytes)!, salt, workerUrl });
  if (dataBytes === reader.sizeBytes) {
    try {
      // It knows of holes.
      await readFileInto(reader.name, sink, { signal, progress, task: "verity" });
      return sink.tree;
    } catch (error) {
      await sink.abort();
      throw error;
    }
  }
  const task = progress.begin("verity", dataBytes);
  const buffer = new Uint8Array(PIECE_BYTES);
  try {
    for (let at = 0; at < dataBytes; at += PIECE_BYTES) {
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, dataBytes - at));
      readExactly(reader, piece, at);
      await sink.write(piece, at);
      task.advance(piece.length);
      await setImmediate();
      throwIfAborted(signal);
    }
    await sink.finish(dataBytes);
    return sink.tree;
  } catch (error) {
    await sink.abort();
    throw error;
  } finally {
    task.end();
  }
}

/** Signals wait until the tree is whole: writing it takes a hundredth of the time that hashing took. */
async function appendTree(path: string, tree: HashTree, dataBytes: number): Promise<void> {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r+");
  } catch (cause) {
    throw ioErrorFrom(path, "cannot be opened for writing", cause);
  }
  try {
    if (fstatSync(descriptor).isFile()) ftruncateSync(descriptor, dataBytes);
    await tree.writeLevelsTo(descriptorSink(descriptor), dataBytes);
    fsyncSync(descriptor);
    writeAll(descriptor, tree.superblock, dataBytes);
    fsyncSync(descriptor);
  } catch (cause) {
    cutBack(descriptor, dataBytes);
    if (cause instanceof BlessfsError) throw cause;
    throw ioErrorFrom(path, "cannot take the hash tree", cause);
  } finally {
    closeSync(descriptor);
  }
}

function descriptorSink(descriptor: number): ImageSink {
  return {
    write: (bytes, offset) => writeAll(descriptor, bytes, offset),
    finish: () => {},
    abort: () => {},
  };
}

function writeAll(descriptor: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length;) {
    const count = writeSync(descriptor, bytes, done, bytes.length - done, offset + done);
    invariant(count > 0, "nothing was written");
    done += count;
  }
}

function cutBack(descriptor: number, dataBytes: number): void {
  try {
    if (fstatSync(descriptor).isFile()) ftruncateSync(descriptor, dataBytes);
  } catch {
    // Without a superblock, what is left behind the data is not taken for a tree.
  }
}
