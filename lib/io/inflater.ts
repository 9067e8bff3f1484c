/**
 * What an inflater is: the part that all kinds of compression have in common.
 *
 * @module
 */

/** Takes compressed pieces and hands out what they inflate to. */
export interface Inflater {
  /** Resolves when the piece may be reused. The last of what it inflates to may be emitted only at the next call. */
  push(piece: Uint8Array): Promise<void>;
  /** Resolves when everything has been emitted. @throws {InputError} when the stream is not complete */
  end(): Promise<void>;
  /** Frees the decoder. Safe at any time, more than once. */
  close(): void;
}

/** What an inflater is made from. */
export interface InflaterOptions {
  /** What the stream is called in errors. */
  readonly name: string;
  /** Receives inflated bytes in order, which are valid until it returns. What it throws comes out of `push` or `end`. */
  readonly emit: (bytes: Uint8Array) => void;
}
