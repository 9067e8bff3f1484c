import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import {
  ACCEPTED_DOCUMENT_TYPES,
  documentKind,
  isImageConfigType,
  layerCompression,
  whyNoLayer,
} from "../../lib/source/documents.ts";
import { DEFAULT_SOURCE_LIMITS, ImageBudget } from "../../lib/source/types.ts";
import type { Config, LayoutSpec } from "./build_layout.ts";
import { accepts, config, entry, manifest, refuses } from "./build_wrong.ts";

Deno.test("documentKind knows both families of manifests and indexes", () => {
  assertEquals(ACCEPTED_DOCUMENT_TYPES.map(documentKind), [
    "index",
    "index",
    "manifest",
    "manifest",
  ]);
  assertEquals(documentKind("application/vnd.docker.distribution.manifest.v1+json"), "schema1");
  for (const type of ["", "application/json", "constructor"]) {
    assertEquals(documentKind(type), "unknown");
  }
});

Deno.test("layerCompression says what a layer's type states", () => {
  const stated: readonly [string, string | undefined][] = [
    ["application/vnd.oci.image.layer.v1.tar", "none"],
    ["application/vnd.oci.image.layer.v1.tar+gzip", "gzip"],
    ["application/vnd.oci.image.layer.v1.tar+zstd", "zstd"],
    ["application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "zstd"],
    ["application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"],
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "gzip"],
    ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted", undefined],
    ["application/vnd.oci.empty.v1+json", undefined],
    ["__proto__", undefined],
  ];
  for (const [type, compression] of stated) assertEquals(layerCompression(type), compression, type);
});

Deno.test("isImageConfigType and whyNoLayer tell images from other things", () => {
  assertEquals(isImageConfigType("application/vnd.oci.image.config.v1+json"), true);
  assertEquals(isImageConfigType("application/vnd.docker.container.image.v1+json"), true);
  assertEquals(isImageConfigType("application/vnd.oci.empty.v1+json"), false);
  assertStringIncludes(whyNoLayer("application/x.tar+gzip+encrypted"), "encrypted");
  assertStringIncludes(whyNoLayer("application/vnd.in-toto+json"), "attestation");
  assertStringIncludes(whyNoLayer("text/plain"), "not a layer");
});

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

Deno.test("openImage compares data that a descriptor carries with its digest and size", async () => {
  const data = btoa("{}");
  await refuses(manifest((m) => m.config["data"] = data), "its size is 2 bytes: wanted");
  const wrong = manifest((m) => Object.assign(m.config, { data, size: 2 }));
  await refuses(wrong, "its digest is sha256:");
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
    await refuses(manifest((m) => m.config.mediaType = type), "it is not a container image");
  }
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

Deno.test("ImageBudget adds up over layers, to the limit and no further", () => {
  const budget = new ImageBudget({ ...DEFAULT_SOURCE_LIMITS, unpackedBytes: 10, imageEntries: 3 });
  budget.takeUnpacked(4, "a");
  budget.takeUnpacked(6, "b");
  assertThrows(() => budget.takeUnpacked(1, "b"), InputError, "b: with it the image inflates to");
  budget.takeEntries(3, "a");
  try {
    budget.takeEntries(1, "b");
  } catch (error) {
    assertEquals((error as InputError).data["limit"], "imageEntries");
    assertEquals((error as InputError).message, "b: with it the image has more than 3 entries");
    return;
  }
  throw new Error("it was accepted");
});
