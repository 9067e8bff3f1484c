import { assert, assertEquals } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { image, isRefused, open } from "./build_choices.ts";
import { type Blobs, named } from "./build_layout.ts";

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
