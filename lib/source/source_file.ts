/**
 * The file behind a source: opened once, and from then on only its descriptor counts. What cannot be read at a position,
 * such as a pipe, is copied to a spool first.
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { tmpdir } from "node:os";
import { join, sep } from "node:path";
import { BlessfsError, InputError, IoError, limitError, throwIfAborted } from "../errors.ts";
import { openInputFile, type RandomReader, SharedDescriptor } from "../io/random_reader.ts";
import { realPathOf, statIfThere } from "../io/paths.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../io/spool.ts";
import { displayText } from "./json.ts";
import { DEFAULT_SOURCE_LIMITS, type DocumentLimit } from "./limits.ts";
import type { ResolvedOptions, StoredFile } from "./types.ts";

/** An open file. Whoever has it releases `file`. */
export interface SourceFile {
  /** Safe to print. */
  readonly name: string;
  readonly file: SharedDescriptor;
  readonly sizeBytes: number;
}

/**
 * Opens a file or a block device, or reads a pipe to its end.
 *
 * @param wanted what should be there, for errors, such as `a tar`
 * @throws {InputError} when there is nothing, or a directory or another device
 */
export async function openSourceFile(
  path: string,
  wanted: string,
  options: ResolvedOptions,
): Promise<SourceFile> {
  const name = displayText(path);
  if (statIfThere(path)?.isFIFO()) return await spoolStream(name, createReadStream(path), options);
  const { descriptor, sizeBytes } = openInputFile(path, {
    what: wanted,
    directoryHint: "a directory is written oci:DIR, dir:DIR or rootfs:DIR, after what is in it",
  });
  return { name, file: new SharedDescriptor(descriptor), sizeBytes };
}

/** Reads a stream to its end into an unlinked file, if it is not longer than what layers may inflate to. */
export async function spoolStream(
  name: string,
  stream: AsyncIterable<Uint8Array>,
  options: ResolvedOptions,
): Promise<SourceFile> {
  const directory = options.tmpdir ?? tmpdir();
  const limitBytes = options.limits?.unpackedBytes ?? DEFAULT_SOURCE_LIMITS.unpackedBytes;
  const file = new SharedDescriptor(createUnlinkedFile(directory));
  try {
    const writer = new SpoolWriter(singleFile(file.descriptor, directory));
    const task = options.progress.begin(name);
    try {
      for await (const piece of stream) {
        throwIfAborted(options.signal);
        writer.append(piece);
        if (writer.sizeBytes > limitBytes) throw streamFault(name, limitBytes);
        task.advance(piece.length);
      }
    } finally {
      task.end();
    }
    writer.flush();
    return { name, file, sizeBytes: writer.sizeBytes };
  } catch (error) {
    file.release();
    const code = (error as NodeJS.ErrnoException).code;
    if (code === undefined || error instanceof BlessfsError) throw error;
    throw new IoError(name, `cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** A reader over the whole file, with a share of its own. */
export function fileReader({ name, file, sizeBytes }: SourceFile): RandomReader {
  return file.share().reader(name, 0, sizeBytes);
}

/** A part of an open file as a layer's stored bytes. */
export function storedPart(
  { file }: SourceFile,
  offsetBytes: number,
  lengthBytes: number,
): StoredFile {
  return { kind: "file", offsetBytes, lengthBytes, open: () => file.share() };
}

/**
 * A regular file of at most `limitBytes`, whole.
 *
 * @throws {InputError} when it is longer, or not a regular file
 */
export function readSmallFile(
  path: string,
  limitBytes: number,
  limitName?: DocumentLimit,
): Uint8Array {
  const name = displayText(path);
  if (!statIfThere(path)?.isFile()) {
    throw new InputError(name, "is not a regular file", { code: "wrongKind" });
  }
  const file = SharedDescriptor.openFile(path);
  try {
    const { sizeBytes } = file;
    return readSmallPart({ name, file, sizeBytes }, 0, sizeBytes, limitBytes, limitName);
  } finally {
    file.release();
  }
}

/**
 * A document of a layout in a directory. A link may lead to another file of the layout, and not out of it: it is not for an
 * image to say which file of this machine is read.
 *
 * @throws {InputError} when it leads out, and as {@link readSmallFile} does
 */
export function readDocumentFile(
  directory: string,
  file: string,
  limitBytes: number,
  limitName?: DocumentLimit,
): Uint8Array {
  const path = join(directory, file);
  const root = realPathOf(directory);
  if (!realPathOf(path).startsWith(root.endsWith(sep) ? root : root + sep)) {
    throw new InputError(displayText(path), "is a link to a file outside of the layout");
  }
  return readSmallFile(path, limitBytes, limitName);
}

/** A part of a file, whole, if it is not longer than `limitBytes`. */
export function readSmallPart(
  { name, file }: SourceFile,
  offsetBytes: number,
  lengthBytes: number,
  limitBytes: number,
  limitName?: DocumentLimit,
): Uint8Array {
  if (lengthBytes > limitBytes) throw documentFault(name, lengthBytes, limitBytes, limitName);
  const bytes = new Uint8Array(lengthBytes);
  const reader = file.share().reader(name, offsetBytes, lengthBytes);
  try {
    return bytes.subarray(0, reader.readAt(bytes, 0));
  } finally {
    reader.close();
  }
}

/** The error for a document that is longer than what is read. Without a limit's name, nothing can raise it. */
export function documentFault(
  what: string,
  lengthBytes: number,
  limitBytes: number,
  limitName?: DocumentLimit,
): InputError {
  return limitError(what, `is ${lengthBytes} bytes long: at most ${limitBytes} are read`, {
    name: limitName ?? "documentBytes",
    expected: limitBytes,
    actual: lengthBytes,
    isFixed: limitName === undefined,
  });
}

function streamFault(name: string, limitBytes: number): InputError {
  return limitError(
    name,
    `is longer than ${limitBytes} bytes, which is what layers may inflate to`,
    {
      name: "unpackedBytes",
      expected: limitBytes,
    },
  );
}
