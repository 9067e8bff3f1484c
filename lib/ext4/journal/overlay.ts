/**
 * Replaces blocks of an image without writing to it.
 *
 * @module
 */
import { firstIndex } from "../../bytes/arithmetic.ts";
import { InputError } from "../../errors.ts";
import { type RandomReader, readExactly } from "../../io/random_reader.ts";

/** Blocks that replace those of an image. */
interface BlockLayer {
  /** The numbers of the replaced blocks in ascending order. */
  readonly blocks: ArrayLike<number>;
  /** Fills `target` with bytes of the replacement of `blocks[index]`, from `offset` in the block on. */
  fill(index: number, target: Uint8Array, offset: number): void;
}

/** A reader of the image with blocks replaced. The size stays the same. */
export function overlayReader(
  image: RandomReader,
  blockSizeBytes: number,
  layer: BlockLayer,
): RandomReader {
  return {
    sizeBytes: image.sizeBytes,
    name: image.name,
    readAt(target, position) {
      const count = image.readAt(target, position);
      const end = position + count;
      const { blocks } = layer;
      let index = firstAtOrAfter(blocks, Math.floor(position / blockSizeBytes));
      for (; index < blocks.length; index++) {
        const start = blocks[index]! * blockSizeBytes;
        if (start >= end) break;
        const from = Math.max(start, position);
        const to = Math.min(start + blockSizeBytes, end);
        layer.fill(index, target.subarray(from - position, to - position), from - start);
      }
      return count;
    },
    close: () => image.close(),
  };
}

/** The first index whose number is at least `value`; the length if none is. */
export function firstAtOrAfter(sorted: ArrayLike<number>, value: number): number {
  return firstIndex(sorted.length, (i) => sorted[i]! >= value);
}

/** Changes blocks of an image in memory. */
export class BlockEditor {
  readonly #image: RandomReader;
  readonly #blockSizeBytes: number;
  readonly #edited = new Map<number, Uint8Array>();

  /** @param image the image to change; nothing is written to it */
  constructor(image: RandomReader, blockSizeBytes: number) {
    this.#image = image;
    this.#blockSizeBytes = blockSizeBytes;
  }

  get editedCount(): number {
    return this.#edited.size;
  }

  /** The current bytes of a block, for reading only. Throws InputError past the end of the image. */
  read(block: number): Uint8Array {
    return this.#edited.get(block) ?? this.#readImage(block);
  }

  /**
   * The bytes of a block for changing: the image reads as whatever the array then holds. Throws InputError past the end
   * of the image.
   */
  edit(block: number): Uint8Array {
    const known = this.#edited.get(block);
    if (known !== undefined) return known;
    const bytes = this.#readImage(block);
    this.#edited.set(block, bytes);
    return bytes;
  }

  /** The image with the changes made so far. */
  reader(): RandomReader {
    if (this.#edited.size === 0) return this.#image;
    const blocks = [...this.#edited.keys()].sort((a, b) => a - b);
    const contents = blocks.map((block) => this.#edited.get(block)!);
    return overlayReader(this.#image, this.#blockSizeBytes, {
      blocks,
      fill: (index, target, offset) =>
        target.set(contents[index]!.subarray(offset, offset + target.length)),
    });
  }

  #readImage(block: number): Uint8Array {
    const position = block * this.#blockSizeBytes;
    const { sizeBytes, name } = this.#image;
    if (!(position + this.#blockSizeBytes <= sizeBytes)) {
      throw new InputError(name, `block ${block} is past the end of its ${sizeBytes} bytes`);
    }
    const bytes = new Uint8Array(this.#blockSizeBytes);
    readExactly(this.#image, bytes, position);
    return bytes;
  }
}
