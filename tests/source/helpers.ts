/**
 * What tests of sources share: temporary directories, options, and looking at what was loaded.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { notRun } from "../oracle/notice.ts";
import { closeLayers, loadLayers, openImage, resolveOptions } from "../../lib/source/source.ts";
import type {
  LoadedLayer,
  OpenedImage,
  ResolvedOptions,
  SourceOptions,
} from "../../lib/source/source.ts";
import { buildTar } from "../tar/build.ts";

export { withTemporaryDirectory as withDirectory } from "../oracle/command.ts";

/** Runs a test while there is a socket at a path, which only tar(1) knows what to do with. */
export async function withSocket<T>(path: string, test: () => Promise<T>): Promise<T> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    return await test();
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}

/** Whether GNU tar is there; says so when not. @param what what needs it */
export function hasGnuTar(what: string): boolean {
  try {
    if (execFileSync("tar", ["--version"]).toString().includes("GNU tar")) return true;
  } catch { /* no tar at all */ }
  notRun(what, "GNU tar is missing");
  return false;
}

/** Options with collected warnings and no progress. */
export function testOptions(more: SourceOptions = {}): ResolvedOptions {
  return resolveOptions({ jobs: 2, ...more });
}

/** Every layer goes through a worker. */
export const ALWAYS_WORKER: Partial<ResolvedOptions> = { inlineLayerBytes: -1 };

/** A tar of a few files, bigger and smaller ones. */
export function sampleTar(seed = 1): Uint8Array<ArrayBuffer> {
  const big = new Uint8Array(20_000);
  for (let i = 0; i < big.length; i++) big[i] = (i * 31 * seed + (i >> 7)) & 0xff;
  return buildTar([
    { path: "etc/" },
    { path: "etc/name", data: `layer ${seed}\n`, xattrs: { "user.seed": String(seed) } },
    { path: `big-${seed}`, data: big },
    { path: "link", link: "etc/name" },
  ]);
}

/** The bytes of a loaded layer's store. */
export function storeBytes(layer: LoadedLayer): Uint8Array {
  const bytes = new Uint8Array(layer.store.sizeBytes);
  const count = layer.store.readAt(bytes, 0);
  return bytes.subarray(0, count);
}

/** Opens and loads a source, hands it to a look, and closes it. */
export async function withLoaded<T>(
  source: string,
  options: SourceOptions,
  look: (layers: readonly LoadedLayer[], image: OpenedImage) => T | Promise<T>,
): Promise<T> {
  const image = await openImage(source, options);
  try {
    const layers = await loadLayers(image, options);
    try {
      return await look(layers, image);
    } finally {
      closeLayers(layers);
    }
  } finally {
    image.close();
  }
}

/** Opens and loads a source and lets go of it: for sources that must fail. */
export async function openAndLoad(source: string, options: SourceOptions): Promise<void> {
  await withLoaded(source, options, () => {});
}

/** Files that this process has open below a directory, unlinked ones too; none where the system does not tell. */
export function openFilesBelow(directory: string): string[] {
  let descriptors: string[];
  try {
    descriptors = readdirSync("/proc/self/fd");
  } catch {
    return [];
  }
  return descriptors.flatMap((descriptor) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${descriptor}`);
      return path.startsWith(directory) ? [path] : [];
    } catch {
      return []; // the descriptor that listed the directory
    }
  });
}

/** Bytes that gzip cannot shrink. */
export function noise(lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  let state = 1;
  for (let i = 0; i < lengthBytes; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Both ways that a layer is read, with the options that make it so. */
export const WAYS: readonly [string, Partial<ResolvedOptions>][] = [
  ["in workers", ALWAYS_WORKER],
  ["in workers, with spools of many parts", { ...ALWAYS_WORKER, spoolPartBytes: 700 }],
  ["in place", {}],
];
