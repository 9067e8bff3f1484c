/**
 * The images that are pinned: every tree of trees.ts with the options that matter to it, and the fixtures.
 *
 * @module
 */
import { gunzipSync } from "node:zlib";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { blessLayered } from "../../lib/bless/layered.ts";
import { blessMerged } from "../../lib/bless/merged.ts";
import type { LayoutOptions } from "../../lib/bless/options.ts";
import { LAYERED_DEFAULTS, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { planImage } from "../../lib/bless/plan_image.ts";
import { InputError } from "../../lib/errors.ts";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { Warnings } from "../../lib/warnings.ts";
import { sparseDigestSink, wholeDigestSink } from "./digest_sink.ts";
import { TREES } from "./trees.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const FIXTURES = new URL("../../fixtures/", import.meta.url).pathname;
const CONTENT_DIGEST = `sha256:${"5a".repeat(32)}`;

type Choices = Partial<LayoutOptions> & { readonly timestamp?: number };

const resync = (meanBytes: number, lowBytes: number): Choices => ({
  packing: { kind: "resync", meanBytes, lowBytes },
});

/** Options by what they are called in the names of the pins; each is one way to go away from the defaults. */
const OPTIONS: Readonly<Record<string, Choices>> = {
  "merged": {},
  "layered": LAYERED_DEFAULTS,
  "grid 4K": { gridBytes: 4 * KIB },
  "grid 16K": { gridBytes: 16 * KIB },
  "grid 1M": { gridBytes: 1 * MIB },
  "threshold 4K": { alignThresholdBytes: 4 * KIB },
  "threshold 128K": { alignThresholdBytes: 128 * KIB },
  "threshold 65537": { alignThresholdBytes: 65_537 },
  "threshold none": { alignThresholdBytes: Infinity },
  "resync 256K:64K": resync(256 * KIB, 64 * KIB),
  "tight": { packing: { kind: "tight" } },
  "tight, threshold none": { packing: { kind: "tight" }, alignThresholdBytes: Infinity },
  "resync 128K:32K": resync(128 * KIB, 32 * KIB),
  "resync 64K:0": resync(64 * KIB, 0),
  "resync 1M:256K, grid 64K": { ...resync(1 * MIB, 256 * KIB), gridBytes: 64 * KIB },
  "order path": { payloadOrder: "path" },
  "order layer": { payloadOrder: "layer" },
  "size +0": { size: { kind: "free", freeBytes: 0 } },
  "size +10M": { size: { kind: "free", freeBytes: 10 * MIB } },
  "size +2G": { size: { kind: "free", freeBytes: 2 * GIB } },
  "size 600M": { size: { kind: "total", sizeBytes: 600 * MIB } },
  "size 40G": { size: { kind: "total", sizeBytes: 40 * GIB } },
  "size 1000000001": { size: { kind: "total", sizeBytes: 1_000_000_001 } },
  "journal none": { journalBytes: 0 },
  "journal 5M": { journalBytes: 5 * MIB },
  "journal 200M": { journalBytes: 200 * MIB },
  "backups none": { backups: "none" },
  "backups none, size 600M": { backups: "none", size: { kind: "total", sizeBytes: 600 * MIB } },
  "inline data": { inlineData: true },
  "no checksums": { metadataChecksums: false },
  "no checksums, inline data": { metadataChecksums: false, inlineData: true },
  "compat 3.10": { compat: ["3.10"] },
  "compat 3.10, size 40G": { compat: ["3.10"], size: { kind: "total", sizeBytes: 40 * GIB } },
  "compat 3.10, no checksums": { compat: ["3.10"], metadataChecksums: false },
  "inodes 100000": { inodeCount: 100_000 },
  "inodes 50000, size +64M": { inodeCount: 50_000, size: { kind: "free", freeBytes: 64 * MIB } },
  "reserved 5%": {
    reservedBlocks: { kind: "percent", percent: 5 },
    size: { kind: "free", freeBytes: 8 * MIB },
  },
  "reserved 100000": { reservedBlocks: { kind: "bytes", bytes: 100_000 } },
  "uuid and label": { uuid: "01234567-89ab-cdef-0123-456789abcdef", label: "0123456789abcdef" },
  "timestamp": { timestamp: 1_700_000_000 },
};

/** Trees that take too long for every option, and the options that they are there for. */
const OPTIONS_OF: Readonly<Record<string, readonly string[]>> = {
  names: ["merged", "layered", "no checksums", "compat 3.10", "inline data", "journal 5M"],
  long: ["merged", "layered", "tight", "grid 1M", "threshold none", "backups none"],
};

/** The digests of all images by name; the same names each time, in the same order. */
export async function pinnedDigests(scratch: string): Promise<Record<string, string>> {
  return {
    ...await treeDigests(),
    ...await mergedDigests(scratch),
    ...await layeredDigests(scratch),
  };
}

/** What cannot become an image has no digest: refusing it is the business of other tests. */
async function addDigest(
  digests: Record<string, string>,
  name: string,
  digest: () => Promise<string>,
): Promise<void> {
  try {
    digests[name] = await digest();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
}

async function treeDigests(): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const [treeName, makeTree] of Object.entries(TREES)) {
    const tree = makeTree();
    for (const optionName of OPTIONS_OF[treeName] ?? Object.keys(OPTIONS)) {
      const { timestamp = 0, ...choices } = OPTIONS[optionName]!;
      await addDigest(digests, `tree ${treeName}: ${optionName}`, async () => {
        const sink = sparseDigestSink();
        const plan = planImage(tree, {
          layout: { ...MERGED_DEFAULTS, ...choices },
          contentDigest: CONTENT_DIGEST,
          timestamp,
          warnings: new Warnings(),
        });
        await writeImage(plan, sink, { progress: NO_PROGRESS });
        return sink.digest();
      });
    }
  }
  return digests;
}

/** Every fixture that is a source; ext4 images are unpacked into `scratch`. */
function fixtureSources(scratch: string): Record<string, string> {
  const sources: Record<string, string> = { "oci-tiny": `oci:${FIXTURES}oci-tiny` };
  for (const name of readdirSync(`${FIXTURES}tar`).sort()) {
    if (name.endsWith(".tar")) sources[`tar/${name}`] = `tar:${FIXTURES}tar/${name}`;
  }
  for (const name of readdirSync(`${FIXTURES}ext4`).sort()) {
    if (!name.endsWith(".img.gz")) continue;
    const image = join(scratch, name.slice(0, -".gz".length));
    writeFileSync(image, gunzipSync(readFileSync(`${FIXTURES}ext4/${name}`)));
    sources[`ext4/${name}`] = `ext4:${image}`;
  }
  return sources;
}

async function mergedDigests(scratch: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const [name, source] of Object.entries(fixtureSources(scratch))) {
    for (const optionName of ["merged", "threshold none", "journal none"]) {
      await addDigest(digests, `fixture ${name}: ${optionName}`, async () => {
        const sink = wholeDigestSink();
        const layout = { ...MERGED_DEFAULTS, ...OPTIONS[optionName] };
        await blessMerged({
          source,
          layout,
          sink,
          progress: NO_PROGRESS,
          warnings: new Warnings(),
        });
        return sink.digest();
      });
    }
  }
  return digests;
}

async function layeredDigests(scratch: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  const source = `oci:${FIXTURES}oci-tiny`;
  for (const optionName of ["layered", "grid 16K", "journal 5M"]) {
    const outputDir = join(scratch, `layered ${optionName}`);
    const layout = { ...LAYERED_DEFAULTS, ...OPTIONS[optionName] };
    const { layers } = await blessLayered({
      source,
      layout,
      outputDir,
      progress: NO_PROGRESS,
      warnings: new Warnings(),
    });
    layers.forEach(({ file }, i) => {
      const sink = wholeDigestSink();
      const bytes = readFileSync(join(outputDir, file));
      sink.write(bytes, 0);
      sink.finish(bytes.length);
      digests[`fixture oci-tiny: layer ${i}, ${optionName}`] = sink.digest();
    });
  }
  return digests;
}
