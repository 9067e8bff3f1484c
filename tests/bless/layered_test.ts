import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import {
  checkDescription,
  encodeDescription,
  layerMountPoints,
  overlayMount,
  STACKED_LAYERS_MAX,
  stackFault,
  writeDescription,
} from "../../lib/bless/layered.ts";
import { InputError, InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { NO_PROGRESS, type Progress } from "../../lib/progress.ts";
import { openImage } from "../../lib/source/source.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { sampleTar, testOptions, withDirectory } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { blessTo, filesOf, writeLayers } from "./layered_helpers.ts";

const LAYERS = [
  [
    { path: "./", mode: 0o755 },
    { path: "etc/", mode: 0o750 },
    { path: "etc/a", data: "1" },
    { path: "big", data: new Uint8Array(300_000).fill(7) },
  ],
  [{ path: "etc/b", data: "2" }, { path: ".wh.big" }],
  [{ path: "z", link: "etc/a" }],
];

Deno.test("blessLayered makes an image a layer, each clean, and says what is where", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    const built = writeLayers(layout, LAYERS, { config: { config: { Env: ["A=1"] } } });
    const out = `${directory}/out`;
    const report = await blessTo(out, `oci:${layout}`);
    const hexes = built.diffIds.map((diffId) => diffId.slice("sha256:".length));
    assertEquals(report.mode, "layered");
    assertEquals(report.manifestDigest, built.manifest.digest);
    assertEquals(report.reusedLayers, 0);
    assertEquals(report.layers.map(({ file }) => file), hexes.map((hex) => `${hex}.ext4`));
    assertEquals(report.layers.map(({ digest }) => digest), built.layerDigests);
    assertEquals(new Set(report.layers.map(({ image }) => image.uuid)).size, 3);
    const sizes = hexes.map((hex) => statSync(`${out}/${hex}.ext4`).size);
    assertEquals(report.sizeBytes, sizes[0]! + sizes[1]! + sizes[2]!);
    assertEquals([report.files, report.symlinks, report.specialFiles], [3, 1, 1]);
    for (const { file, image } of report.layers) {
      assertE2fsckClean(`${out}/${file}`);
      assertEquals(readFileSync(`${out}/${file}`).length, image.sizeBytes);
    }
    const description = JSON.parse(readFileSync(`${out}/image.json`, "utf8"));
    assertEquals(description.config, { Env: ["A=1"] });
    assertEquals(description.overlay.options, "ro,lowerdir=2:1:0");
    assertEquals(
      description.layers.map((layer: { file: string }) => layer.file),
      report.layers.map(({ file }) => file),
    );
  });
});

Deno.test("blessLayered gives equal files in two directories, and changes none the second time", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, LAYERS);
    const first = await blessTo(`${directory}/a`, `oci:${layout}`);
    await blessTo(`${directory}/b`, `oci:${layout}`, { jobs: 1 });
    const files = filesOf(`${directory}/a`);
    assertEquals(filesOf(`${directory}/b`), files);
    const times = () => readdirSync(`${directory}/a`).map((name) => mtimeOf(directory, name));
    const before = times();
    // Layers that are there are not read.
    for (const { digest, sizeBytes } of first.layers) {
      writeFileSync(`${layout}/blobs/sha256/${digest.slice(7)}`, new Uint8Array(sizeBytes));
    }
    await blessTo(`${directory}/a`, `oci:${layout}`);
    assertEquals(times(), before);
    assertEquals(filesOf(`${directory}/a`), files);
  });
});

function mtimeOf(directory: string, name: string): number {
  return Deno.statSync(`${directory}/a/${name}`).mtime!.getTime();
}

Deno.test("blessLayered reports the same of images that it uses again", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, LAYERS);
    const out = `${directory}/out`;
    const first = await blessTo(out, `oci:${layout}`);
    const again = await blessTo(out, `oci:${layout}`);
    const asFirst = again.layers.map((layer) => ({ ...layer, isReused: false }));
    assertEquals({ ...again, reusedLayers: 0, layers: asFirst }, first);
    assertEquals(again.reusedLayers, 3);
    rmSync(`${out}/${first.layers[1]!.file}`);
    const mended = await blessTo(out, `oci:${layout}`);
    assertEquals(mended.layers.map(({ isReused }) => isReused), [true, false, true]);
  });
});

Deno.test("blessLayered shares layers between images and keeps the description of each", async () => {
  await withDirectory(async (directory) => {
    const [one, two] = [`${directory}/one`, `${directory}/two`];
    const builtOne = writeLayers(one, LAYERS);
    const builtTwo = writeLayers(two, [LAYERS[0]!, [{ path: "other" }]], { compress: "zstd" });
    const out = `${directory}/out`;
    await blessTo(out, `oci:${one}`);
    const description = readFileSync(`${out}/image.json`);
    const report = await blessTo(out, `oci:${two}`);
    assertEquals(report.layers.map(({ isReused }) => isReused), [true, false]);
    assertEquals(report.layers[0]!.digest, builtTwo.layerDigests[0]);
    const hex = (digest: string) => digest.slice("sha256:".length);
    const kept = (digest: string) => readFileSync(`${out}/image-${hex(digest)}.json`);
    assertEquals(kept(builtOne.manifest.digest), description);
    assertEquals(kept(builtTwo.manifest.digest), readFileSync(`${out}/image.json`));
  });
});

Deno.test("blessLayered reads sources without a manifest, and trusts no diff id that is not checked", async () => {
  await withDirectory(async (directory) => {
    const tar = `${directory}/root.tar`;
    writeFileSync(tar, sampleTar());
    const out = `${directory}/out`;
    const first = await blessTo(out, `tar:${tar}`);
    const again = await blessTo(out, `tar:${tar}`);
    assertEquals([first.reusedLayers, again.reusedLayers], [0, 1]);
    assertEquals(first.manifestDigest, null);
    const description = JSON.parse(readFileSync(`${out}/image.json`, "utf8"));
    assertEquals(description.overlay.emptyDirectories, ["empty"]);
    const layout = `${directory}/layout`;
    const built = writeLayers(layout, [[{ path: "real" }]], {
      changeConfig: (config) => ({
        ...config,
        rootfs: { type: "layers", diff_ids: [first.layers[0]!.diffId] },
      }),
    });
    const report = await blessTo(out, `oci:${layout}`, { verifyDiffIds: false });
    assertEquals(report.layers.map(({ diffId }) => diffId), built.diffIds);
    assertEquals(report.warnings.map(({ kind }) => kind), ["diffIdMismatch"]);
  });
});

Deno.test("blessLayered describes an image without layers", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, []);
    const out = `${directory}/out`;
    const report = await blessTo(out, `oci:${layout}`);
    assertEquals([report.layers.length, report.sizeBytes], [0, 0]);
    assertEquals(readdirSync(out).length, 2);
  });
});

Deno.test("blessLayered refuses other options and damage by name, and replaces just those with force", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, LAYERS);
    const out = `${directory}/out`;
    const first = await blessTo(out, `oci:${layout}`);
    const files = filesOf(out);
    await assertRejects(
      () => blessTo(out, `oci:${layout}`, {}, { gridBytes: 65536 }),
      IoError,
      "made with other options: gridBytes 131072 (wanted 65536)",
    );
    assertEquals(filesOf(out), files);
    const path = `${out}/${first.layers[1]!.file}`;
    const bytes = readFileSync(path);
    bytes[5000]! ^= 1;
    writeFileSync(path, bytes);
    const error = await assertRejects(() => blessTo(out, `oci:${layout}`), IoError);
    assertStringIncludes(error.message, path);
    assertEquals(error.remedies[0]?.option, "force");
    const mended = await blessTo(out, `oci:${layout}`, { force: true });
    assertEquals(mended.layers.map(({ isReused }) => isReused), [true, false, true]);
    assertEquals(filesOf(out), files);
    const other = await blessTo(out, `oci:${layout}`, { force: true }, { gridBytes: 65536 });
    assertEquals(other.reusedLayers, 0);
  });
});

Deno.test("blessLayered refuses what it cannot do before it makes anything", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    writeLayers(layout, LAYERS);
    const out = `${directory}/out`;
    const source = `oci:${layout}`;
    await assertRejects(() => blessTo(out, source, {}, { gridBytes: 5 }), UsageError, "gridBytes");
    await assertRejects(
      () => blessTo(out, source, {}, { uuid: "11111111-1111-1111-1111-111111111111" }),
      UsageError,
      "uuid: needs a source with one layer, and this one has 3",
    );
    await assertRejects(() => blessTo(out, `oci:${directory}/none`), Error, "none");
    await assertRejects(() => blessTo(`${directory}/a/b`, source), IoError, "does not exist");
    await assertRejects(
      () => blessTo(`${layout}/index.json`, source),
      UsageError,
      "is not a directory",
    );
    const many = `${directory}/many`;
    writeLayers(many, Array.from({ length: 501 }, () => [{ path: "a" }]));
    await assertRejects(() => blessTo(out, `oci:${many}`), InputError, "501 layers");
    assertEquals(readdirSync(directory).sort(), ["layout", "many"]);
    mkdirSync(out);
    writeFileSync(`${out}/image.json`, "mine");
    await assertRejects(() => blessTo(out, source), IoError, "already exists");
    assertEquals(readdirSync(out), ["image.json"]);
  });
});

Deno.test("blessLayered leaves nothing half-made of a bad layer, and keeps whole images of good ones", async () => {
  await withDirectory(async (directory) => {
    const bad = `${directory}/bad`;
    const good = buildTar(LAYERS[0]!);
    writeLayers(bad, [], {
      layers: [good, good.subarray(0, 700)],
    });
    const out = `${directory}/out`;
    await assertRejects(() => blessTo(out, `oci:${bad}`), InputError);
    assertEquals(readdirSync(directory), ["bad"]);
    // Here only the tree of the second is bad.
    const late = `${directory}/late`;
    writeLayers(late, [LAYERS[0]!, [{ path: "h", kind: "hardlink", link: "nothing" }]]);
    await assertRejects(() => blessTo(out, `oci:${late}`), InputError, "neither in this layer");
    assertEquals(
      readdirSync(out)
        .map((name) => name.replace(/^\w{64}/, "LAYER").replace(/@\w+/, "@POSITION"))
        .sort(),
      [
        "LAYER.ext4",
        "LAYER.json",
        "LAYER@POSITION.json",
      ],
    );
    const next = `${directory}/next`;
    writeLayers(next, [LAYERS[0]!]);
    assertEquals((await blessTo(out, `oci:${next}`)).reusedLayers, 1);
  });
});

Deno.test("blessLayered leaves nothing half-made when it is stopped, wherever it is", async () => {
  await withDirectory(async (directory) => {
    const layout = `${directory}/layout`;
    const size = 4 << 20;
    writeLayers(layout, [
      [{ path: "a", data: new Uint8Array(size).map((_, i) => i >> 7) }],
      [{ path: "b", data: new Uint8Array(size).map((_, i) => i >> 9) }],
    ], { compress: "none" });
    const source = `oci:${layout}`;
    const stepCount = await stopAfter(`${directory}/all`, source, Infinity).run();
    const stops = [0, 1, 4, stepCount / 2 - 1, stepCount / 2, stepCount - 2, stepCount - 1];
    for (const stop of stops.map(Math.floor)) {
      const out = `${directory}/out-${stop}`;
      await assertRejects(() => stopAfter(out, source, stop).run(), InterruptedError);
      const left = existing(out);
      const images = left.filter((name) => name.endsWith(".ext4"));
      const records = images.map((name) => name.replace("ext4", "json"));
      assertEquals(left.filter((name) => !name.includes("@")), [...images, ...records].sort());
      const whole = await blessTo(out, source);
      assertEquals(whole.reusedLayers, images.length);
    }
  });
});

/** Blesses until writing has come so many steps far; gives the number of steps. */
function stopAfter(outputDir: string, source: string, stop: number) {
  const abort = new AbortController();
  let steps = 0;
  const step = () => {
    if (steps++ === stop) abort.abort();
  };
  const begin: Progress["begin"] = (name) =>
    name === "write" ? { advance: step, end: step } : NO_PROGRESS.begin(name);
  const options = { signal: abort.signal, progress: { begin } };
  return {
    async run(): Promise<number> {
      await blessTo(outputDir, source, options);
      return steps;
    },
  };
}

function existing(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

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
    };
    const { layers: [made] } = await blessTo(`${directory}/out`, `oci:${directory}`);
    const { uuid, sizeBytes } = made!.image;
    const bytes = encodeDescription(image, built.manifest.digest, [{ ...made!, ...layer }]);
    image.close();
    assertEquals(JSON.parse(new TextDecoder().decode(bytes)), {
      kind: "blessfs layered image",
      contentDigest: built.manifest.digest,
      manifestDigest: built.manifest.digest,
      configDigest: built.configDigest,
      platform: "linux/amd64",
      config: CONFIG,
      layers: [{ mountPoint: "0", ...layer, uuid, sizeBytes }],
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
