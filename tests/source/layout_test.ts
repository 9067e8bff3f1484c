import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { openImage, type SourceOptions } from "../../lib/source/source.ts";
import { notRun } from "../oracle/notice.ts";
import { buildTar } from "../tar/build.ts";
import { givesTars, layoutEntries, withArchive } from "./build_archives.ts";
import {
  type Blobs,
  buildImage,
  buildIndex,
  compressLayer,
  type ImageSpec,
  type JsonDescriptor,
  type LayoutSpec,
  writeOciLayout,
} from "./build_layout.ts";
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

const TAR = sampleTar();

/** Writes what skopeo writes for `dir:`. `manifests` are the digests of those below an index. */
function writeDir(
  directory: string,
  build: (blobs: Blobs) => JsonDescriptor,
  manifests: readonly string[] = [],
): JsonDescriptor {
  const blobs: Blobs = new Map();
  const root = build(blobs);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "version"), "Directory Transport Version: 1.1\n");
  for (const [digest, bytes] of blobs) {
    const hex = digest.slice(7);
    const name = digest === root.digest
      ? "manifest.json"
      : manifests.includes(digest)
      ? `${hex}.manifest.json`
      : hex;
    writeFileSync(join(directory, name), bytes);
  }
  return root;
}

const single = (spec: Partial<ImageSpec> = {}) => (blobs: Blobs) =>
  buildImage(blobs, { layers: [TAR], ...spec }).manifest;

Deno.test("openDirTransport reads what skopeo writes", async () => {
  await withDirectory(async (directory) => {
    const root = writeDir(directory, single());
    for (const source of [`dir:${directory}`, directory]) {
      await withLoaded(source, testOptions(), ([layer], image) => {
        assertEquals(image.kind, "dir");
        assertEquals(image.manifestDigest, root.digest);
        assertEquals(storeBytes(layer!), TAR);
      });
    }
  });
});

Deno.test("openDirTransport tells a manifest without a media type by its fields", async () => {
  await withDirectory(async (directory) => {
    const changeManifest: NonNullable<ImageSpec["changeManifest"]> = (manifest) => {
      delete manifest.mediaType;
      return manifest;
    };
    writeDir(directory, single({ changeManifest }));
    await withLoaded(`dir:${directory}`, testOptions(), ([layer]) => {
      assertEquals(layer!.diffId, digestOf(TAR));
    });
  });
});

Deno.test("openDirTransport chooses from an index that was copied whole", async () => {
  await withDirectory(async (directory) => {
    const tars = new Map([["amd64", sampleTar(1)], ["arm64", sampleTar(2)]]);
    const manifests: string[] = [];
    const build = (blobs: Blobs) => {
      const entries = [...tars].map(([architecture, tar]) => {
        const platform = { os: "linux", architecture };
        const { manifest } = buildImage(blobs, { layers: [tar], platform });
        manifests.push(manifest.digest);
        return { ...manifest, platform };
      });
      return buildIndex(blobs, entries);
    };
    build(new Map());
    writeDir(directory, build, manifests);
    for (const [architecture, tar] of tars) {
      const options = testOptions({ platform: `linux/${architecture}` });
      await withLoaded(`dir:${directory}`, options, ([layer], image) => {
        assertEquals(image.platform?.architecture, architecture);
        assertEquals(layer!.diffId, digestOf(tar));
      });
    }
  });
});

Deno.test("openDirTransport names what is missing", async () => {
  await withDirectory(async (directory) => {
    const open = () => openImage(`dir:${directory}`, testOptions());
    await assertRejects(open, InputError, "manifest.json is missing");
    const nowhere = () => openImage(`dir:${directory}/none`, testOptions());
    await assertRejects(nowhere, InputError, "does not exist");
    const blobs: Blobs = new Map();
    const image = buildImage(blobs, { layers: [TAR] });
    for (const digest of [image.configDigest, image.layerDigests[0]!]) {
      writeDir(directory, single());
      rmSync(join(directory, digest.slice(7)));
      await assertRejects(open, InputError, `the blob ${digest} is missing`);
    }
  });
});

Deno.test("openDirTransport and the archives agree with skopeo itself", async () => {
  const skopeo = (from: string, to: string, ...more: string[]) =>
    execFileSync("skopeo", ["--insecure-policy", "copy", "-q", ...more, from, to], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  await withDirectory(async (directory) => {
    const layout = join(directory, "layout");
    mkdirSync(layout);
    const tars = [sampleTar(1), sampleTar(2), sampleTar(1)];
    writeOciLayout(layout, { layers: tars });
    const to = (name: string) => join(directory, name);
    try {
      skopeo(`oci:${layout}:latest`, `dir:${to("dir")}`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      return notRun("what skopeo writes", "skopeo is missing");
    }
    skopeo(`oci:${layout}:latest`, `dir:${to("docker")}`, "--format", "v2s2");
    skopeo(`oci:${layout}:latest`, `oci-archive:${to("oa")}:name`);
    skopeo(`oci:${layout}:latest`, `docker-archive:${to("da")}:example.org/app:2`);
    const sources = [
      `dir:${to("dir")}`,
      `dir:${to("docker")}`,
      `oci-archive:${to("oa")}:name`,
      `docker-archive:${to("da")}:example.org/app:2`,
      to("dir"),
      to("oa"),
      to("da"),
    ];
    for (const source of sources) {
      await withLoaded(source, testOptions(), (layers) => {
        assertEquals(layers.map(({ diffId }) => diffId), tars.map((tar) => digestOf(tar)), source);
      });
    }
    const other = () => openAndLoad(`docker-archive:${to("da")}:app:2`, testOptions());
    await assertRejects(other, InputError, "has no image named");
  });
});
