import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import {
  type LayerPlace,
  type LayerPlacement,
  placeKey,
} from "../../lib/bless/layered_placement.ts";
import { encodeRecord, optionFacts } from "../../lib/bless/layered_record.ts";
import { isTaken, LayerStore, type LayerStoreOptions } from "../../lib/bless/layered_store.ts";
import { LAYERED_DEFAULTS } from "../../lib/bless/options.ts";
import { FORMAT_VERSION, planImage } from "../../lib/bless/plan_image.ts";
import { imageReport } from "../../lib/bless/report.ts";
import { InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { Warnings } from "../../lib/warnings.ts";
import { withDirectory } from "../source/helpers.ts";
import { layersOf, treeOptions } from "../tree/layers.ts";
import { filesOf } from "./layered_helpers.ts";

const DIFF_ID = `sha256:${"1".repeat(64)}`;
const OPTIONS = optionFacts(LAYERED_DEFAULTS, 0);

function storeIn(directory: string, more: Partial<LayerStoreOptions> = {}): LayerStore {
  return new LayerStore(directory, {
    options: OPTIONS,
    force: false,
    progress: NO_PROGRESS,
    ...more,
  });
}

const TREE = `sha256:${"3".repeat(64)}`;

function planOf() {
  const tree = buildTree(layersOf([[{ path: "d/" }, { path: "s", link: "d" }]]), treeOptions());
  return planImage(tree, {
    layout: LAYERED_DEFAULTS,
    contentDigest: TREE,
    timestamp: 0,
    warnings: new Warnings(),
  });
}

async function addTo(store: LayerStore, diffId = DIFF_ID) {
  const plan = planOf();
  return await store.add("image", plan, (written) => ({
    diffId,
    tree: TREE,
    image: imageReport(plan, written),
    warnings: [],
  }));
}

Deno.test("LayerStore finds again what it added, and nothing in an empty directory", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    assertEquals(await store.find("image", DIFF_ID), undefined);
    const record = await addTo(store);
    assertEquals(await store.find("image", DIFF_ID), record);
    assertEquals(await storeIn(directory).find("image", DIFF_ID), record);
    assertEquals(readdirSync(directory).sort(), ["image.ext4", "image.json"]);
    assertEquals(readFileSync(`${directory}/image.ext4`).length, record.checksums.sizeBytes);
  });
});

const PLACE: LayerPlace = {
  diffId: DIFF_ID,
  chainKey: DIFF_ID,
  digest: undefined,
  mediaType: "x/y",
  sizeBytes: 7,
};
const PLACEMENT: LayerPlacement = {
  place: placeKey(PLACE),
  tree: TREE,
  facts: { digest: DIFF_ID, sizeBytes: 1, uncompressedBytes: 1, entries: 2 },
  warnings: [],
};

Deno.test("LayerStore keeps what is known of a layer in its place, and forgets it when it is damaged", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    assertEquals(store.placementOf(PLACE), undefined);
    await store.addPlacement(PLACE, PLACEMENT);
    assertEquals(storeIn(directory).placementOf(PLACE), PLACEMENT);
    assertEquals(store.placementOf({ ...PLACE, sizeBytes: 8 }), undefined);
    const [name] = readdirSync(directory);
    const path = `${directory}/${name}`;
    const bytes = readFileSync(path);
    for (const spoilt of [bytes.subarray(0, 20), Uint8Array.from(bytes, (byte) => byte ^ 1)]) {
      writeFileSync(path, spoilt);
      assertEquals(store.placementOf(PLACE), undefined);
    }
    // The right name with what belongs to another place.
    await store.addPlacement(PLACE, { ...PLACEMENT, place: "another" });
    assertEquals(store.placementOf(PLACE), undefined);
    rmSync(path);
    mkdirSync(path);
    assertEquals(store.placementOf(PLACE), undefined);
  });
});

Deno.test("LayerStore takes over an image without a record when it is just what would be made", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    assertEquals(store.isUnrecorded("image"), false);
    const { checksums, options: _, ...body } = await addTo(store);
    assertEquals(store.isUnrecorded("image"), false);
    const files = filesOf(directory);
    rmSync(`${directory}/image.json`);
    const next = storeIn(directory);
    assertEquals(next.isUnrecorded("image"), true);
    assertEquals(storeIn(directory, { force: true }).isUnrecorded("image"), false);
    assertEquals(await next.find("image", DIFF_ID), undefined);
    assertEquals((await next.adopt("image", body, checksums))?.checksums, checksums);
    assertEquals(filesOf(directory), files);
    rmSync(`${directory}/image.json`);
    const error = await assertRejects(
      () => storeIn(directory).adopt("image", body, { ...checksums, crc32s: [1] }),
      IoError,
      "image.json is missing, and it is not what would be made: it was changed in bytes 0 to",
    );
    assertEquals(error.remedies[0]?.option, "force");
  });
});

Deno.test("LayerStore waits for the record of an image that another process has just made", async () => {
  await withDirectory(async (directory) => {
    const { checksums, options: _, ...body } = await addTo(storeIn(directory));
    const record = readFileSync(`${directory}/image.json`);
    rmSync(`${directory}/image.json`);
    const store = storeIn(directory);
    setTimeout(() => writeFileSync(`${directory}/image.json`, record), 20);
    assertEquals(await store.adopt("image", body, { ...checksums, crc32s: [1] }), undefined);
    assertEquals((await store.find("image", DIFF_ID))?.tree, TREE);
  });
});

Deno.test("LayerStore refuses what it cannot prove, and replaces it only when it is told to", async () => {
  const spoils: [reason: string, spoil: (path: string) => void][] = [
    ["is not valid JSON", (path) => writeFileSync(`${path}.json`, "{")],
    ["is not its record", (path) => {
      rmSync(`${path}.json`);
      mkdirSync(`${path}.json`);
    }],
    ["bytes: wanted", (path) => writeFileSync(`${path}.ext4`, "")],
    ["was changed in bytes 0 to", (path) => {
      const bytes = readFileSync(`${path}.ext4`);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(`${path}.ext4`, bytes);
    }],
  ];
  for (const [reason, spoil] of spoils) {
    await withDirectory(async (directory) => {
      await addTo(storeIn(directory));
      spoil(`${directory}/image`);
      const error = await assertRejects(
        () => storeIn(directory).find("image", DIFF_ID),
        IoError,
        "cannot be used again: ",
      );
      assertStringIncludes(error.message, reason);
      const forced = storeIn(directory, { force: true });
      assertEquals(await forced.find("image", DIFF_ID), undefined);
      if (reason === "is not its record") rmSync(`${directory}/image.json`, { recursive: true });
      const record = await addTo(forced);
      assertEquals(await storeIn(directory).find("image", DIFF_ID), record);
    });
  }
});

Deno.test("isTaken tells a name that another took from other failures", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    await addTo(store);
    const error = await assertRejects(() => addTo(storeIn(directory)), IoError);
    assertEquals(isTaken(error), true);
    assertEquals(isTaken(new IoError("x", "y", { data: { code: "ENOSPC" } })), false);
    assertEquals(isTaken(new Error("x")), false);
  });
});

Deno.test("LayerStore names the options that an image was made with", async () => {
  await withDirectory(async (directory) => {
    await addTo(storeIn(directory));
    const options = optionFacts({ ...LAYERED_DEFAULTS, gridBytes: 65536, label: "x" }, 0);
    await assertRejects(
      () => storeIn(directory, { options }).find("image", DIFF_ID),
      IoError,
      'it was made with other options: gridBytes 131072 (wanted 65536), label "" (wanted "x")',
    );
    await assertRejects(
      () => storeIn(directory).find("image", `sha256:${"2".repeat(64)}`),
      IoError,
      "is the record of another layer",
    );
  });
});

Deno.test("LayerStore refuses a directory and a dangling link in the place of an image, forced or not", async () => {
  await withDirectory(async (directory) => {
    mkdirSync(`${directory}/directory.ext4`);
    symlinkSync("nowhere", `${directory}/link.ext4`);
    for (const force of [false, true]) {
      const store = storeIn(directory, { force });
      await assertRejects(() => store.find("directory", DIFF_ID), UsageError, "is a directory");
      await assertRejects(() => store.find("link", DIFF_ID), IoError, "link to nothing");
    }
  });
});

Deno.test("LayerStore leaves nothing behind when an image cannot be finished", async () => {
  await withDirectory(async (directory) => {
    await assertRejects(
      () => addTo(storeIn(directory, { signal: AbortSignal.abort() })),
      InterruptedError,
    );
    assertEquals(readdirSync(directory), []);
    // Another took the name after it was looked for, so the record is that one's to make.
    const late = storeIn(directory);
    assertEquals(await late.find("image", DIFF_ID), undefined);
    writeFileSync(`${directory}/image.ext4`, "another");
    await assertRejects(() => addTo(late), IoError, "already exists");
    assertEquals(readdirSync(directory), ["image.ext4"]);
    assertEquals(readFileSync(`${directory}/image.ext4`, "utf8"), "another");
  });
});

Deno.test("LayerStore records an image that has its name, whatever signal comes then", async () => {
  await withDirectory(async (directory) => {
    const stop = new AbortController();
    const store = storeIn(directory, { signal: stop.signal });
    const plan = planOf();
    const adding = store.add("image", plan, (written) => {
      const poll = setInterval(() => {
        if (!readdirSync(directory).includes("image.ext4")) return;
        clearInterval(poll);
        stop.abort();
      }, 0);
      return { diffId: DIFF_ID, tree: TREE, image: imageReport(plan, written), warnings: [] };
    });
    await adding;
    assertEquals(readdirSync(directory).sort(), ["image.ext4", "image.json"]);
    assertEquals((await storeIn(directory).find("image", DIFF_ID))?.tree, TREE);
    await new Promise((resolve) => setTimeout(resolve, 5));
  });
});

Deno.test("LayerStore drops the record of an image that is gone before another takes its name", async () => {
  await withDirectory(async (directory) => {
    const { checksums } = await addTo(storeIn(directory));
    rmSync(`${directory}/image.ext4`);
    writeFileSync(`${directory}/image.json`, "of another");
    const store = storeIn(directory);
    assertEquals(await store.find("image", DIFF_ID), undefined);
    assertEquals((await addTo(store)).checksums, checksums);
    assertEquals((await storeIn(directory).find("image", DIFF_ID))?.tree, TREE);
  });
});

Deno.test("an image of another format version is not used again", async () => {
  await withDirectory(async (directory) => {
    const record = await addTo(storeIn(directory));
    assertEquals(record.formatVersion, FORMAT_VERSION);
    const later = encodeRecord({ ...record, formatVersion: FORMAT_VERSION + 1 });
    writeFileSync(`${directory}/image.json`, later);
    const error = await assertRejects(() => storeIn(directory).find("image", DIFF_ID), IoError);
    assertStringIncludes(
      error.message,
      `format version is ${FORMAT_VERSION + 1}: wanted ${FORMAT_VERSION}`,
    );
    assertEquals(await storeIn(directory, { force: true }).find("image", DIFF_ID), undefined);
  });
});
