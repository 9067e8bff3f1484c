import type { LayoutOptions } from "../../lib/bless/options.ts";
import { withDirectory } from "../source/helpers.ts";
import { makeImage } from "../ext4/made_image.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { Random } from "../oracle/noise.ts";
import { assertRebuilt, changedTree, firstTree, rebuild } from "./like_chain.ts";

const KIB = 1024;
const WAYS: readonly (Partial<LayoutOptions> & { keepStale?: boolean })[] = [
  {},
  { keepStale: true },
  { packing: { kind: "tight" }, keepStale: true },
  { packing: { kind: "resync", meanBytes: 256 * KIB, lowBytes: 64 * KIB } },
  { alignThresholdBytes: Infinity, journalBytes: 0 },
  { gridBytes: 4 * KIB, alignThresholdBytes: 4 * KIB },
  { gridBytes: 1024 * KIB, keepStale: true },
  { metadataChecksums: false },
  { compat: ["3.10"], keepStale: true },
  { inlineData: true },
  { backups: "none", journalBytes: 0, keepStale: true },
  { size: { kind: "free", freeBytes: 200 * 1024 * KIB } },
  { size: { kind: "total", sizeBytes: 300 * 1024 * KIB }, keepStale: true },
];

Deno.test("chains of rebuilds under every kind of option stay sound and equal to their trees", async () => {
  const mounts = kernelOrNotice("mounting rebuilt images");
  for (const [way, choices] of WAYS.entries()) {
    await withDirectory(async (scratch) => {
      const random = new Random(1000 + way);
      let tree = firstTree(random, 150);
      const { keepStale: _, ...layout } = choices;
      await makeImage(`${scratch}/0`, tree, layout);
      for (let i = 1; i <= 5; i++) {
        tree = changedTree(tree, random, 0.03 * i);
        const made = await rebuild(`${scratch}/${i}`, tree, `${scratch}/${i - 1}`, choices);
        await assertRebuilt(made, mounts);
      }
    });
  }
});
