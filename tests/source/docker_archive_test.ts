import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { digestOf } from "../../lib/bytes/digest.ts";
import { openImage } from "../../lib/source/source.ts";
import type { SimpleEntry } from "../tar/build.ts";
import {
  givesTars,
  newDockerEntries,
  oldDockerEntries,
  TARS,
  withArchive,
} from "./build_archives.ts";
import { compressLayer } from "./build_layout.ts";
import { ALWAYS_WORKER, openAndLoad, testOptions, withLoaded } from "./helpers.ts";

Deno.test("openDockerArchive reads what docker save wrote before version 25", async () => {
  const tars = [...TARS, TARS[0]!];
  await withArchive(oldDockerEntries(), async (path) => {
    for (const reference of ["", ":app:1", ":docker.io/library/app:1", ":@0"]) {
      await givesTars(`docker-archive:${path}${reference}`, tars);
    }
    await givesTars(path, tars);
    await withLoaded(`docker-archive:${path}`, testOptions(), (layers, image) => {
      assertEquals(layers[0]!.entries, layers[2]!.entries);
      assertEquals(image.manifestDigest, undefined);
      assertEquals(image.configDigest?.length, 71);
      assertEquals(image.platform, { os: "linux", architecture: "amd64" });
    });
    const other = () => openImage(`docker-archive:${path}:app:2`, testOptions());
    const error = await assertRejects(other, InputError, `has no image named "app:2"`);
    assertEquals((error as InputError).hint, "name one of: app:1");
  });
  await withArchive(oldDockerEntries(null), (path) => givesTars(`docker-archive:${path}`, tars));
});

Deno.test("openDockerArchive loads a linked layer once", async () => {
  await withArchive(oldDockerEntries(), async (path) => {
    const begun: string[] = [];
    const progress = {
      begin: (name: string) => {
        begun.push(name);
        return { advance: () => {}, end: () => {} };
      },
    };
    await openAndLoad(`docker-archive:${path}`, testOptions({ progress, ...ALWAYS_WORKER }));
    assertEquals(begun.length, 2);
  });
});

Deno.test("openDockerArchive reads compressed layers and hard links", async () => {
  const entries = oldDockerEntries().map((entry): SimpleEntry => {
    if (entry.path === "c/layer.tar") {
      return { path: "c/layer.tar", kind: "hardlink", link: "a/layer.tar" };
    }
    if (entry.path === "a/layer.tar") return { ...entry, data: compressLayer(TARS[0]!, "gzip") };
    return entry;
  });
  await withArchive(entries, (path) => givesTars(path, [...TARS, TARS[0]!]));
});

Deno.test("openDockerArchive refuses links that go round, and layers that are none", async () => {
  const withC = (entry: SimpleEntry) =>
    oldDockerEntries().map((known) => known.path === "c/layer.tar" ? entry : known);
  const refused: readonly [SimpleEntry, string][] = [
    [{ path: "c/layer.tar", link: "../c/layer.tar" }, "links follow one another"],
    [{ path: "c/layer.tar", link: "../nowhere" }, "c/layer.tar: is missing"],
    [{ path: "c/layer.tar", link: "../../../../etc/passwd" }, "c/layer.tar: is missing"],
    [{ path: "c/layer.tar", link: "../a" }, "is not a regular file"],
    [{ path: "c/layer.tar", kind: "fifo" }, "is not a regular file"],
    [{ path: "c/layer.tar", data: { sizeBytes: 1 << 20, parts: [[0, TARS[0]!]] } }, "sparse"],
    [{ path: "c/layer.tar", data: TARS[1]! }, "its diff id is"],
  ];
  for (const [entry, message] of refused) {
    await withArchive(withC(entry), async (path) => {
      const load = () => openAndLoad(`docker-archive:${path}`, testOptions());
      await assertRejects(load, InputError, message);
    });
  }
});

Deno.test("openDockerArchive refuses a manifest that names the config falsely", async () => {
  const change = (from: RegExp, to: string) =>
    oldDockerEntries().map((entry) => {
      if (entry.path !== "manifest.json") return entry;
      const text = new TextDecoder().decode(entry.data as Uint8Array).replace(from, to);
      return { ...entry, data: new TextEncoder().encode(text) };
    });
  const hex = "0".repeat(64);
  const refused: readonly [SimpleEntry[], string][] = [
    [change(/[0-9a-f]{64}\.json/, `${hex}.json`), `${hex}.json: is missing`],
    [
      [...change(/[0-9a-f]{64}\.json/, `${hex}.json`), { path: `${hex}.json`, data: "{}" }],
      "its digest is",
    ],
    [change(/\["a\/.*?\]/, `["a/layer.tar"]`), "has 1 layers, but its config has 3 diff ids"],
    [change(/\["a\/.*?\]/, `null`), "has 0 layers, but its config has 3 diff ids"],
    [change(/"Config":"[^"]*",/, ""), "[0].Config is missing"],
    [change(/^\[.*\]$/, "[]"), "holds 0 images"],
    [change(/^\[.*\]$/, "{}"), "wanted an array"],
  ];
  for (const [entries, message] of refused) {
    await withArchive(entries, async (path) => {
      const error = await assertRejects(
        () => openImage(`docker-archive:${path}`, testOptions()),
        InputError,
      );
      assertStringIncludes(error.message, message);
    });
  }
});

Deno.test("openDockerArchive reads what docker save writes since version 25", async () => {
  await withArchive(newDockerEntries(), async (path) => {
    for (const reference of ["", ":app:1", ":1", ":docker.io/library/app:1"]) {
      await withLoaded(`docker-archive:${path}${reference}`, testOptions(), (layers, image) => {
        assertEquals(layers.map(({ diffId }) => diffId), TARS.map((tar) => digestOf(tar)));
        assertEquals(image.manifestDigest?.startsWith("sha256:"), true);
      });
    }
    await givesTars(path);
    await givesTars(`oci-archive:${path}`);
  });
});

Deno.test("openDockerArchive falls back where Docker 25.0.0 wrote a manifest without layers", async () => {
  const noLayers = newDockerEntries({
    changeManifest: (manifest) => ({ ...manifest, layers: [] }),
  });
  await withArchive(noLayers, async (path) => {
    const only = () => openImage(`oci-archive:${path}`, testOptions());
    await assertRejects(only, InputError, "has 0 layers, but its config has 2 diff ids");
  });
  const both = newDockerEntries();
  const saved = both.at(-1)!;
  const layers = both.filter(({ path }) => path.startsWith("blobs/"));
  const entries = new Map([...layers, ...noLayers, saved].map((entry) => [entry.path, entry]));
  await withArchive([...entries.values()], async (path) => {
    await withLoaded(`docker-archive:${path}`, testOptions(), (loaded, image) => {
      assertEquals(loaded.map(({ diffId }) => diffId), TARS.map((tar) => digestOf(tar)));
      assertEquals(image.manifestDigest, undefined);
    });
    await givesTars(path);
  });
});

Deno.test("openDockerArchive holds blobs of manifest.json against their names", async () => {
  const entries = newDockerEntries()
    .filter(({ path }) => path !== "index.json")
    .map((entry) => entry.data === TARS[1] ? { ...entry, data: TARS[0]! } : entry);
  await withArchive(entries, async (path) => {
    const load = () => openAndLoad(`docker-archive:${path}`, testOptions());
    await assertRejects(load, InputError, "its digest is");
  });
});
