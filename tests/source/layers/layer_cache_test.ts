import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { InputError } from "../../../lib/errors.ts";
import { createLayerCache } from "../../../lib/source/layers/load_layers.ts";
import {
  closeLayers,
  loadLayers,
  openImage,
  type SourceOptions,
} from "../../../lib/source/source.ts";
import type { LayerCache } from "../../../lib/source/types.ts";
import { writeOciLayout } from "../build_layout.ts";
import {
  ALWAYS_WORKER,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
} from "../helpers.ts";

/** Options that count the layers that are read. */
function countingOptions(more: Partial<SourceOptions>): [SourceOptions, string[]] {
  const read: string[] = [];
  const progress = {
    begin: (name: string) => {
      read.push(name);
      return { advance: () => {}, end: () => {} };
    },
  };
  return [testOptions({ ...more, progress }), read];
}

/** The uncompressed layers of an image. */
async function tarsOf(source: string, options: SourceOptions): Promise<Uint8Array[]> {
  const image = await openImage(source, options);
  try {
    const layers = await loadLayers(image, options);
    const tars = layers.map(storeBytes);
    closeLayers(layers);
    return tars;
  } finally {
    image.close();
  }
}

async function announce(cache: LayerCache, source: string, options: SourceOptions): Promise<void> {
  const image = await openImage(source, options);
  cache.announce(image, options);
  image.close();
}

/** Two images with two layers in common, and their tars. */
function writeImages(directory: string): [source: string, tars: Uint8Array[]][] {
  return [3, 4].map((seed) => {
    const layers = [sampleTar(1), sampleTar(2), sampleTar(seed)];
    const path = join(directory, String(seed));
    writeOciLayout(path, { layers });
    return [`oci:${path}`, layers];
  });
}

for (const more of [{}, ALWAYS_WORKER]) {
  const where = more === ALWAYS_WORKER ? "in workers" : "here";

  Deno.test(`layers that images share are read once, one image after the other, ${where}`, async () => {
    await withDirectory(async (directory) => {
      const tmpdir = join(directory, "tmp");
      Deno.mkdirSync(tmpdir);
      const images = writeImages(directory);
      for (const isAnnounced of [false, true]) {
        const layerCache = createLayerCache();
        const [options, read] = countingOptions({ ...more, tmpdir, layerCache });
        if (isAnnounced) {
          for (const [source] of images) await announce(layerCache, source, options);
        }
        for (const [source, tars] of images) assertEquals(await tarsOf(source, options), tars);
        assertEquals(read.length, 4);
        // What no other image has was given back at once.
        if (isAnnounced) assertEquals(openFilesBelow(tmpdir), []);
        layerCache.close();
        assertEquals(openFilesBelow(tmpdir), []);
      }
    });
  });

  Deno.test(`layers that images share are read once, all images at the same time, ${where}`, async () => {
    await withDirectory(async (directory) => {
      const images = writeImages(directory);
      const layerCache = createLayerCache();
      const [options, read] = countingOptions({ ...more, layerCache });
      const all = [...images, ...images, ...images];
      const found = await Promise.all(all.map(([source]) => tarsOf(source, options)));
      assertEquals(found, all.map(([, tars]) => tars));
      assertEquals(read.length, 4);
      layerCache.close();
    });
  });
}

Deno.test("a layer that cannot be read is read again for the next image, and told again", async () => {
  await withDirectory(async (directory) => {
    const changeStored = (stored: Uint8Array) => stored.subarray(0, stored.length - 20);
    writeOciLayout(directory, { layers: [sampleTar(1)], changeStored });
    const layerCache = createLayerCache();
    const [options, read] = countingOptions({ layerCache });
    const both = [1, 2].map(() =>
      assertRejects(() => tarsOf(`oci:${directory}`, options), InputError)
    );
    await Promise.all(both);
    assertEquals(read.length, 2);
    layerCache.close();
  });
});

Deno.test("limits hold for layers that were read before, and other limits read them again", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: [sampleTar(1), sampleTar(2)] });
    const layerCache = createLayerCache();
    const source = `oci:${directory}`;
    const [options, read] = countingOptions({ layerCache });
    const tars = await tarsOf(source, options);
    const unpackedBytes = tars[0]!.length + tars[1]!.length - 1;
    const limited = { ...options, limits: { unpackedBytes } };
    for (const _ of [1, 2]) {
      await assertRejects(() => tarsOf(source, limited), InputError, "inflates to more than");
    }
    assert(read.length >= 4);
    layerCache.close();
  });
});

Deno.test("what has no digest goes past a cache", async () => {
  await withDirectory(async (directory) => {
    const tar = join(directory, "tar");
    Deno.writeFileSync(tar, sampleTar(1));
    const layerCache = createLayerCache();
    const [options, read] = countingOptions({ layerCache });
    for (const _ of [1, 2]) assertEquals(await tarsOf(`tar:${tar}`, options), [sampleTar(1)]);
    assertEquals(read.length, 2);
    layerCache.close();
  });
});
