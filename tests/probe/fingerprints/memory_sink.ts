/**
 * A sink that keeps what it is given.
 *
 * @module
 */
import type { ImageSink } from "../../../lib/io/sink.ts";

/** The bytes once they are whole. */
export class MemorySink implements ImageSink {
  readonly #pieces: Uint8Array[] = [];
  #sizeBytes = 0;
  /** Undefined until the file is finished. */
  bytes: Uint8Array | undefined;

  write(bytes: Uint8Array, offset: number): void {
    if (offset !== this.#sizeBytes) throw new Error(`wrote at ${offset}, not ${this.#sizeBytes}`);
    this.#pieces.push(bytes.slice());
    this.#sizeBytes += bytes.length;
  }

  finish(sizeBytes: number): void {
    if (sizeBytes !== this.#sizeBytes) throw new Error(`${sizeBytes} of ${this.#sizeBytes} bytes`);
    this.bytes = new Uint8Array(sizeBytes);
    let at = 0;
    for (const piece of this.#pieces) {
      this.bytes.set(piece, at);
      at += piece.length;
    }
  }

  abort(): void {
    this.#pieces.length = 0;
  }
}
