import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/io/digest.ts";
import { openImage, type SourceOptions } from "../../lib/source/source.ts";
import { buildTar } from "../tar/build.ts";
import { givesTars, layoutEntries, withArchive } from "./build_archives.ts";
import { compressLayer, type LayoutSpec, writeOciLayout } from "./build_layout.ts";
import { LAYERS, manifest } from "./build_wrong.ts";
import {
  ALWAYS_WORKER,
  openAndLoad,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

Deno.test("openImage refuses a layout of another version", async () => {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: LAYERS });
    const marker = join(directory, "oci-layout");
    const open = () => openImage(`oci:${directory}`, testOptions());
    writeFileSync(marker, `{"imageLayoutVersion":"2.0.0"}`);
    await assertRejects(open, InputError, `imageLayoutVersion is "2.0.0": wanted "1.0.0"`);
    writeFileSync(marker, `{}`);
    await assertRejects(open, InputError, "imageLayoutVersion is missing");
    writeFileSync(marker, `{"imageLayoutVersion":"1.0.0","more":1}`);
    const image = await open();
    assertEquals(image.kind, "oci");
    image.close();
  });
});

for (const compress of ["none", "gzip", "zstd"] as const) {
  for (const [where, more] of [["in a worker", ALWAYS_WORKER], ["in place", {}]] as const) {
    Deno.test(`loadLayers reads a ${compress} layer of a layout ${where}`, async () => {
      await withDirectory(async (directory) => {
        const tars = [sampleTar(1), sampleTar(2)];
        const built = writeOciLayout(directory, { layers: tars, compress });
        await withLoaded(`oci:${directory}:latest`, testOptions(more), (layers, image) => {
          assertEquals(image.manifestDigest, built.manifest.digest);
          assertEquals(image.configDigest, built.configDigest);
          assertEquals(image.platform, { os: "linux", architecture: "amd64" });
          layers.forEach((layer, i) => {
            assertEquals(layer.diffId, built.diffIds[i]!);
            assertEquals(layer.digest, built.layerDigests[i]!);
            assertEquals(layer.whiteouts, true);
            assertEquals(layer.uncompressedBytes, tars[i]!.length);
            assertEquals(storeBytes(layer), tars[i]!);
            assertEquals(layer.entries.map(({ path }) => path), [
              "etc/",
              "etc/name",
              `big-${i + 1}`,
              "link",
            ]);
            assertEquals(layer.entries[1]!.xattrs[0]!.value, new Uint8Array([0x31 + i]));
          });
        });
      });
    });
  }
}

/** Opens and loads a layout that must be refused, and returns the message. */
async function refused(
  spec: LayoutSpec,
  damage: (directory: string, digests: readonly string[]) => void = () => {},
): Promise<string> {
  return await withDirectory(async (directory) => {
    const built = writeOciLayout(directory, spec);
    damage(directory, [built.manifest.digest, built.configDigest, ...built.layerDigests]);
    const error = await assertRejects(
      () => openAndLoad(`oci:${directory}`, testOptions()),
      InputError,
    );
    return error.message;
  });
}

function blobPath(directory: string, digest: string): string {
  return join(directory, "blobs", digest.replace(":", "/"));
}

Deno.test("openImage refuses a directory that is no layout", async () => {
  await withDirectory(async (directory) => {
    const open = () => openImage(`oci:${directory}`, testOptions());
    await assertRejects(open, InputError, "is not an OCI image layout");
  });
});

Deno.test("openImage refuses a directory that is not there, and a file", async () => {
  await withDirectory(async (directory) => {
    const file = join(directory, "file");
    writeFileSync(file, "");
    const missing = () => openImage(`oci:${directory}/none:latest`, testOptions());
    await assertRejects(missing, InputError, "does not exist");
    await assertRejects(
      () => openImage(`oci:${file}`, testOptions()),
      InputError,
      "not a directory",
    );
  });
});

Deno.test("openImage names a missing blob", async () => {
  const layers = [sampleTar()];
  for (const which of [0, 1, 2]) {
    let digest = "";
    const message = await refused({ layers }, (directory, digests) => {
      digest = digests[which]!;
      rmSync(blobPath(directory, digest));
    });
    assertStringIncludes(message, `the blob ${digest} is missing`);
  }
});

Deno.test("openImage names a blob whose size differs", async () => {
  for (const which of [0, 1, 2]) {
    const message = await refused({ layers: [sampleTar()] }, (directory, digests) => {
      truncateSync(blobPath(directory, digests[which]!), 10);
    });
    assertStringIncludes(message, "its size is 10 bytes: wanted ");
  }
});

Deno.test("loadLayers names a layer whose digest differs", async () => {
  const tar = sampleTar();
  const stored = compressLayer(tar, "gzip");
  const changed = stored.slice();
  changed[100]! ^= 1;
  const message = await refused({ layers: [tar] }, (directory, digests) => {
    writeFileSync(blobPath(directory, digests[2]!), changed);
  });
  assertStringIncludes(message, `its digest is ${digestOf(changed)}: wanted ${digestOf(stored)}`);
});

Deno.test("loadLayers names a layer whose diff id differs", async () => {
  const wanted = digestOf(sampleTar(2));
  const message = await refused({
    layers: [sampleTar(1)],
    changeConfig: (config) => ({ ...config, rootfs: { type: "layers", diff_ids: [wanted] } }),
  });
  assertStringIncludes(message, `its diff id is ${digestOf(sampleTar(1))}: wanted ${wanted}`);
});

Deno.test("loadLayers accepts a wrong diff id with a warning when told to", async () => {
  await withDirectory(async (directory) => {
    const wanted = digestOf(buildTar([]));
    writeOciLayout(directory, {
      layers: [sampleTar(1)],
      changeConfig: (config) => ({ ...config, rootfs: { type: "layers", diff_ids: [wanted] } }),
    });
    const options = testOptions({ verifyDiffIds: false });
    await openAndLoad(`oci:${directory}`, options);
    assertEquals(options.warnings.list().map(({ kind }) => kind), ["diffIdMismatch"]);
  });
});

Deno.test("openOciArchive reads a layout in a tar, whatever its order and prefix", async () => {
  for (const compress of ["none", "gzip"] as const) {
    for (const prefix of ["", "./", "/"]) {
      const entries = layoutEntries({ compress }, prefix);
      for (const order of [entries, [...entries].reverse()]) {
        await withArchive(order, async (path) => {
          await givesTars(`oci-archive:${path}`);
          await givesTars(`oci-archive:${path}:latest`);
          await givesTars(path);
        });
      }
    }
  }
});

Deno.test("openOciArchive names what is missing", async () => {
  const entries = layoutEntries();
  for (const name of ["index.json", "oci-layout"]) {
    await withArchive(entries.filter(({ path }) => path !== name), async (path) => {
      const open = () => openImage(`oci-archive:${path}`, testOptions());
      await assertRejects(open, InputError, name);
    });
  }
  const blob = entries.findIndex(({ path }) =>
    path.startsWith("blobs/sha256/") && path.length > 20
  );
  await withArchive(entries.toSpliced(blob, 1), async (path) => {
    const load = () => openAndLoad(`oci-archive:${path}`, testOptions());
    await assertRejects(load, InputError, "is missing");
  });
});

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

Deno.test("openImage refuses a blob that is not a file", async () => {
  await withDirectory(async (directory) => {
    const { layerDigests } = writeOciLayout(directory, { layers: LAYERS });
    const blob = join(directory, "blobs", layerDigests[0]!.replace(":", "/"));
    rmSync(blob);
    mkdirSync(blob);
    const open = () => openImage(`oci:${directory}`, testOptions());
    await assertRejects(open, InputError, `${blob}: is not a regular file: wanted a blob`);
  });
});
