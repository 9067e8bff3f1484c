import { assert } from "@std/assert";
import { createHash } from "node:crypto";
import { readFileSync, rmSync, statSync } from "node:fs";
import { deflateRawSync } from "node:zlib";
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

Deno.test("twenty rebuilds do not decay, and each is clean and equal to its tree", async () => {
  const mounts = kernelOrNotice("mounting rebuilt images");
  for (const keepStale of [false, true]) {
    await withDirectory(async (scratch) => {
      const random = new Random(4321);
      let tree = firstTree(random, 400);
      await makeImage(`${scratch}/0`, tree);
      for (let i = 1; i <= 20; i++) {
        tree = changedTree(tree, random, 0.01);
        const made = await rebuild(`${scratch}/${i}`, tree, `${scratch}/${i - 1}`, { keepStale });
        await assertRebuilt(made, mounts);
        rmSync(`${scratch}/${i - 1}`);
      }
      const { plan } = await makeImage(`${scratch}/fresh`, tree);
      const [last, fresh] = [`${scratch}/20`, `${scratch}/fresh`].map(storedBytes);
      assert(last! <= fresh! * 1.05, `${last} stored bytes, ${fresh} of a fresh one`);
      const { sizeBytes } = plan.summary;
      assert(statSync(`${scratch}/20`).size <= sizeBytes * 1.25 + 64 * plan.gridBlocks * 4096);
    });
  }
});

/** What a store keeps of an image: its different cells, compressed. */
function storedBytes(path: string): number {
  const image = readFileSync(path);
  const stored = new Map<string, number>();
  for (let at = 0; at < image.length; at += 128 * KIB) {
    const cell = image.subarray(at, at + 128 * KIB);
    if (cell.every((byte) => byte === 0)) continue;
    stored.set(createHash("sha256").update(cell).digest("hex"), deflateRawSync(cell).length);
  }
  return [...stored.values()].reduce((sum, bytes) => sum + bytes, 0);
}
