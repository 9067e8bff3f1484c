import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { image } from "./build_choices.ts";
import { type Blobs, writeLayoutFiles } from "./build_layout.ts";
import { accepts, config, manifest, refuses } from "./build_wrong.ts";
import { testOptions, withDirectory } from "./helpers.ts";

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

Deno.test("openManifest warns of a config that contradicts its index", async () => {
  await withDirectory(async (directory) => {
    const blobs: Blobs = new Map();
    const { plain } = image(blobs, 1, "amd64");
    const wrong = { ...plain, platform: { os: "linux", architecture: "arm64" } };
    writeLayoutFiles(directory, blobs, { schemaVersion: 2, manifests: [wrong] });
    const options = testOptions({ platform: "linux/arm64" });
    (await openImage(`oci:${directory}`, options)).close();
    assertEquals(options.warnings.list().map(({ kind }) => kind), ["platformMismatch"]);
    assert(await assertRejects(() => openImage(`oci:${directory}:none`, options), InputError));
  });
});
