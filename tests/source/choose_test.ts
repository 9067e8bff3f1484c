/**
 * Choosing an image: by name, by number, by digest, by platform.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { BlessfsError, InputError, UsageError } from "../../lib/errors.ts";
import { formatPlatform, hostPlatform } from "../../lib/source/platform.ts";
import { openImage } from "../../lib/source/source.ts";
import type { SourceOptions } from "../../lib/source/source.ts";
import {
  addJson,
  type Blobs,
  buildImage,
  buildIndex,
  type JsonDescriptor,
  named,
  writeLayoutFiles,
} from "./build_layout.ts";
import { sampleTar, testOptions, withDirectory } from "./helpers.ts";

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";

/** An image whose only layer tells it from others. */
function image(blobs: Blobs, seed: number, architecture = "amd64", variant?: string) {
  const platform = { os: "linux", architecture, ...(variant ? { variant } : {}) };
  const { manifest } = buildImage(blobs, { layers: [sampleTar(seed)], platform });
  return { plain: manifest, described: { ...manifest, platform } };
}

/** What opening a layout of these entries gives: the manifest's digest, or the error. */
async function open(
  build: (blobs: Blobs) => readonly JsonDescriptor[],
  reference: string | undefined,
  options: Partial<SourceOptions> = {},
): Promise<string | BlessfsError> {
  return await withDirectory(async (directory) => {
    const blobs: Blobs = new Map();
    writeLayoutFiles(directory, blobs, { schemaVersion: 2, manifests: build(blobs) });
    writeLayoutFiles(directory, blobs, { schemaVersion: 2, manifests: build(blobs) });
    try {
      const source = `oci:${directory}${reference === undefined ? "" : `:${reference}`}`;
      const opened = await openImage(source, testOptions(options));
      opened.close();
      return opened.manifestDigest!;
    } catch (error) {
      if (error instanceof BlessfsError) return error;
      throw error;
    }
  });
}

function isRefused(found: string | BlessfsError, message: string, hint = ""): void {
  assert(found instanceof BlessfsError, `it was accepted: ${found}`);
  assertStringIncludes(found.message, message);
  assertStringIncludes(found.hint ?? "", hint);
}

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
  isRefused(await open(entries, undefined), "holds 3 images, and none is named", list);
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
  isRefused(found, "none is named", "\\x1b[2J\\u{202e}1");
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
  isRefused(found, `has no image for linux/riscv64: found ${list}`, "--platform linux/arm/v6");
  isRefused(
    await open(multiPlatform, undefined, { platform: "windows/amd64" }),
    "has no image for",
  );
  const wrong = await open(multiPlatform, undefined, { platform: "amd64" });
  assert(wrong instanceof UsageError);
});

Deno.test("chooseManifest takes the only image when no platform was asked for", async () => {
  const other = formatPlatform(hostPlatform()) === "linux/s390x" ? "amd64" : "s390x";
  const entries = (blobs: Blobs) => [buildIndex(blobs, [image(blobs, 1, other).described])];
  assertEquals(await open(entries, undefined), image(new Map(), 1, other).plain.digest);
  const asked = await open(entries, undefined, { platform: "linux/riscv64" });
  isRefused(asked, `is for linux/${other}: wanted linux/riscv64`, "--platform");
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
