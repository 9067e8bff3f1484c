/**
 * Fetching an image that another host has made from the chunk store that both have.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RequestError, verdictOf } from "./faults.ts";
import type { ImageDirectory } from "./images.ts";
import { runProgramAgain } from "./program.ts";
import type { ServeSettings } from "./settings.ts";
import type { MeasuredFile } from "./tasks/measure.ts";

/** What is fetched. */
export interface Restoration {
  readonly images: ImageDirectory;
  readonly settings: ServeSettings;
  readonly chunkStore: string;
  readonly index: Uint8Array;
  /** `sha256:HEX` of the file. */
  readonly fileDigest: string;
}

/**
 * Puts the file into the directory of images, checked against its digest.
 *
 * @returns its path
 */
export async function restoreImage(restoration: Restoration): Promise<string> {
  const { images, settings, chunkStore, index, fileDigest } = restoration;
  const known = images.restoredPath(fileDigest);
  if (existsSync(known)) return known;
  const stage = await images.stage("restore");
  try {
    const indexPath = join(stage, "image.caibx");
    const made = join(stage, "image.ext4");
    await writeFile(indexPath, index);
    await run(settings, stage, [
      "restore",
      indexPath,
      `--store=${chunkStore}`,
      `--output=${made}`,
      "--json",
    ]);
    const { files } = await run(settings, stage, [
      "serve-task",
      "measure",
      made,
      `--grid-bytes=${128 << 10}`,
      `--cells=${join(stage, "cells.db")}`,
      "--json",
    ]) as { files: readonly MeasuredFile[] };
    if (files[0]!.digest !== fileDigest) {
      throw new RequestError(503, "damaged_store", `the chunk store gave ${files[0]!.digest}`);
    }
    return await images.keepRestored(fileDigest, made);
  } finally {
    await images.unstage(stage);
  }
}

async function run(
  settings: ServeSettings,
  workDir: string,
  words: readonly string[],
): Promise<unknown> {
  const end = await runProgramAgain(settings.program, {
    words,
    workDir,
    memoryBytes: settings.jobMemoryBytes,
    deadlineMs: settings.deadlineMs,
  });
  const verdict = verdictOf(end, true);
  if (verdict.kind === "done") return verdict.document;
  throw new RequestError(503, verdict.fault.code, verdict.fault.message, {
    headers: { "Retry-After": "5" },
  });
}
