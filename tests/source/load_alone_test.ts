import { assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/io/digest.ts";
import { loadAlone } from "../../lib/source/load_alone.ts";
import { loadedLayer, reportWarnings } from "../../lib/source/loaded_layer.ts";
import { openSourceFile, storedPart } from "../../lib/source/source_file.ts";
import { treeLayer } from "../../lib/source/tar_file.ts";
import type { LayerSource, SourceOptions } from "../../lib/source/types.ts";
import { gzipOf } from "../io/compressed_samples.ts";
import {
  ALWAYS_WORKER,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
} from "./helpers.ts";

/** Runs a test with a layer that lies in a file. */
async function withLayer(
  stored: Uint8Array,
  test: (layer: LayerSource, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const path = join(directory, "layer");
    writeFileSync(path, stored);
    const file = await openSourceFile(path, "a layer", testOptions());
    const { name, sizeBytes } = file;
    await test(treeLayer({ name, sizeBytes, stored: storedPart(file, 0, sizeBytes) }), directory);
    file.file.release();
    assertEquals(openFilesBelow(directory), []);
  });
}

for (const [where, more] of [["in a worker", ALWAYS_WORKER], ["in place", {}]] as const) {
  Deno.test(`loadAlone reads one layer ${where}`, async () => {
    const tar = sampleTar();
    await withLayer(gzipOf(tar), async (layer) => {
      const options = testOptions(more);
      const read = await loadAlone(layer, options);
      assertEquals(read.facts.diffId, digestOf(tar));
      const loaded = loadedLayer(layer, read);
      read.file.release();
      assertEquals(storeBytes(loaded), tar);
      loaded.store.close();
      reportWarnings(read, options.warnings);
      assertEquals(options.warnings.list(), []);
    });
  });

  Deno.test(`loadAlone fails and stops without leaving anything open ${where}`, async () => {
    await withLayer(gzipOf(sampleTar()).subarray(0, 100), async (layer, directory) => {
      await assertRejects(() => loadAlone(layer, testOptions(more)), InputError, "too early");
      assertEquals(openFilesBelow(directory).length, 1);
      const signal = AbortSignal.abort();
      await assertRejects(
        () => loadAlone(layer, testOptions({ ...more, signal })),
        InterruptedError,
      );
      const abort = new AbortController();
      const progress: SourceOptions["progress"] = {
        begin: () => {
          queueMicrotask(() => abort.abort());
          return { advance: () => {}, end: () => {} };
        },
      };
      const options = testOptions({ ...more, signal: abort.signal, progress });
      await assertRejects(() => loadAlone(layer, options));
    });
  });
}
