import { assertEquals, assertRejects } from "@std/assert";
import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { openImage, type SourceOptions } from "../../lib/source/source.ts";
import { writeOciLayout } from "./build_layout.ts";
import { LAYERS, manifest } from "./build_wrong.ts";
import { storeBytes, testOptions, withDirectory, withLoaded } from "./helpers.ts";

Deno.test("openImage reads blobs that their descriptors carry", async () => {
  await withDirectory(async (directory) => {
    const blob = (digest: string) => join(directory, "blobs", digest.replace(":", "/"));
    const dataOf = (digest: string) => readFileSync(blob(digest)).toString("base64");
    const plain = writeOciLayout(directory, { layers: LAYERS });
    const carried = writeOciLayout(directory, {
      layers: LAYERS,
      ...manifest((m) => {
        m.config["data"] = dataOf(plain.configDigest);
        m.layers[0]!["data"] = dataOf(plain.layerDigests[0]!);
      }),
    });
    rmSync(blob(carried.configDigest));
    rmSync(blob(carried.layerDigests[0]!));
    await withLoaded(`oci:${directory}`, testOptions(), ([layer], image) => {
      assertEquals(image.platform, { os: "linux", architecture: "amd64" });
      assertEquals(layer!.digest, carried.layerDigests[0]!);
      assertEquals(storeBytes(layer!), LAYERS[0]!);
    });
  });
});

Deno.test("openImage keeps to the limits of documents", async () => {
  await withDirectory(async (directory) => {
    const image = writeOciLayout(directory, { layers: LAYERS });
    const { size } = image.manifest;
    const open = (limits: NonNullable<SourceOptions["limits"]>) =>
      openImage(`oci:${directory}`, testOptions({ limits }));
    (await open({ manifestBytes: size })).close();
    await assertRejects(() => open({ manifestBytes: size - 1 }), InputError, "at most");
    const configBytes =
      statSync(join(directory, "blobs", image.configDigest.replace(":", "/"))).size;
    (await open({ configBytes })).close();
    await assertRejects(() => open({ configBytes: configBytes - 1 }), InputError, "at most");
  });
});
