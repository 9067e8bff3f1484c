/**
 * Where an image goes. The writer calls `write` in ascending order, never twice for the same byte; what is skipped is
 * a hole and reads as zeros.
 *
 * @module
 */

/** Takes an image in one ascending pass. */
export interface ImageSink {
  /**
   * Writes bytes, which may be used again once it is done.
   *
   * @param offset at or after the end of the write before
   */
  write(bytes: Uint8Array, offset: number): void | Promise<void>;
  /** Ends the image at `sizeBytes` and makes it visible under its name. */
  finish(sizeBytes: number): void | Promise<void>;
  /** Drops everything written so far. Safe to call at any time, also after `finish` failed. */
  abort(): void | Promise<void>;
}
