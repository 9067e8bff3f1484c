import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { BlobFiles } from "../../lib/source/blobs.ts";
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

const DIGEST = `sha256:${"a".repeat(64)}`;
const descriptor = (digest: string, sizeBytes: number) => ({
  digest,
  sizeBytes,
  mediaType: "application/x",
  data: undefined,
  urls: [],
  annotations: new Map<string, string>(),
  platform: undefined,
  artifactType: undefined,
});

Deno.test("BlobFiles reads and locates a blob under the name that its digest gives", async () => {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-blobs-"));
  try {
    const blobs = new BlobFiles(
      directory,
      ({ hex }, mediaType) => `${hex.slice(0, 4)}.${mediaType[12]}`,
    );
    assertThrows(() => blobs.locate(descriptor(DIGEST, 3)), InputError, "aaaa");
    writeFileSync(join(directory, "aaaa.x"), "abc");
    assertEquals(new TextDecoder().decode(await blobs.read(descriptor(DIGEST, 3))), "abc");
    const stored = blobs.locate(descriptor(DIGEST, 3));
    assertEquals([stored.kind, stored.kind === "file" && stored.lengthBytes], ["file", 3]);
    assertThrows(() => blobs.locate(descriptor(DIGEST, 4)), InputError, "aaaa.x");
    assertThrows(() => blobs.locate(descriptor("sha256:../../x", 4)), InputError);
    mkdirSync(join(directory, "bbbb.x"));
    const other = descriptor(`sha256:${"b".repeat(64)}`, 3);
    await assertRejects(async () => await blobs.read(other), InputError, "not a regular file");
  } finally {
    rmSync(directory, { recursive: true });
  }
});
