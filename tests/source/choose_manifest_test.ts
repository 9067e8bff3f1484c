import { assert, assertEquals } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { formatPlatform, hostPlatform } from "../../lib/source/platform.ts";
import { image, isRefused, MANIFEST_TYPE, open } from "./build_choices.ts";
import { addJson, type Blobs, buildIndex, type JsonDescriptor, named } from "./build_layout.ts";

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
