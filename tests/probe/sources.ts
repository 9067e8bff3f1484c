/**
 * What tests of the probe share: options, and sources with something in common.
 *
 * @module
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { Warnings } from "../../lib/warnings.ts";
import type { ResolvedProbeOptions } from "../../probe/schemes.ts";
import { Random } from "../oracle/noise.ts";
import { buildTar } from "../tar/build.ts";

const KIB = 1024;

/** The usual options, without compression. */
export function optionsFor(
  sources: readonly string[],
  change: Partial<ResolvedProbeOptions> = {},
): ResolvedProbeOptions {
  return {
    sources,
    mode: "merged",
    asIs: false,
    thresholds: [64 * KIB],
    packings: [{ kind: "resync", meanBytes: 256 * KIB, lowBytes: 64 * KIB }, { kind: "tight" }],
    grids: [128 * KIB],
    chunker: undefined,
    compression: { kind: "none" },
    selfShift: false,
    pairwise: false,
    explain: false,
    timestamp: 0,
    progress: NO_PROGRESS,
    warnings: new Warnings(),
    ...change,
  };
}

/** Bytes that repeat nothing. */
export function noise(seed: number, sizeBytes: number): Uint8Array {
  const random = new Random(seed);
  const words = Uint32Array.from({ length: Math.ceil(sizeBytes / 4) }, () => random.next());
  return new Uint8Array(words.buffer).subarray(0, sizeBytes);
}

/** Two tars: large and small files that both have, and some that only one has. */
export async function withTars(
  use: (sources: string[], directory: string) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "blessfs-probe-"));
  const shared = [
    { path: "large", data: noise(1, 700 * KIB + 5) },
    ...Array.from({ length: 40 }, (_, i) => ({ path: `m${i}`, data: noise(50 + i, 9000) })),
    { path: "sparse", data: { sizeBytes: 2 ** 22, parts: [[2 ** 21, noise(2, 200 * KIB)]] } },
  ] as const;
  try {
    const sources = ["a", "b"].map((name, i) => {
      const own = [{ path: name, data: noise(7 + i, 20_000 + 9000 * i) }];
      const path = join(directory, `${name}.tar`);
      writeFileSync(path, buildTar([...own, ...shared]));
      return `tar:${path}`;
    });
    await use(sources, directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
