/**
 * The few calls on files that an output needs, behind an interface so that faults can be put between.
 *
 * @module
 */
import {
  closeSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  openSync,
  renameSync,
  unlinkSync,
  write,
  writeSync,
} from "node:fs";

/** What an output does to the file system. Every call throws the runtime's own error. */
export interface FileOperations {
  /** Creates a file for writing; fails when the name is taken (O_EXCL). */
  openExclusive(path: string): number;
  /** Writes at a position; returns the bytes written, which may be fewer than given. */
  write(descriptor: number, bytes: Uint8Array, position: number): number;
  /** The same without blocking the thread. The bytes stay as they are until it is done. */
  writeBehind(descriptor: number, bytes: Uint8Array, position: number): Promise<number>;
  /** Gives the file its size; what lies beyond the last write is a hole. */
  truncate(descriptor: number, sizeBytes: number): void;
  /** Does not block the thread, so that signals are served meanwhile. */
  sync(descriptor: number): Promise<void>;
  /** Some file systems tell of failed writes only here. */
  close(descriptor: number): void;
  /** Fails when `to` exists, which `rename` does not. */
  link(from: string, to: string): void;
  /** Replaces `to` when it exists. */
  rename(from: string, to: string): void;
  /** Removes a name. */
  unlink(path: string): void;
  /** Brings the names in a directory to the disk. */
  syncDirectory(path: string): void;
}

/** The file system of this machine. */
export const NODE_FILE_OPERATIONS: FileOperations = {
  openExclusive: (path) => openSync(path, "wx"),
  write: (descriptor, bytes, position) => writeSync(descriptor, bytes, 0, bytes.length, position),
  writeBehind: (descriptor, bytes, position) =>
    new Promise((resolve, reject) =>
      write(
        descriptor,
        bytes,
        0,
        bytes.length,
        position,
        (error, count) => error ? reject(error) : resolve(count),
      )
    ),
  truncate: ftruncateSync,
  sync: (descriptor) =>
    new Promise((resolve, reject) =>
      fsync(descriptor, (error) => error ? reject(error) : resolve())
    ),
  close: closeSync,
  link: linkSync,
  rename: renameSync,
  unlink: unlinkSync,
  syncDirectory(path) {
    const descriptor = openSync(path, "r");
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  },
};
