/**
 * Inflating zstd with node:zlib.
 *
 * @module
 */
import { versions } from "node:process";
import * as zlib from "node:zlib";
import { InputError } from "../errors.ts";
import type { Inflater, InflaterOptions } from "./inflater.ts";
import { TransformInflater } from "./inflate_transform.ts";
import { MAX_ZSTD_WINDOW_LOG, ZstdFrameWalker } from "./zstd_frames.ts";

/** Deno's decoder must not meet damage behind its first output of a write: see zstd_frames.ts. */
const WRITES_ONE_BLOCK = "deno" in versions;
/** A block inflates to 128 KiB at most. */
const CHUNK_BYTES = WRITES_ONE_BLOCK ? 256 << 10 : 1 << 20;

/** @throws {InputError} on a runtime whose node:zlib has no zstd */
export function createZstdInflater(options: InflaterOptions): Inflater {
  if (typeof zlib.createZstdDecompress !== "function") {
    throw new InputError(options.name, "is compressed with zstd, which this runtime cannot read", {
      hint: "use Deno, Bun, or Node 22.15 or later, or compress it with gzip",
    });
  }
  const decoder = zlib.createZstdDecompress({
    chunkSize: CHUNK_BYTES,
    params: { [zlib.constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG },
  });
  return new ZstdInflater(new TransformInflater(decoder, "zstd", options), options.name);
}

class ZstdInflater implements Inflater {
  readonly #decoder: TransformInflater;
  readonly #walker: ZstdFrameWalker;
  #wrote = false;

  constructor(decoder: TransformInflater, name: string) {
    this.#decoder = decoder;
    this.#walker = new ZstdFrameWalker(name, WRITES_ONE_BLOCK);
  }

  async push(piece: Uint8Array): Promise<void> {
    await this.#inOrder(async () => {
      for (const part of this.#walker.walk(piece)) {
        this.#wrote = true;
        await this.#decoder.push(part);
      }
    });
  }

  async end(): Promise<void> {
    await this.#inOrder(async () => {
      this.#walker.end();
      // A decoder that was fed nothing may call that an error; skippable frames alone are none.
      if (this.#wrote) await this.#decoder.end();
    });
  }

  close(): void {
    this.#decoder.close();
  }

  /** The walker is ahead of the decoder: what is wrong with bytes that came out comes before what it finds. */
  async #inOrder(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      this.#decoder.emitHeldBack();
      throw error;
    }
  }
}
