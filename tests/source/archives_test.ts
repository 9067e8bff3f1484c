/**
 * Image archives of all kinds: OCI layouts in tars, and what docker save and skopeo write.
 *
 * @module
 */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../../lib/io/digest.ts";
import { InputError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { buildTar, joinBytes, type SimpleEntry } from "../tar/build.ts";
import { gzipOf, HAS_ZSTD, skippableFrame, zstdOf } from "../io/compressed_samples.ts";
import {
  type Blobs,
  buildImage,
  compressLayer,
  type ImageSpec,
  jsonBytes,
  layoutFiles,
  named,
} from "./build_layout.ts";
import {
  ALWAYS_WORKER,
  openAndLoad,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

const TARS = [sampleTar(1), sampleTar(2)];

/** A layout as a tar's entries. */
function layoutEntries(spec: Partial<ImageSpec> = {}, prefix = ""): SimpleEntry[] {
  const blobs: Blobs = new Map();
  const { manifest } = buildImage(blobs, { layers: TARS, ...spec });
  const files = layoutFiles(blobs, { schemaVersion: 2, manifests: [named(manifest, "latest")] });
  const directories = ["", "blobs/", "blobs/sha256/"].map((path) => ({ path: prefix + path }));
  return [
    ...directories.filter(({ path }) => path !== ""),
    ...[...files].map(([path, data]) => ({ path: prefix + path, data })),
  ];
}

/** Old docker save: layers in directories, a repeated one as a link. */
function oldDockerEntries(tags: readonly string[] | null = ["app:1"]): SimpleEntry[] {
  const config = jsonBytes({
    os: "linux",
    architecture: "amd64",
    rootfs: { type: "layers", diff_ids: [...TARS, TARS[0]!].map((tar) => digestOf(tar)) },
  });
  const hex = digestOf(config).slice(7);
  const manifest = [{
    Config: `${hex}.json`,
    RepoTags: tags,
    Layers: ["a", "b", "c"].map((id) => `${id}/layer.tar`),
  }];
  return [
    { path: "a/" },
    { path: "a/VERSION", data: "1.0" },
    { path: "a/layer.tar", data: TARS[0]! },
    { path: "b/layer.tar", data: TARS[1]! },
    { path: "c/layer.tar", link: "../a/layer.tar" },
    { path: `${hex}.json`, data: config },
    { path: "manifest.json", data: jsonBytes(manifest) },
    { path: "repositories", data: "{}" },
  ];
}

/** Writes a tar of entries and hands over its path. */
async function withArchive(
  entries: readonly SimpleEntry[],
  test: (path: string, directory: string) => Promise<void>,
  store: (tar: Uint8Array) => Uint8Array = (tar) => tar,
): Promise<void> {
  await withDirectory(async (directory) => {
    const path = join(directory, "archive");
    writeFileSync(path, store(buildTar(entries)));
    await test(path, directory);
    assertEquals(openFilesBelow(directory), []);
  });
}

/** Loads a source and compares its layers with the tars. */
async function givesTars(source: string, tars: readonly Uint8Array[] = TARS): Promise<void> {
  await withLoaded(source, testOptions(), (layers) => {
    assertEquals(layers.map(({ diffId }) => diffId), tars.map((tar) => digestOf(tar)));
    layers.forEach((layer, i) => assertEquals(storeBytes(layer), tars[i]!));
    assertEquals(layers.every(({ whiteouts }) => whiteouts), true);
  });
}

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

const STORES: readonly (readonly [string, (tar: Uint8Array) => Uint8Array])[] = [
  ["gzip", gzipOf],
  [
    "multi-member gzip",
    (tar) => joinBytes([gzipOf(tar.subarray(0, 999)), gzipOf(tar.subarray(999))]),
  ],
  ...(HAS_ZSTD
    ? [["zstd", (tar: Uint8Array) => joinBytes([skippableFrame(3), zstdOf(tar)])] as const]
    : []),
];

for (const [kind, store] of STORES) {
  Deno.test(`openArchive inflates a ${kind} archive once, to a file without a name`, async () => {
    const test = async (path: string) => {
      await givesTars(`oci-archive:${path}`);
      await givesTars(path);
    };
    await withArchive(layoutEntries(), test, store);
    const dockerTars = [...TARS, TARS[0]!];
    await withArchive(oldDockerEntries(), (path) => givesTars(path, dockerTars), store);
  });
}

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

Deno.test("openArchive refuses an archive that was cut anywhere", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "archive.tar");
    const whole = buildTar(layoutEntries({ layers: [sampleTar()] }));
    writeFileSync(path, whole);
    await givesTars(`oci-archive:${path}`, [sampleTar()]);
    // The end marker and the padding before it may be missing; nothing else may.
    const lastFile = layoutEntries({ layers: [sampleTar()] }).at(-1)!.data as Uint8Array;
    const needed = whole.length - 1024 - 512 + lastFile.length;
    for (let length = 0; length < needed; length += 512) {
      writeFileSync(path, whole.subarray(0, length));
      await assertRejects(() => openAndLoad(`oci-archive:${path}`, testOptions()), InputError);
    }
    writeFileSync(path, whole.subarray(0, needed - 1));
    await assertRejects(() => openAndLoad(`oci-archive:${path}`, testOptions()), InputError);
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("openDockerArchive reads what docker save wrote before version 25", async () => {
  const tars = [...TARS, TARS[0]!];
  await withArchive(oldDockerEntries(), async (path) => {
    for (const reference of ["", ":app:1", ":docker.io/library/app:1", ":@0"]) {
      await givesTars(`docker-archive:${path}${reference}`, tars);
    }
    await givesTars(path, tars);
    await withLoaded(`docker-archive:${path}`, testOptions(), (layers, image) => {
      assertEquals(layers[0]!.entries, layers[2]!.entries);
      assertEquals(image.manifestDigest, undefined);
      assertEquals(image.configDigest?.length, 71);
      assertEquals(image.platform, { os: "linux", architecture: "amd64" });
    });
    const other = () => openImage(`docker-archive:${path}:app:2`, testOptions());
    const error = await assertRejects(other, InputError, `has no image named "app:2"`);
    assertEquals((error as InputError).hint, "name one of: app:1");
  });
  await withArchive(oldDockerEntries(null), (path) => givesTars(`docker-archive:${path}`, tars));
});

Deno.test("openDockerArchive loads a linked layer once", async () => {
  await withArchive(oldDockerEntries(), async (path) => {
    const begun: string[] = [];
    const progress = {
      begin: (name: string) => {
        begun.push(name);
        return { advance: () => {}, end: () => {} };
      },
    };
    await openAndLoad(`docker-archive:${path}`, testOptions({ progress, ...ALWAYS_WORKER }));
    assertEquals(begun.length, 2);
  });
});

Deno.test("openDockerArchive reads compressed layers and hard links", async () => {
  const entries = oldDockerEntries().map((entry): SimpleEntry => {
    if (entry.path === "c/layer.tar") {
      return { path: "c/layer.tar", kind: "hardlink", link: "a/layer.tar" };
    }
    if (entry.path === "a/layer.tar") return { ...entry, data: compressLayer(TARS[0]!, "gzip") };
    return entry;
  });
  await withArchive(entries, (path) => givesTars(path, [...TARS, TARS[0]!]));
});

Deno.test("openDockerArchive refuses links that go round, and layers that are none", async () => {
  const withC = (entry: SimpleEntry) =>
    oldDockerEntries().map((known) => known.path === "c/layer.tar" ? entry : known);
  const refused: readonly [SimpleEntry, string][] = [
    [{ path: "c/layer.tar", link: "../c/layer.tar" }, "links follow one another"],
    [{ path: "c/layer.tar", link: "../nowhere" }, "c/layer.tar: is missing"],
    [{ path: "c/layer.tar", link: "../../../../etc/passwd" }, "c/layer.tar: is missing"],
    [{ path: "c/layer.tar", link: "../a" }, "is no regular file"],
    [{ path: "c/layer.tar", kind: "fifo" }, "is no regular file"],
    [{ path: "c/layer.tar", data: { sizeBytes: 1 << 20, parts: [[0, TARS[0]!]] } }, "sparse"],
    [{ path: "c/layer.tar", data: TARS[1]! }, "its diff id is"],
  ];
  for (const [entry, message] of refused) {
    await withArchive(withC(entry), async (path) => {
      const load = () => openAndLoad(`docker-archive:${path}`, testOptions());
      await assertRejects(load, InputError, message);
    });
  }
});

Deno.test("openDockerArchive refuses a manifest that names the config falsely", async () => {
  const change = (from: RegExp, to: string) =>
    oldDockerEntries().map((entry) => {
      if (entry.path !== "manifest.json") return entry;
      const text = new TextDecoder().decode(entry.data as Uint8Array).replace(from, to);
      return { ...entry, data: new TextEncoder().encode(text) };
    });
  const hex = "0".repeat(64);
  const refused: readonly [SimpleEntry[], string][] = [
    [change(/[0-9a-f]{64}\.json/, `${hex}.json`), `${hex}.json: is missing`],
    [
      [...change(/[0-9a-f]{64}\.json/, `${hex}.json`), { path: `${hex}.json`, data: "{}" }],
      "its digest is",
    ],
    [change(/\["a\/.*?\]/, `["a/layer.tar"]`), "has 1 layers, but its config has 3 diff ids"],
    [change(/\["a\/.*?\]/, `null`), "has 0 layers, but its config has 3 diff ids"],
    [change(/"Config":"[^"]*",/, ""), "[0].Config is missing"],
    [change(/^\[.*\]$/, "[]"), "holds 0 images"],
    [change(/^\[.*\]$/, "{}"), "wanted an array"],
  ];
  for (const [entries, message] of refused) {
    await withArchive(entries, async (path) => {
      const error = await assertRejects(
        () => openImage(`docker-archive:${path}`, testOptions()),
        InputError,
      );
      assertStringIncludes(error.message, message);
    });
  }
});

/** What docker save writes since version 25: both forms over the same blobs. */
function newDockerEntries(spec: Partial<ImageSpec> = {}): SimpleEntry[] {
  const blobs: Blobs = new Map();
  const { manifest, configDigest, layerDigests } = buildImage(blobs, {
    layers: TARS,
    compress: "none",
    ...spec,
  });
  const entry = named(manifest, "1");
  entry.annotations!["io.containerd.image.name"] = "docker.io/library/app:1";
  const blobPath = (digest: string) => `blobs/${digest.replace(":", "/")}`;
  const saved = [{
    Config: blobPath(configDigest),
    RepoTags: ["app:1"],
    Layers: layerDigests.map(blobPath),
  }];
  const files = layoutFiles(blobs, { schemaVersion: 2, manifests: [entry] });
  return [
    ...[...files].map(([path, data]) => ({ path, data })),
    { path: "manifest.json", data: jsonBytes(saved) },
  ];
}

Deno.test("openDockerArchive reads what docker save writes since version 25", async () => {
  await withArchive(newDockerEntries(), async (path) => {
    for (const reference of ["", ":app:1", ":1", ":docker.io/library/app:1"]) {
      await withLoaded(`docker-archive:${path}${reference}`, testOptions(), (layers, image) => {
        assertEquals(layers.map(({ diffId }) => diffId), TARS.map((tar) => digestOf(tar)));
        assertEquals(image.manifestDigest?.startsWith("sha256:"), true);
      });
    }
    await givesTars(path);
    await givesTars(`oci-archive:${path}`);
  });
});

Deno.test("openDockerArchive falls back where Docker 25.0.0 wrote a manifest without layers", async () => {
  const noLayers = newDockerEntries({
    changeManifest: (manifest) => ({ ...manifest, layers: [] }),
  });
  await withArchive(noLayers, async (path) => {
    const only = () => openImage(`oci-archive:${path}`, testOptions());
    await assertRejects(only, InputError, "has 0 layers, but its config has 2 diff ids");
  });
  const both = newDockerEntries();
  const saved = both.at(-1)!;
  const layers = both.filter(({ path }) => path.startsWith("blobs/"));
  const entries = new Map([...layers, ...noLayers, saved].map((entry) => [entry.path, entry]));
  await withArchive([...entries.values()], async (path) => {
    await withLoaded(`docker-archive:${path}`, testOptions(), (loaded, image) => {
      assertEquals(loaded.map(({ diffId }) => diffId), TARS.map((tar) => digestOf(tar)));
      assertEquals(image.manifestDigest, undefined);
    });
    await givesTars(path);
  });
});

Deno.test("openDockerArchive holds blobs of manifest.json against their names", async () => {
  const entries = newDockerEntries()
    .filter(({ path }) => path !== "index.json")
    .map((entry) => entry.data === TARS[1] ? { ...entry, data: TARS[0]! } : entry);
  await withArchive(entries, async (path) => {
    const load = () => openAndLoad(`docker-archive:${path}`, testOptions());
    await assertRejects(load, InputError, "its digest is");
  });
});
