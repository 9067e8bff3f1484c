import { assertEquals, assertThrows } from "@std/assert";
import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import {
  checkDescription,
  encodeDescription,
  layerMountPoints,
  overlayMount,
  STACKED_LAYERS_MAX,
  stackFault,
  writeDescription,
} from "../../lib/bless/layered_description.ts";
import { IoError } from "../../lib/errors.ts";
import { openImage } from "../../lib/source/source.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";
import { writeLayers } from "./layered_helpers.ts";

const CONFIG = { Entrypoint: ["/bin/sh", "-c"], Env: ["PATH=/bin", "LANG=\u00e9"], User: "1:1" };

Deno.test("overlayMount gives the kernel at least two lower directories, and options that fit into a page", () => {
  assertEquals(overlayMount([]), {
    options: "ro,lowerdir=empty:empty2",
    emptyDirectories: ["empty", "empty2"],
  });
  assertEquals(overlayMount(["0"]), {
    options: "ro,lowerdir=0:empty",
    emptyDirectories: ["empty"],
  });
  assertEquals(overlayMount(["0", "1"]), { options: "ro,lowerdir=1:0", emptyDirectories: [] });
  const most = Array.from({ length: STACKED_LAYERS_MAX }, (_, i) => String(i));
  assertEquals(overlayMount(most).options.length < 4096, true);
});

Deno.test("layerMountPoints leaves out an image below itself", () => {
  const mountPoints = layerMountPoints(["a", "b", "a", "c", "a"]);
  assertEquals(mountPoints, [null, "1", null, "3", "4"]);
  assertEquals(overlayMount(mountPoints).options, "ro,lowerdir=4:3:1");
  assertEquals(overlayMount(layerMountPoints(["a", "a"])).emptyDirectories, ["empty"]);
});

Deno.test("encodeDescription holds the config, the platform and the layers from the bottom up", async () => {
  await withDirectory(async (directory) => {
    const built = writeLayers(directory, [[{ path: "a" }]], { config: { config: CONFIG } });
    const image = await openImage(`oci:${directory}`, testOptions());
    const layer = {
      file: "x.ext4",
      diffId: built.diffIds[0]!,
      digest: built.layerDigests[0]!,
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      uuid: "u",
      sizeBytes: 1,
    };
    const bytes = encodeDescription(image, built.manifest.digest, [layer]);
    image.close();
    assertEquals(JSON.parse(new TextDecoder().decode(bytes)), {
      kind: "blessfs layered image",
      contentDigest: built.manifest.digest,
      manifestDigest: built.manifest.digest,
      configDigest: built.configDigest,
      platform: "linux/amd64",
      config: CONFIG,
      layers: [{ mountPoint: "0", ...layer }],
      overlay: { options: "ro,lowerdir=0:empty", emptyDirectories: ["empty"] },
    });
  });
});

Deno.test("checkDescription lets only such a description be replaced", async () => {
  await withDirectory((directory) => {
    const path = `${directory}/image.json`;
    checkDescription(directory);
    writeFileSync(path, `{"kind":"blessfs layered image"}`);
    checkDescription(directory);
    for (const other of [`{"kind":"something"}`, `{"kind":1}`, "{}", "[]", "no JSON", ""]) {
      writeFileSync(path, other);
      assertThrows(() => checkDescription(directory), IoError, "already exists");
    }
    mkdirSync(`${directory}/d/image.json`, { recursive: true });
    assertThrows(() => checkDescription(`${directory}/d`), IoError, "already exists");
  });
});

Deno.test("writeDescription keeps the one of every image, and leaves equal files alone", async () => {
  await withDirectory(async (directory) => {
    const one = Uint8Array.of(1);
    await writeDescription(directory, "sha256:aa", one, undefined);
    utimesSync(`${directory}/image.json`, 5, 5);
    await writeDescription(directory, "sha256:aa", one, undefined);
    assertEquals(statSync(`${directory}/image.json`).mtimeMs, 5000);
    await writeDescription(directory, "sha256:bb", Uint8Array.of(2), undefined);
    assertEquals(readdirSync(directory).sort(), ["image-aa.json", "image-bb.json", "image.json"]);
    assertEquals([...readFileSync(`${directory}/image.json`)], [2]);
    assertEquals([...readFileSync(`${directory}/image-aa.json`)], [1]);
  });
});

Deno.test("stackFault says how many layers there may be", () => {
  assertEquals(
    stackFault("oci:x", 501).message,
    "oci:x: has 501 layers: overlayfs stacks at most 500",
  );
});
