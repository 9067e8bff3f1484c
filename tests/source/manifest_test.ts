import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { image } from "./build_choices.ts";
import { type Blobs, writeLayoutFiles, writeOciLayout } from "./build_layout.ts";
import { accepts, config, manifest, refuses } from "./build_wrong.ts";
import { testOptions, withDirectory } from "./helpers.ts";

Deno.test("openManifest refuses layers that cannot be read, and says why", async () => {
  const layer = (type: string) => manifest((m) => m.layers[0]!.mediaType = type);
  const oci = "application/vnd.oci.image.layer.v1.tar";
  await refuses(layer(`${oci}+gzip+encrypted`), "the layer is encrypted");
  await refuses(layer(`${oci}+encrypted`), "the layer is encrypted");
  await refuses(layer("application/vnd.in-toto+json"), "an attestation");
  await refuses(layer("application/vnd.wasm.content.layer.v1+wasm"), "not a layer of a container");
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

Deno.test("openManifest compares --platform with all that is said, and warns when nothing is", async () => {
  const cases: [stated: string | undefined, announced: string | undefined, outcome: string][] = [
    ["arm64", undefined, ""],
    ["amd64", undefined, "is for linux/amd64: wanted linux/arm64"],
    [undefined, "arm64", ""],
    [undefined, "amd64", "is for linux/amd64: wanted linux/arm64"],
    ["s390x", "amd64", "is for linux/s390x: wanted linux/arm64"],
    ["amd64", "arm64", "platformMismatch"],
    ["arm64", "amd64", "platformMismatch"],
    [undefined, undefined, "platformUnknown"],
  ];
  for (const [stated, announced, outcome] of cases) {
    await withDirectory(async (directory) => {
      writeOciLayout(directory, {
        layers: [],
        changeConfig: ({ os: _os, architecture: _architecture, ...config }) => ({
          ...config,
          ...stated === undefined ? {} : { os: "linux", architecture: stated },
        }),
        changeIndex: (index) => {
          if (announced !== undefined) {
            index.manifests[0]!.platform = { os: "linux", architecture: announced };
          }
          return index;
        },
      });
      const options = testOptions({ platform: "linux/arm64" });
      let found = "";
      try {
        (await openImage(`oci:${directory}`, options)).close();
      } catch (error) {
        assert(error instanceof InputError);
        found = error.message.slice(error.message.indexOf("is for"));
      }
      const kinds = options.warnings.list().map(({ kind }) => kind);
      assertEquals(found || kinds.join(), outcome, `${stated} ${announced}`);
      const unasked = testOptions({ platform: "any" });
      (await openImage(`oci:${directory}`, unasked)).close();
      assertEquals(unasked.warnings.list().length, stated && announced ? 1 : 0);
    });
  }
});
