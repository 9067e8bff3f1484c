/**
 * Cuts files as they are: disk images of any kind, whoever made them.
 *
 * @module
 */
import { byteStringFromText, displayName } from "../lib/bytes/byte_string.ts";
import { InputError, throwIfAborted } from "../lib/errors.ts";
import { openFileReader, readExactly } from "../lib/io/random_reader.ts";
import type { ImageSink } from "../lib/io/sink.ts";
import { cutterOf, cutTogether } from "./cutters.ts";
import type { ProbeOptions } from "./options.ts";
import type { ProbeStores } from "./stores.ts";

/** A multiple of every grid. */
const PIECE_BYTES = 4 * 1024 * 1024;

/**
 * Cuts one file: into the stores, or with cutters of the caller's.
 *
 * @param source a path, or `ext4:` and a path
 */
export async function measureFile(
  source: string,
  options: ProbeOptions,
  target: { readonly stores: ProbeStores } | { readonly cutters: readonly ImageSink[] },
): Promise<void> {
  const path = source.startsWith("ext4:") ? source.slice("ext4:".length) : source;
  const name = displayName(byteStringFromText(path));
  const reader = openFileReader(path, {
    what: "a disk image or any file",
    directoryHint: "a tree is measured as the image that is made of it, not as it is",
  });
  try {
    const { sizeBytes } = reader;
    if (sizeBytes === 0) throw new InputError(name, "is empty: wanted a disk image or any file");
    if ("cutters" in target) {
      await cutReader(reader, cutTogether(target.cutters, options), name, options);
      return;
    }
    const collected = target.stores.measured.map(({ scheme, store }) => {
      const collector = store.beginImage();
      collector.addSize(sizeBytes, 0);
      return { collector, cutter: cutterOf(scheme, collector, target.stores) };
    });
    const pauses = { sizes: target.stores.sizes, signal: options.signal };
    const cutters = cutTogether(collected.map(({ cutter }) => cutter), pauses);
    await cutReader(reader, cutters, name, options);
    for (const { collector } of collected) collector.finish();
  } finally {
    reader.close();
  }
}

async function cutReader(
  reader: ReturnType<typeof openFileReader>,
  sink: ImageSink,
  name: string,
  options: ProbeOptions,
): Promise<void> {
  const { sizeBytes } = reader;
  const task = options.progress.begin(`cut ${name}`, sizeBytes);
  const buffer = new Uint8Array(PIECE_BYTES);
  for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - at));
    readExactly(reader, piece, at);
    await sink.write(piece, at);
    task.advance(piece.length);
    throwIfAborted(options.signal);
  }
  await sink.finish(sizeBytes);
  task.end();
}
