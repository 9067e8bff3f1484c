import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { optionFacts } from "../../lib/bless/layered_record.ts";
import { LayerStore, type LayerStoreOptions } from "../../lib/bless/layered_store.ts";
import { LAYERED_DEFAULTS } from "../../lib/bless/options.ts";
import { planImage } from "../../lib/bless/plan_image.ts";
import { imageReport } from "../../lib/bless/report.ts";
import { InterruptedError, IoError, UsageError } from "../../lib/errors.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { Warnings } from "../../lib/warnings.ts";
import { withDirectory } from "../source/helpers.ts";
import { layersOf, treeOptions } from "../tree/layers.ts";

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

async function addTo(store: LayerStore, diffId = DIFF_ID) {
  const tree = buildTree(layersOf([[{ path: "d/" }, { path: "s", link: "d" }]]), treeOptions());
  const plan = planImage(tree, {
    layout: LAYERED_DEFAULTS,
    contentDigest: diffId,
    timestamp: 0,
    warnings: new Warnings(),
  });
  return await store.add("image", plan, (written) => ({
    diffId,
    chains: [diffId],
    facts: { digest: diffId, sizeBytes: 1, uncompressedBytes: 1, entries: 2 },
    image: imageReport(plan, written),
    readWarnings: [],
    planWarnings: [],
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

Deno.test("LayerStore remembers other layers that an image is right on", async () => {
  await withDirectory(async (directory) => {
    const store = storeIn(directory);
    const record = await addTo(store);
    const extended = await store.addChain("image", record, "sha256:other");
    assertEquals(extended.chains, [DIFF_ID, "sha256:other"]);
    assertEquals(await storeIn(directory).find("image", DIFF_ID), extended);
  });
});

Deno.test("LayerStore refuses what it cannot prove, and replaces it only when it is told to", async () => {
  const spoils: [reason: string, spoil: (path: string) => void][] = [
    ["record", (path) => rmSync(`${path}.json`)],
    ["is no JSON", (path) => writeFileSync(`${path}.json`, "{")],
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

Deno.test("LayerStore names the options that an image was made with", async () => {
  await withDirectory(async (directory) => {
    await addTo(storeIn(directory));
    const options = optionFacts({ ...LAYERED_DEFAULTS, gridBytes: 65536, label: "x" }, 0);
    await assertRejects(
      () => storeIn(directory, { options }).find("image", DIFF_ID),
      IoError,
      'it was made with --grid 131072 (wanted 65536), --label "" (wanted "x")',
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
    // Another took the name after it was looked for, so the record is that one's to keep or to make.
    const late = storeIn(directory);
    assertEquals(await late.find("image", DIFF_ID), undefined);
    writeFileSync(`${directory}/image.ext4`, "another");
    await assertRejects(() => addTo(late), IoError, "already exists");
    assertEquals(readdirSync(directory), ["image.ext4"]);
    assertEquals(readFileSync(`${directory}/image.ext4`, "utf8"), "another");
  });
});

Deno.test("LayerStore takes its record back when the image does not get its name", async () => {
  await withDirectory(async (directory) => {
    const stop = new AbortController();
    const store = storeIn(directory, { signal: stop.signal });
    const plan = planImage(buildTree([], treeOptions()), {
      layout: LAYERED_DEFAULTS,
      contentDigest: DIFF_ID,
      timestamp: 0,
      warnings: new Warnings(),
    });
    await assertRejects(
      () =>
        store.add("image", plan, (written) => {
          // Comes while the record is on its way to the disk.
          setTimeout(() => stop.abort(), 0);
          return {
            diffId: DIFF_ID,
            chains: [],
            facts: { digest: "", sizeBytes: 0, uncompressedBytes: 0, entries: 0 },
            image: imageReport(plan, written),
            readWarnings: [],
            planWarnings: [],
          };
        }),
      InterruptedError,
    );
    assertEquals(readdirSync(directory), []);
  });
});
