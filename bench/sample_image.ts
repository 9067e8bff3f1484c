/**
 * An image to measure with where no real one is given: three gzip layers of files whose sizes and bytes come from a
 * seeded generator, half of each file compressible.
 *
 * @module
 */
import type { SimpleEntry } from "../tests/tar/build.ts";
import { buildTar } from "../tests/tar/build.ts";
import { writeOciLayout } from "../tests/source/build_layout.ts";

const LAYER_COUNT = 3;
const FILES_PER_LAYER = 2000;
/** Most files are small and a few large, as in container images. */
const SIZE_STEPS_BYTES = [300, 2_000, 4_096, 9_000, 20_000, 70_000, 400_000];

/** Writes the image as an OCI layout into a directory. */
export function writeSampleImage(directory: string): void {
  const layers: Uint8Array[] = [];
  for (let layer = 0; layer < LAYER_COUNT; layer++) {
    const entries: SimpleEntry[] = [{ path: `layer${layer}/`, kind: "directory" }];
    for (let file = 0; file < FILES_PER_LAYER; file++) {
      const step = SIZE_STEPS_BYTES[file % SIZE_STEPS_BYTES.length]!;
      const path = `layer${layer}/file${file}`;
      entries.push({ path, data: sampleBytes(layer * FILES_PER_LAYER + file + 1, step + file) });
    }
    layers.push(buildTar(entries));
  }
  writeOciLayout(directory, { layers });
}

/** xorshift32 words, every second one a repeat of the seed. */
function sampleBytes(seed: number, sizeBytes: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(sizeBytes / 4));
  let state = seed;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = i % 2 === 0 ? state : seed;
  }
  return new Uint8Array(words.buffer, 0, sizeBytes);
}
