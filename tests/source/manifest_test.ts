import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError, UsageError } from "../../lib/errors.ts";
import { formatPlatform, hostPlatform } from "../../lib/source/platform.ts";
import { openImage } from "../../lib/source/source.ts";
import { image, isRefused, MANIFEST_TYPE, open } from "./build_choices.ts";
import {
  addJson,
  type Blobs,
  buildIndex,
  type JsonDescriptor,
  named,
  writeLayoutFiles,
  writeOciLayout,
} from "./build_layout.ts";
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

Deno.test("chooseReference takes the entry of that name", async () => {
  const entries = (blobs: Blobs) => [
    named(image(blobs, 1).plain, "one"),
    named(image(blobs, 2).plain, "registry.example/two:2"),
    image(blobs, 3).plain,
  ];
  const digests = entries(new Map()).map(({ digest }) => digest);
  assertEquals(await open(entries, "one"), digests[0]!);
  assertEquals(await open(entries, "registry.example/two:2"), digests[1]!);
  assertEquals(await open(entries, "@2"), digests[2]!);
  assertEquals(await open(entries, `@${digests[1]}`), digests[1]!);
  const list = "name one of: one, registry.example/two:2, @2";
  isRefused(await open(entries, "three"), `has no image named "three"`, list);
  isRefused(await open(entries, undefined), "holds 3 images: wanted the name of one", list);
  isRefused(await open(entries, "@3"), "has no image number 3", list);
  isRefused(await open(entries, `@sha256:${"0".repeat(64)}`), "has no image with the digest", list);
  const wrong = await open(entries, "@x");
  assert(wrong instanceof UsageError);
});

Deno.test("chooseReference knows the full names that docker and containerd write", async () => {
  const entries = (blobs: Blobs) =>
    [1, 2].map((n) => {
      const entry = named(image(blobs, n).plain, "latest");
      entry.annotations!["io.containerd.image.name"] = `docker.io/library/app${n}:latest`;
      return entry;
    });
  const digests = entries(new Map()).map(({ digest }) => digest);
  for (const name of ["app2", "app2:latest", "docker.io/library/app2:latest"]) {
    assertEquals(await open(entries, name), digests[1]!);
  }
  isRefused(await open(entries, "app3"), "has no image named");
});

Deno.test("chooseReference takes several names of one image for one image", async () => {
  const entries = (blobs: Blobs) => {
    const { plain } = image(blobs, 1);
    return [named(plain, "a"), named(plain, "b")];
  };
  assertEquals(await open(entries, undefined), entries(new Map())[0]!.digest);
});

Deno.test("chooseReference takes one name on several platforms for one image", async () => {
  const entries = (blobs: Blobs) => [
    named(image(blobs, 1, "amd64").described, "x"),
    named(image(blobs, 2, "arm64").described, "x"),
  ];
  const digests = entries(new Map()).map(({ digest }) => digest);
  for (const reference of ["x", undefined]) {
    assertEquals(await open(entries, reference, { platform: "linux/amd64" }), digests[0]!);
    assertEquals(await open(entries, reference, { platform: "linux/arm64" }), digests[1]!);
  }
});

Deno.test("chooseReference neutralises control characters in the names that it lists", async () => {
  const entries = (blobs: Blobs) =>
    [1, 2].map((n) => named(image(blobs, n).plain, `\x1b[2J\u202e${n}`));
  const found = await open(entries, undefined);
  isRefused(found, "wanted the name of one", "\\x1b[2J\\u{202e}1");
});

/** An index in the layout, with what buildkit and others put beside the images. */
function multiPlatform(blobs: Blobs): readonly JsonDescriptor[] {
  const attestation = addJson(blobs, MANIFEST_TYPE, { schemaVersion: 2, config: {}, layers: [] });
  return [named(
    buildIndex(blobs, [
      {
        ...attestation,
        platform: { os: "unknown", architecture: "unknown" },
        annotations: { "vnd.docker.reference.type": "attestation-manifest" },
      },
      image(blobs, 1, "arm", "v6").described,
      image(blobs, 2, "arm", "v7").described,
      image(blobs, 3, "s390x").described,
      buildIndex(blobs, [image(blobs, 4, "amd64").described, image(blobs, 5, "arm64").plain]),
    ]),
    "app",
  )];
}

Deno.test("chooseManifest picks the platform from nested indexes", async () => {
  const digestOfSeed = (seed: number, architecture: string, variant?: string) =>
    image(new Map(), seed, architecture, variant).plain.digest;
  const wanted: readonly [string, string][] = [
    ["linux/amd64", digestOfSeed(4, "amd64")],
    ["linux/x86_64", digestOfSeed(4, "amd64")],
    ["linux/amd64/v3", digestOfSeed(4, "amd64")],
    // This one has its platform in its config alone.
    ["linux/arm64", digestOfSeed(5, "arm64")],
    ["linux/arm", digestOfSeed(2, "arm", "v7")],
    ["linux/arm/v6", digestOfSeed(1, "arm", "v6")],
    ["linux/arm/v8", digestOfSeed(2, "arm", "v7")],
    ["linux/s390x", digestOfSeed(3, "s390x")],
  ];
  for (const [platform, digest] of wanted) {
    assertEquals(await open(multiPlatform, "app", { platform }), digest, platform);
  }
});

Deno.test("chooseManifest names what there is when nothing suits", async () => {
  const found = await open(multiPlatform, undefined, { platform: "linux/riscv64" });
  const list = "linux/arm/v6, linux/arm/v7, linux/s390x, linux/amd64, linux/arm64";
  isRefused(found, `has no image for linux/riscv64: found ${list}`, "platform=linux/arm/v6");
  isRefused(
    await open(multiPlatform, undefined, { platform: "windows/amd64" }),
    "has no image for",
  );
  const wrong = await open(multiPlatform, undefined, { platform: "amd64" });
  assert(wrong instanceof UsageError);
});

/** An architecture that this machine does not have. */
const FOREIGN = hostPlatform().architecture === "s390x" ? "amd64" : "s390x";

Deno.test("openImage takes an image for another platform only when it is asked for", async () => {
  const entries = (blobs: Blobs) => [buildIndex(blobs, [image(blobs, 1, FOREIGN).described])];
  const { digest } = image(new Map(), 1, FOREIGN).plain;
  const host = formatPlatform(hostPlatform());
  const found = await open(entries, undefined);
  isRefused(found, `is for linux/${FOREIGN}: wanted ${host}`, `platform=linux/${FOREIGN}`);
  const asked = await open(entries, undefined, { platform: "linux/riscv64" });
  isRefused(asked, `is for linux/${FOREIGN}: wanted linux/riscv64`, "platform=");
  for (const platform of ["any", `linux/${FOREIGN}`]) {
    assertEquals(await open(entries, undefined, { platform }), digest);
  }
});

Deno.test("chooseManifest takes any platform only where there is one", async () => {
  const found = await open(multiPlatform, "app", { platform: "any" });
  isRefused(found, "holds 5 images: linux/arm/v6, linux/arm/v7", "platform=linux/arm/v6");
});

Deno.test("chooseManifest does not choose between images for the same platform", async () => {
  const versions = (blobs: Blobs) =>
    ["10.0.17763.1", "10.0.20348.2"].map((version, i) => ({
      ...image(blobs, i, "amd64").plain,
      platform: { os: "windows", architecture: "amd64", "os.version": version },
    }));
  const entries = (blobs: Blobs) => [named(buildIndex(blobs, versions(blobs)), "x")];
  const [first, second] = versions(new Map());
  const options = { platform: "windows/amd64" };
  const list = `@${first!.digest} (windows/amd64 version 10.0.17763.1), @${second!.digest}`;
  isRefused(await open(entries, "x", options), "holds 2 images for windows/amd64", list);
  assertEquals(await open(entries, `@${second!.digest}`, { platform: "any" }), second!.digest);
});

Deno.test("chooseManifest takes the two forms that podman pushes of one image for one", async () => {
  const entries = (blobs: Blobs) => {
    const { described } = image(blobs, 1);
    const annotations = { "io.github.containers.compression.zstd": "true" };
    return [buildIndex(blobs, [{ ...image(blobs, 2).described, annotations }, described])];
  };
  const found = await open(entries, undefined, { platform: "linux/amd64" });
  assertEquals(found, image(new Map(), 1).plain.digest);
});

Deno.test("chooseManifest says which platforms are there when the wanted one's image is missing", async () => {
  const entries = (blobs: Blobs) => {
    const gone = image(new Map(), 7, "amd64").described;
    return [named(buildIndex(blobs, [gone, image(blobs, 1, "arm64").described]), "x")];
  };
  const found = await open(entries, "x", { platform: "linux/amd64" });
  isRefused(found, "names an image for linux/amd64, but its manifest", "platform=linux/arm64");
  const other = image(new Map(), 1, "arm64").plain.digest;
  for (const platform of ["linux/arm64", "any"]) {
    assertEquals(await open(entries, "x", { platform }), other);
  }
});

Deno.test("chooseReference does not choose between images of one tag", async () => {
  const entries = (blobs: Blobs) =>
    [1, 2].map((n) => {
      const entry = named(image(blobs, n).plain, "latest");
      entry.annotations!["io.containerd.image.name"] = `docker.io/library/app${n}:latest`;
      return entry;
    });
  const list = "name one of: docker.io/library/app1:latest, docker.io/library/app2:latest";
  isRefused(await open(entries, undefined), "holds 2 images: wanted the name of one", list);
  isRefused(await open(entries, "latest"), `holds 2 images named "latest"`, list);
});

Deno.test("chooseManifest refuses indexes nested too deep, and too many entries", async () => {
  const nested = (depth: number) => (blobs: Blobs) => {
    let entry = image(blobs, 1).described as JsonDescriptor;
    for (let i = 0; i < depth; i++) entry = buildIndex(blobs, [entry]);
    return [entry];
  };
  const limits = { indexDepth: 2 };
  assertEquals(typeof await open(nested(2), undefined, { limits }), "string");
  isRefused(await open(nested(3), undefined, { limits }), "more than 2 indexes deep");
  const entries = (blobs: Blobs) => [image(blobs, 1).described, image(blobs, 2, "arm64").described];
  const two = { platform: "linux/amd64", limits: { indexEntries: 2 } };
  assertEquals(typeof await open(entries, undefined, two), "string");
  isRefused(await open(entries, undefined, { ...two, limits: { indexEntries: 1 } }), "more than 1");
});

Deno.test("chooseManifest passes over artifacts", async () => {
  const entries = (blobs: Blobs) => {
    const empty = addJson(blobs, "application/vnd.oci.empty.v1+json", {});
    const signature = addJson(blobs, MANIFEST_TYPE, {
      schemaVersion: 2,
      config: empty,
      layers: [],
    });
    return [
      named({ ...signature, artifactType: "application/vnd.dev.cosign" }, "x"),
      named(signature, "x"),
      named(image(blobs, 1).plain, "x"),
    ];
  };
  const found = await open(entries, "x", { platform: "linux/amd64" });
  assertEquals(found, image(new Map(), 1).plain.digest);
});
