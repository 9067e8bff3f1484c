/**
 * Inflating zstd with node:zlib, block by block.
 *
 * @module
 */
import * as zlib from "node:zlib";
import { InputError } from "../errors.ts";
import type { Inflater, InflaterOptions } from "./inflater.ts";
import { TransformInflater } from "./inflate_transform.ts";
import { MAX_ZSTD_WINDOW_LOG, ZstdFrameWalker } from "./zstd_frames.ts";

/** Room for what a block inflates to, which is at most 128 KiB. */
const CHUNK_BYTES = 256 << 10;

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
    this.#walker = new ZstdFrameWalker(name);
  }

  async push(piece: Uint8Array): Promise<void> {
    for (const part of this.#walker.walk(piece)) {
      this.#wrote = true;
      await this.#decoder.push(part);
    }
  }

  async end(): Promise<void> {
    this.#walker.end();
    // A decoder that was fed nothing may call that an error; skippable frames alone are none.
    if (this.#wrote) await this.#decoder.end();
  }

  close(): void {
    this.#decoder.close();
  }
}
