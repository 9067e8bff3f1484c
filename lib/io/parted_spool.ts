/**
 * A spool of several unlinked files, each of which can be freed once nothing more is read from it: the image that is
 * written meanwhile then takes their space, and of memory the very pages that they had.
 *
 * @module
 */
import { invariant } from "../errors.ts";
import { partAt, type RandomReader, type ReaderParts } from "./random_reader.ts";
import { SharedDescriptor } from "./shared_descriptor.ts";
import { createUnlinkedFile, type SpoolTarget } from "./spool.ts";

/** How a spool is cut. */
export interface SpoolParts {
  readonly partCount: number;
  /** The length of each but the last, which takes all the rest. */
  readonly partBytes: number;
}

/** A spool with a count of those who use it. Whoever makes it holds the first share. */
export class PartedSpool {
  readonly #parts: readonly SharedDescriptor[];
  readonly #partBytes: number;
  readonly #directory: string;

  /**
   * Makes the parts, which are empty.
   *
   * @param directory where the parts lie without a name
   * @throws {IoError} when the directory is missing, full or not writable
   */
  constructor(directory: string, { partCount, partBytes }: SpoolParts) {
    invariant(partCount > 0 && partBytes > 0, "a spool has a part, and the part some room");
    const parts: SharedDescriptor[] = [];
    this.#parts = parts;
    this.#partBytes = partBytes;
    this.#directory = directory;
    try {
      while (parts.length < partCount) {
        parts.push(new SharedDescriptor(createUnlinkedFile(directory)));
      }
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** For who writes it. */
  get target(): SpoolTarget {
    return {
      descriptors: this.#parts.map(({ descriptor }) => descriptor),
      partBytes: this.#partBytes,
      directory: this.#directory,
    };
  }

  /** Takes one more share. */
  share(): PartedSpool {
    for (const part of this.#parts) part.share();
    return this;
  }

  /** Gives a share back. */
  release(): void {
    for (const part of this.#parts) part.release();
  }

  /**
   * A reader over the first `lengthBytes`, with the signature of a file's. It takes over one share, which its `close`
   * gives back; closing it twice is harmless. Its parts can be given back before.
   */
  reader(name: string, offsetBytes: number, lengthBytes: number): RandomReader {
    invariant(offsetBytes === 0, "a spool is read from its start");
    const partBytes = this.#partBytes;
    const lastPart = this.#parts.length - 1;
    const readers = this.#parts.map((part, i) =>
      part.reader(name, 0, Math.max(0, i === lastPart ? lengthBytes - i * partBytes : partBytes))
    );
    const isReleased = readers.map(() => false);
    const parts: ReaderParts = {
      count: readers.length,
      partBytes,
      release: (index) => {
        readers[index]!.close();
        isReleased[index] = true;
      },
    };
    return {
      name,
      sizeBytes: lengthBytes,
      parts,
      readAt(target, position) {
        const wanted = target.subarray(0, Math.max(0, lengthBytes - position));
        for (let done = 0; done < wanted.length;) {
          const at = position + done;
          const part = partAt(parts, at);
          const inPart = at - part * partBytes;
          const end = part === lastPart
            ? wanted.length
            : Math.min(wanted.length, done + partBytes - inPart);
          // Who reads ahead may come to what was given back.
          if (isReleased[part]) return done;
          const count = readers[part]!.readAt(wanted.subarray(done, end), inPart);
          if (count === 0) return done;
          done += count;
        }
        return wanted.length;
      },
      close: () => {
        for (const reader of readers) reader.close();
      },
    };
  }
}
