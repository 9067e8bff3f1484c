/**
 * Builds small image archives for tests.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "../../lib/bytes/digest.ts";
import { buildTar, type SimpleEntry } from "../tar/build.ts";
import {
  type Blobs,
  buildImage,
  type ImageSpec,
  jsonBytes,
  layoutFiles,
  named,
} from "./build_layout.ts";
import {
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  withDirectory,
  withLoaded,
} from "./helpers.ts";

/** The layers of the archives. */
export const TARS: readonly Uint8Array<ArrayBuffer>[] = [sampleTar(1), sampleTar(2)];

/** A layout as a tar's entries. */
export function layoutEntries(spec: Partial<ImageSpec> = {}, prefix = ""): SimpleEntry[] {
  const blobs: Blobs = new Map();
  const { manifest } = buildImage(blobs, { layers: TARS, ...spec });
  const files = layoutFiles(blobs, { schemaVersion: 2, manifests: [named(manifest, "latest")] });
  const directories = ["", "blobs/", "blobs/sha256/"].map((path) => ({ path: prefix + path }));
  return [
    ...directories.filter(({ path }) => path !== ""),
    ...[...files].map(([path, data]) => ({ path: prefix + path, data })),
  ];
}

/** Old docker save: layers in directories, a repeated one as a link. */
export function oldDockerEntries(tags: readonly string[] | null = ["app:1"]): SimpleEntry[] {
  const config = jsonBytes({
    os: "linux",
    architecture: "amd64",
    rootfs: { type: "layers", diff_ids: [...TARS, TARS[0]!].map((tar) => digestOf(tar)) },
  });
  const hex = digestOf(config).slice(7);
  const manifest = [{
    Config: `${hex}.json`,
    RepoTags: tags,
    Layers: ["a", "b", "c"].map((id) => `${id}/layer.tar`),
  }];
  return [
    { path: "a/" },
    { path: "a/VERSION", data: "1.0" },
    { path: "a/layer.tar", data: TARS[0]! },
    { path: "b/layer.tar", data: TARS[1]! },
    { path: "c/layer.tar", link: "../a/layer.tar" },
    { path: `${hex}.json`, data: config },
    { path: "manifest.json", data: jsonBytes(manifest) },
    { path: "repositories", data: "{}" },
  ];
}

/** What docker save writes since version 25: both forms over the same blobs. */
export function newDockerEntries(spec: Partial<ImageSpec> = {}): SimpleEntry[] {
  const blobs: Blobs = new Map();
  const { manifest, configDigest, layerDigests } = buildImage(blobs, {
    layers: TARS,
    compress: "none",
    ...spec,
  });
  const entry = named(manifest, "1");
  entry.annotations!["io.containerd.image.name"] = "docker.io/library/app:1";
  const blobPath = (digest: string) => `blobs/${digest.replace(":", "/")}`;
  const saved = [{
    Config: blobPath(configDigest),
    RepoTags: ["app:1"],
    Layers: layerDigests.map(blobPath),
  }];
  const files = layoutFiles(blobs, { schemaVersion: 2, manifests: [entry] });
  return [
    ...[...files].map(([path, data]) => ({ path, data })),
    { path: "manifest.json", data: jsonBytes(saved) },
  ];
}

/** Writes a tar of entries and hands over its path. */
export async function withArchive(
  entries: readonly SimpleEntry[],
  test: (path: string, directory: string) => Promise<void>,
  store: (tar: Uint8Array) => Uint8Array = (tar) => tar,
): Promise<void> {
  await withDirectory(async (directory) => {
    const path = join(directory, "archive");
    writeFileSync(path, store(buildTar(entries)));
    await test(path, directory);
    assertEquals(openFilesBelow(directory), []);
  });
}

/** Loads a source and compares its layers with the tars. */
export async function givesTars(source: string, tars: readonly Uint8Array[] = TARS): Promise<void> {
  await withLoaded(source, testOptions(), (layers) => {
    assertEquals(layers.map(({ diffId }) => diffId), tars.map((tar) => digestOf(tar)));
    layers.forEach((layer, i) => assertEquals(storeBytes(layer), tars[i]!));
    assertEquals(layers.every(({ whiteouts }) => whiteouts), true);
  });
}
