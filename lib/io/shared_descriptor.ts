/**
 * An open file that several readers share. The last to release it closes it.
 *
 * @module
 */
import { closeSync, fstatSync, openSync } from "node:fs";
import { invariant, IoError } from "../errors.ts";
import { descriptorReader, type RandomReader } from "./random_reader.ts";

/** A descriptor with a count of those who use it. Whoever makes it holds the first share. */
export class SharedDescriptor {
  readonly #descriptor: number;
  #shares = 1;

  /**
   * Takes a descriptor over.
   *
   * @param descriptor open; it belongs to this object from now on
   */
  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /**
   * Opens a file for reading.
   *
   * @throws {IoError} when the file cannot be opened
   */
  static openFile(path: string): SharedDescriptor {
    try {
      return new SharedDescriptor(openSync(path, "r"));
    } catch (cause) {
      throw new IoError(path, `cannot be opened: ${(cause as Error).message}`, { cause });
    }
  }

  /** The descriptor, to read from while a share is held. */
  get descriptor(): number {
    invariant(this.#shares > 0, "a descriptor is used after its last release");
    return this.#descriptor;
  }

  /** The file's size now. */
  get sizeBytes(): number {
    return fstatSync(this.descriptor).size;
  }

  /** Takes one more share. */
  share(): SharedDescriptor {
    invariant(this.#shares > 0, "a descriptor is shared after its last release");
    this.#shares++;
    return this;
  }

  /** Gives a share back. */
  release(): void {
    invariant(this.#shares > 0, "a descriptor is released more often than it is shared");
    this.#shares--;
    if (this.#shares === 0) closeSync(this.#descriptor);
  }

  /**
   * A reader over a part of the file. It takes over one share, which its `close` gives back; closing it twice is
   * harmless.
   */
  reader(name: string, offsetBytes: number, lengthBytes: number): RandomReader {
    const whole = descriptorReader(this.descriptor, name, offsetBytes + lengthBytes);
    let open = true;
    return {
      name,
      sizeBytes: lengthBytes,
      readAt: (target, position) => {
        const available = Math.max(0, Math.min(target.length, lengthBytes - position));
        return whole.readAt(target.subarray(0, available), offsetBytes + position);
      },
      close: () => {
        if (open) this.release();
        open = false;
      },
    };
  }
}
