/**
 * What an inflater is: the part that all kinds of compression have in common.
 *
 * @module
 */

/** Takes compressed pieces and hands out what they inflate to. */
export interface Inflater {
  /** Resolves when everything that the piece inflates to has been emitted. The piece may be reused then. */
  push(piece: Uint8Array): Promise<void>;
  /** @throws {InputError} when the stream is not complete */
  end(): Promise<void>;
  /** Frees the decoder. Safe at any time, more than once. */
  close(): void;
}

/** What an inflater is made from. */
export interface InflaterOptions {
  /** What the stream is called in errors. */
  readonly name: string;
  /** Receives inflated bytes in order; they are the receiver's to keep. What it throws comes out of `push`. */
  readonly emit: (bytes: Uint8Array) => void;
}
