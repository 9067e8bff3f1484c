/**
 * Indexes, manifests and configs that are wrong, one thing at a time.
 *
 * @module
 */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import { type Config, type LayoutSpec, type Manifest, writeOciLayout } from "./build_layout.ts";
import { sampleTar, storeBytes, testOptions, withDirectory, withLoaded } from "./helpers.ts";

const LAYERS = [sampleTar()];
type IndexChange = NonNullable<LayoutSpec["changeIndex"]>;

/** Opens a layout that must be refused, and compares what is said. */
async function refuses(
  spec: Partial<LayoutSpec>,
  message: string,
  options: Partial<SourceOptions> = {},
): Promise<void> {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: LAYERS, ...spec });
    const open = () => openImage(`oci:${directory}`, testOptions(options));
    const error = await assertRejects(open, InputError);
    assertStringIncludes(error.message, message);
    assertStringIncludes(error.message, directory);
  });
}

async function accepts(
  spec: Partial<LayoutSpec>,
  options: Partial<SourceOptions> = {},
): Promise<void> {
  await withDirectory(async (directory) => {
    writeOciLayout(directory, { layers: LAYERS, ...spec });
    (await openImage(`oci:${directory}`, testOptions(options))).close();
  });
}

function manifest(change: (manifest: Manifest) => void): Partial<LayoutSpec> {
  return {
    changeManifest: (value) => {
      change(value);
      return value;
    },
  };
}

function config(change: (config: Config) => void): Partial<LayoutSpec> {
  return {
    changeConfig: (value) => {
      change(value);
      return value;
    },
  };
}

function entry(change: (entry: Record<string, unknown>) => void): Partial<LayoutSpec> {
  const changeIndex: IndexChange = (index) => {
    change(index.manifests[0]!);
    return index;
  };
  return { changeIndex };
}

Deno.test("readIndex refuses a descriptor with anything wrong in it", async () => {
  await refuses(entry((e) => e["size"] = -1), "manifests[0].size is -1: wanted a whole number");
  await refuses(entry((e) => e["size"] = "5"), "manifests[0].size");
  await refuses(entry((e) => e["size"] = 1.5), "manifests[0].size");
  await refuses(entry((e) => delete e["size"]), "manifests[0].size is missing");
  await refuses(entry((e) => delete e["mediaType"]), "manifests[0].mediaType is missing");
  await refuses(entry((e) => e["digest"] = "sha256:../../x"), "is not a digest");
  await refuses(entry((e) => e["digest"] = `md5:${"0".repeat(32)}`), "of an unknown kind");
  await refuses(entry((e) => e["annotations"] = { a: 1 }), "annotations.a is 1");
  await refuses(entry((e) => e["platform"] = { os: "linux" }), "platform.architecture is missing");
  await refuses(entry((e) => e["data"] = "?"), "manifests[0].data");
});

Deno.test("readIndex refuses what is no index of schema version 2", async () => {
  const index = (change: (index: Record<string, unknown>) => void): Partial<LayoutSpec> => ({
    changeIndex: (value) => {
      change(value as unknown as Record<string, unknown>);
      return value;
    },
  });
  await refuses(index((i) => i["schemaVersion"] = 3), "schemaVersion is 3: wanted 2");
  await refuses(index((i) => delete i["schemaVersion"]), "schemaVersion is missing");
  await refuses(index((i) => i["layers"] = []), `is an index and yet has "layers"`);
  await refuses(index((i) => i["manifests"] = {}), "manifests is an object: wanted an array");
  await refuses(index((i) => i["manifests"] = []), "holds no container image");
  const wrongType = "application/vnd.oci.image.manifest.v1+json";
  await refuses(index((i) => i["mediaType"] = wrongType), "wanted the type of an index");
});

Deno.test("openImage ignores index entries of kinds that it does not know", async () => {
  await accepts({
    changeIndex: (index) => ({
      ...index,
      manifests: [{ mediaType: "application/xml", whatever: 1 }, ...index.manifests],
    }),
  });
});

Deno.test("readManifest refuses what could be read as two things", async () => {
  await refuses(manifest((m) => m["manifests"] = []), `is a manifest and yet has "manifests"`);
  await refuses(manifest((m) => m["fsLayers"] = []), `is a manifest and yet has "fsLayers"`);
  const index = "application/vnd.oci.image.index.v1+json";
  await refuses(manifest((m) => m.mediaType = index), "as it was announced");
  await accepts(manifest((m) => delete m.mediaType));
  const docker = "application/vnd.docker.distribution.manifest.v2+json";
  await refuses(manifest((m) => m.mediaType = docker), "as it was announced");
});

Deno.test("readManifest refuses schema version 1 with a hint", async () => {
  await refuses(manifest((m) => m.schemaVersion = 1), "schema version 1");
  const schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
  await refuses(entry((e) => e["mediaType"] = schema1), "schema version 1");
});

Deno.test("readManifest refuses what is no container image", async () => {
  const types = [
    "application/vnd.oci.empty.v1+json",
    "application/vnd.cncf.helm.config.v1+json",
    "application/octet-stream",
  ];
  for (const type of types) {
    await refuses(manifest((m) => m.config.mediaType = type), "it is no container image");
  }
});

Deno.test("openManifest refuses layers that cannot be read, and says why", async () => {
  const layer = (type: string) => manifest((m) => m.layers[0]!.mediaType = type);
  const oci = "application/vnd.oci.image.layer.v1.tar";
  await refuses(layer(`${oci}+gzip+encrypted`), "the layer is encrypted");
  await refuses(layer(`${oci}+encrypted`), "the layer is encrypted");
  await refuses(layer("application/vnd.in-toto+json"), "an attestation");
  await refuses(layer("application/vnd.wasm.content.layer.v1+wasm"), "no layer of a container");
  await refuses(layer("no type"), `layers[0].mediaType is "no type": wanted a media type`);
  for (const type of ["nondistributable.v1.tar+gzip", "v1.tar+zstd"]) {
    await accepts(layer(`application/vnd.oci.image.layer.${type}`));
  }
  for (const type of ["diff.tar.gzip", "diff.tar", "diff.tar.zstd", "foreign.diff.tar.gzip"]) {
    await accepts(layer(`application/vnd.docker.image.rootfs.${type}`));
  }
});

Deno.test("openManifest refuses a manifest and a config that count differently", async () => {
  await refuses(
    config((c) => c.rootfs.diff_ids = []),
    "has 1 layers, but its config has 0 diff ids",
  );
  await refuses(manifest((m) => m.layers = []), "has 0 layers, but its config has 1 diff ids");
});

Deno.test("readConfig refuses a config that is none", async () => {
  await refuses(config((c) => c.rootfs.type = "tar"), `rootfs.type is "tar": wanted "layers"`);
  await refuses(config((c) => c.rootfs.diff_ids = ["x"]), "is not a digest");
  await refuses(config((c) => (c as Record<string, unknown>)["rootfs"] = null), "rootfs is null");
  await refuses({ changeConfig: () => [] }, "the document is an array: wanted an object");
  await refuses({ changeConfig: () => "x" }, "wanted an object");
});

Deno.test("readConfig takes null for fields that may be absent", async () => {
  const nothing = (c: Config) => {
    Object.assign(c, { config: null, history: null, os: null, architecture: null, variant: null });
  };
  await accepts(config(nothing));
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

Deno.test("openImage compares data that a descriptor carries with its digest and size", async () => {
  const data = btoa("{}");
  await refuses(manifest((m) => m.config["data"] = data), "its size is 2 bytes: wanted");
  const wrong = manifest((m) => Object.assign(m.config, { data, size: 2 }));
  await refuses(wrong, "its digest is sha256:");
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
