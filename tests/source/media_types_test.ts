import { assertEquals, assertStringIncludes } from "@std/assert";
import {
  ACCEPTED_DOCUMENT_TYPES,
  documentKind,
  isImageConfigType,
  layerCompression,
  whyNoLayer,
} from "../../lib/source/media_types.ts";

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
  assertStringIncludes(whyNoLayer("text/plain"), "no layer");
});
