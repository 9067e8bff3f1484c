import { assertEquals, assertRejects } from "@std/assert";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../../lib/errors.ts";
import { digestOf } from "../../../lib/io/digest.ts";
import { cachedBlobPath } from "../../../lib/source/registry/image.ts";
import type { ImageSpec } from "../build_layout.ts";
import { openAndLoad, sampleTar, storeBytes, withDirectory, withLoaded } from "../helpers.ts";
import { registrySource, TestTiming, withRegistry } from "./fake_registry.ts";

const SPEC: ImageSpec = { layers: [sampleTar(1), sampleTar(2)] };

function options(blobCache: string) {
  return registrySource(new TestTiming(), { blobCache });
}

Deno.test("layers are asked for once, whoever needs them, and are the same from the cache", async () => {
  await withDirectory(async (cache) => {
    await withRegistry(async (registry) => {
      registry.add(SPEC);
      const seen: string[][] = [];
      for (let round = 0; round < 2; round++) {
        await withLoaded(registry.source(), options(cache), (layers) => {
          seen.push(layers.map((layer) => digestOf(storeBytes(layer))));
        });
      }
      assertEquals(seen[0], seen[1]);
      const layers = [...registry.blobs].filter(([digest]) =>
        existsSync(cachedBlobPath(cache, digest)!)
      );
      assertEquals(layers.length, 2);
      for (const [digest, bytes] of layers) {
        assertEquals(registry.asked(digest).length, 1);
        assertEquals(digestOf(readFileSync(cachedBlobPath(cache, digest)!)), digestOf(bytes));
      }
      assertEquals(readdirSync(join(cache, "sha256")).length, 2);
    });
  });
});

Deno.test("a layer that is not what its name says is not kept", async () => {
  await withDirectory(async (cache) => {
    await withRegistry(async (registry) => {
      const { manifest } = registry.add(SPEC);
      const layers = [...registry.blobs].filter(([digest, bytes]) =>
        digest !== manifest.digest && bytes[0] !== 0x7b
      );
      for (const [digest, bytes] of layers) {
        const wrong = Uint8Array.from(bytes);
        wrong[600]! ^= 1;
        registry.blobs.set(digest, wrong);
      }
      await assertRejects(() => openAndLoad(registry.source(), options(cache)), InputError);
      assertEquals(readdirSync(join(cache, "sha256")), []);
    });
  });
});

Deno.test("a cache that cannot be written to is gone without", async () => {
  await withDirectory(async (directory) => {
    const cache = join(directory, "file");
    writeFileSync(cache, "in the way");
    await withRegistry(async (registry) => {
      registry.add(SPEC);
      await withLoaded(
        registry.source(),
        options(cache),
        (layers) => assertEquals(layers.length, 2),
      );
    });
    assertEquals(readFileSync(cache, "utf8"), "in the way");
  });
});
