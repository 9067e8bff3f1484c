/**
 * Finds the blocks and ends of zstd frames without decoding them (RFC 8878, section 3.1). Some runtimes' decoders stop
 * after the first frame in a write, fail on skippable frames, or accept a truncated stream; and Deno's throws an
 * uncatchable error if it meets damage after the first output buffer of a write. Writing at most one frame at a time (in
 * Deno, one block) and knowing where the last frame ends avoids all four.
 *
 * @module
 */
import { InputError } from "../errors.ts";

const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
/** zstd(1) accepts a window of 128 MiB without --long; a larger one is a way to exhaust memory. */
export const MAX_ZSTD_WINDOW_LOG = 27;

const CONTENT_SIZE_FIELD_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_ID_FIELD_BYTES = [0, 1, 2, 4] as const;
const MAX_BLOCK_BYTES = 1 << 17;

/** What the next bytes are. "field" states gather a few bytes; "content" and "skip" only count. */
type State =
  | "magic"
  | "descriptor"
  | "header"
  | "block"
  | "content"
  | "checksum"
  | "skipSize"
  | "skip";

/** Walks a zstd stream that arrives in pieces of any size. */
export class ZstdFrameWalker {
  readonly #name: string;
  readonly #cutsBlocks: boolean;
  #state: State = "magic";
  readonly #field = new Uint8Array(16);
  #fieldLength = 0;
  #fieldWanted = 4;
  #fieldOffset = 0;
  /** Bytes left in a block or skippable frame. */
  #remaining = 0;
  #lastBlock = false;
  #hasChecksum = false;
  #position = 0;
  #contentBytes: number | undefined;

  /**
   * @param name the stream's name in errors
   * @param cutsBlocks whether each block is to be a separate part
   */
  constructor(name: string, cutsBlocks: boolean) {
    this.#name = name;
    this.#cutsBlocks = cutsBlocks;
  }

  /**
   * Cuts a piece into parts, in order and without skippable frames. No part crosses the end of a frame.
   *
   * @throws {InputError} at anything but a frame, or at one that needs too much memory or a dictionary
   */
  *walk(piece: Uint8Array): Generator<Uint8Array> {
    let start = this.#insideDataFrame ? 0 : -1;
    for (let at = 0; at < piece.length;) {
      const before = this.#state;
      const used = this.#take(piece, at);
      at += used;
      this.#position += used;
      const now = this.#state;
      if (now === before) continue;
      if (before === "magic" && now === "descriptor") {
        // The magic may have been split between two pieces; if so, it is emitted from the field buffer.
        if (at >= 4) start = at - 4;
        else {
          yield this.#field.slice(0, 4);
          start = at;
        }
      } else if (start >= 0 && this.#isPartEnd(before, now)) {
        yield piece.subarray(start, at);
        start = now === "magic" ? -1 : at;
      }
    }
    if (start >= 0 && start < piece.length) yield piece.subarray(start);
  }

  /** @throws {InputError} if the stream ends inside a frame */
  end(): void {
    if (this.isBetweenFrames) return;
    throw new InputError(
      this.#name,
      `the zstd data ends too early: inside a frame at offset ${this.#position}`,
    );
  }

  /** The content size in the last frame header; undefined if it does not state one. */
  get contentBytes(): number | undefined {
    return this.#contentBytes;
  }

  /** Whether the last frame has ended and no other one has begun. */
  get isBetweenFrames(): boolean {
    return this.#state === "magic" && this.#fieldLength === 0;
  }

  get #insideDataFrame(): boolean {
    return this.#state !== "magic" && this.#state !== "skipSize" && this.#state !== "skip";
  }

  /** Consumes bytes from `at` for the current state; returns how many. */
  #take(piece: Uint8Array, at: number): number {
    const available = piece.length - at;
    if (this.#state === "content" || this.#state === "checksum" || this.#state === "skip") {
      const count = Math.min(available, this.#remaining);
      this.#remaining -= count;
      if (this.#remaining === 0) this.#endRun();
      return count;
    }
    if (this.#fieldLength === 0) this.#fieldOffset = this.#position;
    const count = Math.min(available, this.#fieldWanted - this.#fieldLength);
    this.#field.set(piece.subarray(at, at + count), this.#fieldLength);
    this.#fieldLength += count;
    if (this.#fieldLength === this.#fieldWanted) this.#endField();
    return count;
  }

  #endRun(): void {
    if (this.#state !== "content") this.#want("magic", 4);
    else if (!this.#lastBlock) this.#want("block", 3);
    else if (this.#hasChecksum) this.#run("checksum", 4);
    else this.#want("magic", 4);
  }

  #endField(): void {
    switch (this.#state) {
      case "magic":
        return this.#readMagic();
      case "descriptor":
        return this.#readDescriptor();
      case "header":
        return this.#readHeader();
      case "block":
        return this.#readBlock();
      default:
        return this.#run("skip", this.#number(0, 4));
    }
  }

  #readMagic(): void {
    const magic = this.#number(0, 4);
    this.#lastBlock = false;
    if (magic === FRAME_MAGIC) return this.#want("descriptor", 1);
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) return this.#want("skipSize", 4);
    throw new InputError(
      this.#name,
      `no zstd frame at offset ${this.#fieldOffset}: found 0x${
        magic.toString(16).padStart(8, "0")
      }`,
    );
  }

  #readDescriptor(): void {
    const descriptor = this.#field[0]!;
    if ((descriptor & 8) !== 0) {
      throw new InputError(
        this.#name,
        `a reserved bit is set in the zstd frame at offset ${this.#fieldOffset}`,
      );
    }
    const headerBytes = headerFieldBytes(descriptor);
    // The descriptor is kept in front of the fields it describes.
    this.#state = "header";
    this.#fieldWanted = 1 + headerBytes;
    this.#hasChecksum = (descriptor & 4) !== 0;
  }

  #readHeader(): void {
    const descriptor = this.#field[0]!;
    const singleSegment = (descriptor & 0x20) !== 0;
    const dictionaryBytes = DICTIONARY_ID_FIELD_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3];
    const dictionaryAt = singleSegment ? 1 : 2;
    if (this.#number(dictionaryAt, dictionaryBytes) !== 0) {
      throw new InputError(this.#name, "the zstd data needs a dictionary, which is missing", {
        code: "missingPart",
      });
    }
    const contentAt = dictionaryAt + dictionaryBytes;
    const contentFieldBytes = this.#fieldWanted - contentAt;
    // A two-byte field starts counting at 256 (RFC 8878, section 3.1.1.1.4).
    const contentBytes = this.#number(contentAt, contentFieldBytes) +
      (contentFieldBytes === 2 ? 256 : 0);
    this.#contentBytes = contentFieldBytes === 0 ? undefined : contentBytes;
    const windowBytes = singleSegment ? contentBytes : windowSize(this.#field[1]!);
    if (windowBytes > 2 ** MAX_ZSTD_WINDOW_LOG) {
      throw new InputError(
        this.#name,
        `the zstd data needs a window of ${windowBytes} bytes: ` +
          `at most ${2 ** MAX_ZSTD_WINDOW_LOG} are allowed`,
        {
          code: "unsupported",
          hint: "compress it again with a window of at most 128 MiB (2^27 bytes)",
        },
      );
    }
    this.#want("block", 3);
  }

  #readBlock(): void {
    const header = this.#number(0, 3);
    const kind = (header >>> 1) & 3;
    const sizeBytes = header >>> 3;
    if (kind === 3 || sizeBytes > MAX_BLOCK_BYTES) {
      throw new InputError(
        this.#name,
        `the zstd data is damaged: a bad block at offset ${this.#fieldOffset}`,
      );
    }
    this.#lastBlock = (header & 1) !== 0;
    // A block of type 1 (RLE) stores one byte and repeats it.
    this.#run("content", kind === 1 ? 1 : sizeBytes);
  }

  /** Whether a frame has just ended, or (when cutting blocks) a block, including an empty one. */
  #isPartEnd(before: State, now: State): boolean {
    if (now === "magic") return true;
    if (!this.#cutsBlocks) return false;
    return before === "content" || (before === "block" && now !== "content");
  }

  #want(state: State, fieldBytes: number): void {
    this.#state = state;
    this.#fieldLength = 0;
    this.#fieldWanted = fieldBytes;
  }

  #run(state: "content" | "checksum" | "skip", lengthBytes: number): void {
    this.#state = state;
    this.#remaining = lengthBytes;
    if (lengthBytes === 0) this.#endRun();
  }

  /** Reads a little-endian number from the field. */
  #number(offset: number, lengthBytes: number): number {
    let value = 0;
    for (let i = lengthBytes - 1; i >= 0; i--) value = value * 256 + this.#field[offset + i]!;
    return value;
  }
}

/**
 * The frame at the start of some bytes, and its content size if stated; undefined if they do not begin with a whole
 * readable frame.
 */
export function firstZstdFrame(
  bytes: Uint8Array,
): { readonly frameBytes: number; readonly contentBytes: number | undefined } | undefined {
  const walker = new ZstdFrameWalker("frame", false);
  try {
    for (const frame of walker.walk(bytes)) {
      const isFirst = frame.byteOffset === bytes.byteOffset && walker.isBetweenFrames;
      return isFirst ? { frameBytes: frame.length, contentBytes: walker.contentBytes } : undefined;
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
  return undefined;
}

/** How many bytes follow a frame header descriptor (RFC 8878, section 3.1.1.1.1). */
function headerFieldBytes(descriptor: number): number {
  const singleSegment = (descriptor & 0x20) !== 0;
  const contentFlag = (descriptor >>> 6) as 0 | 1 | 2 | 3;
  // Even with a zero flag, a single segment states its size in one byte.
  const contentBytes = contentFlag === 0 && singleSegment
    ? 1
    : CONTENT_SIZE_FIELD_BYTES[contentFlag];
  const dictionaryBytes = DICTIONARY_ID_FIELD_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3];
  return (singleSegment ? 0 : 1) + dictionaryBytes + contentBytes;
}

/** The window size in a window descriptor (RFC 8878, section 3.1.1.1.2). */
function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >>> 3));
  return base + (base / 8) * (descriptor & 7);
}
