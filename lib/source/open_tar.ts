/**
 * A tar with the bytes of its files.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import type { BytesSource } from "../io/streams.ts";
import { payloadStream, readPayload } from "../model/payload.ts";
import type { TarEntry } from "../tar/entry.ts";
import { type LoadedLayer, loadLayers, openImage, type SourceOptions } from "./source.ts";

/** An open tar. */
export interface OpenedTar extends Disposable {
  /** In the tar's order. */
  readonly entries: readonly TarEntry[];
  /** The bytes of a file, zeros for holes; nothing for what is no file. The tar must stay open meanwhile. */
  stream(entry: TarEntry): ReadableStream<Uint8Array<ArrayBuffer>>;
  /** The same at once, for small files. */
  bytes(entry: TarEntry): Uint8Array<ArrayBuffer>;
  /** Closes what it holds open. */
  close(): void;
}

/**
 * Opens a tar, plain or compressed with gzip, zstd or xz: a file, memory, a stream. It is read once, and kept in a temporary
 * file unless it is a plain file.
 *
 * @throws {InputError} when it is something else, or damaged
 * @throws {IoError} when it cannot be read, or the temporary file not be written
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openTar } from "@blessfs/blessfs";
 *
 * using tar = await openTar("fixtures/tar/gnu-v7.tar");
 * const file = tar.entries.find(({ path }) => path === "simple/dir/file")!;
 * assertEquals(await new Response(tar.stream(file)).text(), "a file in a directory\n");
 * ```
 */
export async function openTar(
  source: BytesSource,
  options: SourceOptions = {},
): Promise<OpenedTar> {
  const { entries, store } = await loadTar(source, options);
  const payloadOf = ({ payload }: TarEntry) => ({ ...NOTHING, ...payload, store });
  return {
    entries,
    stream: (entry) => payloadStream(payloadOf(entry)),
    bytes(entry) {
      const payload = payloadOf(entry);
      const bytes = new Uint8Array(payload.sizeBytes);
      readPayload(payload, bytes, 0);
      return bytes;
    },
    close: () => store.close(),
    [Symbol.dispose]: () => store.close(),
  };
}

/** Its one layer. Node 22 knows no `using`. */
async function loadTar(source: BytesSource, options: SourceOptions): Promise<LoadedLayer> {
  const image = await openImage(typeof source === "string" ? `tar:${source}` : source, options);
  try {
    if (image.kind !== "tar") {
      throw new InputError("the given bytes", `are ${image.kind}: wanted a tar`, {
        code: "wrongKind",
      });
    }
    const [layer] = await loadLayers(image, options);
    return layer!;
  } finally {
    image.close();
  }
}

const NOTHING = { sizeBytes: 0, segments: [], dataRuns: [], contentHash: 0 };
