import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { layerFileName, optionFacts, treeFileName } from "../../lib/bless/layered_records.ts";
import { LayerImages, type LayerImagesOptions } from "../../lib/bless/layered_images.ts";
import { LayerStore } from "../../lib/bless/layered_store.ts";
import { LAYERED_DEFAULTS } from "../../lib/bless/options.ts";
import { InputError } from "../../lib/errors.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { openImage } from "../../lib/source/source.ts";
import { Warnings } from "../../lib/warnings.ts";
import { testOptions, withDirectory } from "../source/helpers.ts";
import type { SimpleEntry } from "../tar/build.ts";
import { filesOf, writeLayers } from "./layered_helpers.ts";

type Layers = readonly (readonly SimpleEntry[])[];

let layoutCount = 0;

/** The images of a source of such layers, in the store of `directory`. */
async function imagesOf(
  directory: string,
  layers: Layers,
  more: Partial<LayerImagesOptions> = {},
  storeDirectory = directory,
) {
  const layout = `${directory}/layout-${layoutCount++}`;
  writeLayers(layout, layers);
  const options = { ...testOptions(), layout: LAYERED_DEFAULTS, timestamp: 0, ...more };
  const store = new LayerStore(storeDirectory, {
    options: optionFacts(LAYERED_DEFAULTS, 0),
    force: false,
    progress: NO_PROGRESS,
  });
  const image = await openImage(`oci:${layout}`, options);
  try {
    return await new LayerImages(store, options).ofAll(image);
  } finally {
    image.close();
  }
}

function imageFiles(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.endsWith(".ext4"));
}

const BASE: readonly SimpleEntry[] = [{ path: "./", mode: 0o711 }, { path: "d/", mode: 0o700 }];
const OTHER_BASE: readonly SimpleEntry[] = [{ path: "./", mode: 0o711 }, {
  path: "d/",
  mode: 0o750,
}];
/** Its directory has the attributes that it has below. */
const LEANING: readonly SimpleEntry[] = [{ path: "d/f", data: "1" }];
const STANDING: readonly SimpleEntry[] = [{ path: "./", mode: 0o755 }, { path: "x", data: "1" }];

Deno.test("LayerImages uses an image again, on the same layers and on others where its bytes are the same", async () => {
  await withDirectory(async (directory) => {
    const first = await imagesOf(directory, [BASE, STANDING]);
    assertEquals(first.map(({ isReused }) => isReused), [false, false]);
    const again = await imagesOf(directory, [BASE, STANDING]);
    assertEquals(again.map(({ isReused }) => isReused), [true, true]);
    const elsewhere = await imagesOf(directory, [OTHER_BASE, STANDING]);
    assertEquals(elsewhere.map(({ isReused }) => isReused), [false, true]);
    assertEquals(elsewhere[1]!.name, first[1]!.name);
    // From then on it need not be read.
    const known = await imagesOf(directory, [OTHER_BASE, STANDING]);
    assertEquals(known.map(({ isReused }) => isReused), [true, true]);
    assertEquals(imageFiles(directory).length, 3);
  });
});

Deno.test("LayerImages gives a layer another image where it shows another tree", async () => {
  await withDirectory(async (directory) => {
    const [, first] = await imagesOf(directory, [BASE, LEANING]);
    const [, other] = await imagesOf(directory, [OTHER_BASE, LEANING]);
    assertEquals(first!.name, layerFileName(first!.record.diffId));
    assertEquals(other!.record.diffId, first!.record.diffId);
    assertEquals(other!.name, treeFileName(other!.record.diffId, other!.record.tree));
    assertNotEquals(other!.record.image.uuid, first!.record.image.uuid);
    const again = [
      ...await imagesOf(directory, [OTHER_BASE, LEANING]),
      ...await imagesOf(directory, [BASE, LEANING]),
    ];
    assertEquals(again.map(({ isReused }) => isReused), [true, true, true, true]);
    assertEquals([again[1]!.name, again[3]!.name], [other!.name, first!.name]);
  });
});

Deno.test("LayerImages makes the same images in any order, and the same files where no layer shows two trees", async () => {
  await withDirectory(async (directory) => {
    const sources = [
      [BASE, LEANING, STANDING],
      [BASE, LEANING],
      [OTHER_BASE, STANDING],
      [STANDING, BASE],
      [BASE, STANDING, []],
    ];
    const stores = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]].map((order) => {
      const store = `${directory}/${order.join("")}`;
      mkdirSync(store);
      return { order, store };
    });
    for (const { order, store } of stores) {
      for (const i of order) await imagesOf(directory, sources[i]!, {}, store);
    }
    const [first, ...others] = stores.map(({ store }) => filesOf(store));
    for (const other of others) assertEquals(other, first);
    // With a layer that shows another tree, only one of its names depends on the order.
    for (const { order, store } of stores) {
      const more = [[OTHER_BASE, LEANING, STANDING], [OTHER_BASE, LEANING]];
      if (order[0] === 4) rmSync(store, { recursive: true });
      mkdirSync(store, { recursive: true });
      for (const layers of more) await imagesOf(directory, layers, {}, store);
      for (const i of order) await imagesOf(directory, sources[i]!, {}, store);
    }
    const contents = stores.map(({ store }) =>
      Object.entries(filesOf(store)).filter(([name]) => name.endsWith(".ext4"))
        .map(([, digest]) => digest).sort()
    );
    for (const other of contents) assertEquals(other, contents[0]);
    const [name, otherName] = stores.map(({ store }) =>
      imageFiles(store).find((file) => file.includes("-"))
    );
    assertNotEquals(name, otherName);
  });
});

Deno.test("LayerImages takes over what a process made that was stopped before it could record it", async () => {
  await withDirectory(async (directory) => {
    const layers = [BASE, LEANING];
    await imagesOf(directory, layers);
    const files = filesOf(directory);
    for (const name of Object.keys(files)) {
      if (name.endsWith(".json")) rmSync(`${directory}/${name}`);
    }
    const used = await imagesOf(directory, layers);
    assertEquals(used.map(({ isReused }) => isReused), [true, true]);
    const left = filesOf(directory);
    for (const [name, digest] of Object.entries(files)) {
      if (!name.startsWith("layout")) assertEquals(left[name], digest, name);
    }
  });
});

Deno.test("LayerImages keeps one image of a layer that comes twice, or two where they differ", async () => {
  await withDirectory(async (directory) => {
    const empty: readonly SimpleEntry[] = [];
    const layers = [BASE, empty, empty, STANDING, empty];
    const used = await imagesOf(directory, layers);
    assertEquals(used.map(({ isReused }) => isReused), [false, false, true, false, false]);
    assertEquals(used[2]!.name, used[1]!.name);
    assertEquals(used[4]!.name.startsWith(`${used[1]!.name}-`), true, "the root is another");
    const again = await imagesOf(directory, layers);
    assertEquals(again.map(({ name }) => name), used.map(({ name }) => name));
    assertEquals(again.every(({ isReused }) => isReused), true);
  });
});

Deno.test("LayerImages finds the layer's facts and warnings again without reading it", async () => {
  await withDirectory(async (directory) => {
    const twice: readonly SimpleEntry[] = [{ path: "a", data: "1" }, { path: "a", data: "2" }, {
      path: "t",
      mtime: 2 ** 40,
    }];
    const first = new Warnings();
    const made = await imagesOf(directory, [BASE, twice], { warnings: first });
    const second = new Warnings();
    const found = await imagesOf(directory, [BASE, twice], { warnings: second });
    assertEquals(first.list().map(({ kind }) => kind), ["clampedTime", "duplicatePath"]);
    assertEquals(second.list(), first.list());
    assertEquals(found.map(({ report }) => report), made.map(({ report }) => report));
    await assertRejects(
      () => imagesOf(directory, [BASE, twice], { warnings: new Warnings(true) }),
      InputError,
    );
    // Above other layers it is read, but not made again.
    const third = new Warnings();
    await imagesOf(directory, [OTHER_BASE, twice], { warnings: third });
    assertEquals(third.list(), first.list());
  });
});

Deno.test("LayerImages makes the same in two stores", async () => {
  await withDirectory(async (directory) => {
    const [a, b] = [`${directory}/a`, `${directory}/b`];
    for (const store of [a, b]) Deno.mkdirSync(store);
    const layers = [BASE, LEANING, STANDING];
    const one = await imagesOf(directory, layers, {}, a);
    const two = await imagesOf(directory, layers, { jobs: 1, inlineLayerBytes: -1 }, b);
    assertEquals(two, one);
  });
});

Deno.test("LayerImages of two runs at a time share what either makes", async () => {
  await withDirectory(async (directory) => {
    const runs = await Promise.all(
      [BASE, BASE, OTHER_BASE].map((base) => imagesOf(directory, [base, STANDING])),
    );
    const names = new Set(runs.flat().map(({ name }) => `${name}.ext4`));
    assertEquals([...names].sort(), imageFiles(directory).sort());
    for (const base of [BASE, OTHER_BASE]) {
      const again = await imagesOf(directory, [base, STANDING]);
      assertEquals(again.every(({ isReused }) => isReused), true);
    }
  });
});
