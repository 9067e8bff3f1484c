import { assertEquals, assertRejects } from "@std/assert";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/io/digest.ts";
import { openImage } from "../../lib/source/source.ts";
import { notRun } from "../oracle/notice.ts";
import {
  type Blobs,
  buildImage,
  buildIndex,
  type ImageSpec,
  type JsonDescriptor,
  writeOciLayout,
} from "./build_layout.ts";
import {
  openAndLoad,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

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
