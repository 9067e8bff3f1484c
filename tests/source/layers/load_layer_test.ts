import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { InputError, InterruptedError, IoError } from "../../../lib/errors.ts";
import { digestOf } from "../../../lib/bytes/digest.ts";
import { SharedDescriptor } from "../../../lib/io/random_reader.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../../../lib/io/spool.ts";
import type { ReadLayer } from "../../../lib/source/layers/load_layer.ts";
import { loadAlone, loadedLayer, reportWarnings } from "../../../lib/source/layers/load_layers.ts";
import { closeLayers, loadLayers, type OpenedImage } from "../../../lib/source/source.ts";
import { openSourceFile, storedPart } from "../../../lib/source/source_file.ts";
import { treeLayer } from "../../../lib/source/tree_image.ts";
import type { LayerSource, SourceOptions, StoredBytes } from "../../../lib/source/types.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { programWords } from "../../cli/program.ts";
import { gzipOf, HAS_ZSTD, skippableFrame, zstdOf } from "../../io/compressed_samples.ts";
import { notRun } from "../../oracle/notice.ts";
import { buildTar, buildTarEntry, joinBytes } from "../../tar/build.ts";
import { type ImageSpec, writeOciLayout } from "../build_layout.ts";
import {
  ALWAYS_WORKER,
  noise,
  openAndLoad,
  openFilesBelow,
  sampleTar,
  storeBytes,
  testOptions,
  WAYS,
  withDirectory,
  withLoaded,
} from "../helpers.ts";

/** An image of one layer that comes as a stream. */
function streamed(
  tar: Uint8Array,
  open: () => AsyncIterable<Uint8Array>,
  sizeBytes: number | undefined,
): OpenedImage {
  return imageOf(tar, { kind: "stream", open }, sizeBytes);
}

function imageOf(
  tar: Uint8Array,
  stored: StoredBytes,
  sizeBytes: number | undefined,
): OpenedImage {
  const digest = digestOf(tar);
  const layer = {
    name: "streamed",
    digest,
    diffId: digest,
    mediaType: undefined,
    sizeBytes,
    whiteouts: true,
    stored,
  };
  return {
    source: "stream",
    kind: "docker",
    manifestDigest: undefined,
    configDigest: undefined,
    config: undefined,
    platform: undefined,
    layers: [layer],
    close: () => {},
  };
}

for (const [where, more] of WAYS) {
  Deno.test(`loadLayers reads a stream in pieces of any size ${where}`, async () => {
    const tar = buildTar([{ path: "big", data: noise(5_000_000) }]);
    for (const pieceBytes of [999, 1 << 20, 3_000_000, tar.length]) {
      const open = async function* () {
        for (let at = 0; at < tar.length; at += pieceBytes) {
          await Promise.resolve();
          yield tar.slice(at, at + pieceBytes);
        }
      };
      const options = testOptions({ inlineLayerBytes: 1 << 30, ...more });
      const layers = await loadLayers(streamed(tar, open, tar.length), options);
      assertEquals(digestOf(storeBytes(layers[0]!)), digestOf(tar));
      closeLayers(layers);
    }
  });

  Deno.test(`loadLayers passes on the error of a stream, and lets go of it ${where}`, async () => {
    const tar = buildTar([{ path: "big", data: noise(5_000_000) }]);
    const options = testOptions({ inlineLayerBytes: 1 << 30, ...more });
    const broken = async function* () {
      await Promise.resolve();
      yield tar.slice(0, 2_000_000);
      throw new IoError("registry", "closed the connection");
    };
    const load = () => loadLayers(streamed(tar, broken, tar.length), options);
    await assertRejects(load, IoError, "registry: closed the connection");
    const released = Promise.withResolvers<void>();
    const endless = async function* () {
      try {
        for (;;) {
          await Promise.resolve();
          yield new Uint8Array(1 << 20);
        }
      } finally {
        released.resolve();
      }
    };
    const tooLong = () => loadLayers(streamed(tar, endless, tar.length), options);
    await assertRejects(tooLong, InputError, "is longer than");
    // It is let go of, or the test never ends, which Deno calls a failure.
    await released.promise;
  });
}

/** An image of one layer that somebody else writes to a file, half of it a little later. */
function written(tar: Uint8Array, failure?: Error): OpenedImage {
  const writeTo = async (descriptor: number) => {
    const half = tar.length >> 1;
    writeSync(descriptor, tar.subarray(0, half));
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (failure) throw failure;
    writeSync(descriptor, tar.subarray(half));
  };
  return imageOf(tar, { kind: "output", writeTo }, undefined);
}

Deno.test("loadLayers reads what is still being written", async () => {
  const tar = buildTar([{ path: "big", data: noise(3_000_000) }, { path: "small", data: "x" }]);
  const layers = await loadLayers(written(tar), testOptions());
  const [layer] = layers;
  assertEquals(layer!.entries.map(({ path }) => path), ["big", "small"]);
  assertEquals(digestOf(storeBytes(layer!)), digestOf(tar));
  closeLayers(layers);
});

Deno.test("loadLayers says why something was not written to its end", async () => {
  const tar = buildTar([{ path: "big", data: noise(3_000_000) }]);
  const options = testOptions({ verifyDiffIds: false });
  const failed = written(tar, new IoError("tar", "was stopped"));
  await assertRejects(() => loadLayers(failed, options), IoError, "tar: was stopped");
  const compressed = written(new Uint8Array(gzipSync(tar)));
  const load = () => loadLayers(compressed, options);
  await assertRejects(load, InputError, "is compressed with gzip: wanted a tar");
});

Deno.test("loadLayers calls a full tmpdir one and names --tmpdir", async () => {
  await withDirectory(async (directory) => {
    const scratch = join(directory, "scratch");
    mkdirSync(scratch);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", scratch], {
        stdio: "ignore",
      });
    } catch {
      return notRun("a full temporary directory", "it takes root to mount a small tmpfs");
    }
    try {
      const layout = join(directory, "layout");
      writeOciLayout(layout, { layers: [buildTar([{ path: "big", data: noise(5_000_000) }])] });
      for (const [, more] of WAYS) {
        const options = testOptions({ inlineLayerBytes: 1 << 30, ...more, tmpdir: scratch });
        const error = await assertRejects(() => openAndLoad(`oci:${layout}`, options), IoError);
        assertStringIncludes(
          error.message,
          `${scratch}: inflated data cannot be written: no space`,
        );
        assertEquals((error as IoError).remedies[0]?.option, "tmpdir");
        assertEquals(readdirSync(scratch), []);
      }
    } finally {
      execFileSync("umount", [scratch]);
    }
  });
});

Deno.test("loadLayers does with one spool where a process may not open many files", async () => {
  await withDirectory((directory) => {
    const tar = buildTar([{ path: "big", data: noise(100_000) }]);
    const { diffIds } = writeOciLayout(directory, { layers: [tar] });
    const program = fileURLToPath(new URL("../parted_program.ts", import.meta.url));
    const words = [...programWords(program), directory].join(" ");
    // Too few for the parts, and too few for the worker to open them, too.
    for (const limit of [60, 110]) {
      const said = execFileSync("bash", ["-c", `ulimit -n ${limit}; exec ${words}`]);
      assertEquals(`${said}`, `${diffIds[0]}\n`);
    }
  });
});

/** Runs a test with a layer that lies in a file. */
async function withLayer(
  stored: Uint8Array,
  test: (layer: LayerSource, directory: string) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const path = join(directory, "layer");
    writeFileSync(path, stored);
    const file = await openSourceFile(path, "a layer", testOptions());
    const { name, sizeBytes } = file;
    await test(treeLayer({ name, sizeBytes, stored: storedPart(file, 0, sizeBytes) }), directory);
    file.file.release();
    assertEquals(openFilesBelow(directory), []);
  });
}

for (const [where, more] of [["in a worker", ALWAYS_WORKER], ["in place", {}]] as const) {
  Deno.test(`loadAlone reads one layer ${where}`, async () => {
    const tar = sampleTar();
    await withLayer(gzipOf(tar), async (layer) => {
      const options = testOptions(more);
      const read = await loadAlone(layer, options);
      assertEquals(read.facts.diffId, digestOf(tar));
      const loaded = loadedLayer(layer, read);
      read.file.release();
      assertEquals(storeBytes(loaded), tar);
      loaded.store.close();
      reportWarnings(read, options.warnings);
      assertEquals(options.warnings.list(), []);
    });
  });

  Deno.test(`loadAlone fails and stops without leaving anything open ${where}`, async () => {
    await withLayer(gzipOf(sampleTar()).subarray(0, 100), async (layer, directory) => {
      await assertRejects(() => loadAlone(layer, testOptions(more)), InputError, "too early");
      assertEquals(openFilesBelow(directory).length, 1);
      const signal = AbortSignal.abort();
      await assertRejects(
        () => loadAlone(layer, testOptions({ ...more, signal })),
        InterruptedError,
      );
      const abort = new AbortController();
      const progress: SourceOptions["progress"] = {
        begin: () => {
          queueMicrotask(() => abort.abort());
          return { advance: () => {}, end: () => {} };
        },
      };
      const options = testOptions({ ...more, signal: abort.signal, progress });
      await assertRejects(() => loadAlone(layer, options));
    });
  });
}

function readLayer(): ReadLayer {
  const descriptor = createUnlinkedFile();
  const writer = new SpoolWriter(singleFile(descriptor, "tmp"));
  writer.append(new Uint8Array([9, 9, 1, 2, 3, 9]));
  writer.flush();
  return {
    facts: {
      digest: "stored",
      diffId: "plain",
      storedBytes: 7,
      uncompressedBytes: 3,
      statedUuid: "u",
      compression: "none",
      warnings: [{ kind: "b", what: "x", why: "y", count: 2 }, {
        kind: "a",
        what: "z",
        why: "w",
        count: 1,
      }],
    },
    entries: [],
    file: new SharedDescriptor(descriptor),
    offsetBytes: 2,
  };
}

const SOURCE = treeLayer({
  name: "layer",
  sizeBytes: 7,
  stored: { kind: "stream", open: () => (async function* () {})() },
});

Deno.test("loadedLayer reads its part of the file, and keeps it open by itself", () => {
  const read = readLayer();
  const layer = loadedLayer(SOURCE, read);
  read.file.release();
  assertEquals([layer.sizeBytes, layer.uncompressedBytes, layer.store.sizeBytes], [7, 3, 3]);
  const bytes = new Uint8Array(5);
  assertEquals(layer.store.readAt(bytes, 0), 3);
  assertEquals([...bytes], [1, 2, 3, 0, 0]);
  layer.store.close();
  assertThrows(() => read.file.share());
});

Deno.test("reportWarnings counts them, or throws the first under strict", () => {
  const read = readLayer();
  const warnings = new Warnings();
  reportWarnings(read, warnings);
  assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["a", 1], ["b", 2]]);
  assertThrows(() => reportWarnings(read, new Warnings(true)), InputError, "x: y");
  read.file.release();
});

/**
 * Layers that were made to be read lazily: eStargz and zstd:chunked. Both are ordinary compressed tars with more behind
 * them. Here the tar is what counts, and the tables of contents are not believed.
 */

const FILES = [
  { path: "usr/" },
  { path: "usr/big", data: noise(300_000) },
  { path: ".prefetch.landmark", data: "\x0f" },
  { path: "usr/small", data: "small\n" },
];
const TOC = JSON.stringify({ version: 1, entries: [{ name: "etc/passwd", type: "reg", size: 7 }] });

/** eStargz: a gzip member for each entry, the table as the last one, and a footer that tells where it is. */
function estargz(): { tar: Uint8Array; stored: Uint8Array } {
  const entries = [...FILES, { path: "stargz.index.json", data: TOC }];
  const tar = buildTar(entries);
  const parts = entries.map(buildTarEntry);
  const end = tar.subarray(parts.reduce((sum, part) => sum + part.length, 0));
  const members = parts.slice(0, -1).map(gzipOf);
  const tocOffset = members.reduce((sum, member) => sum + member.length, 0);
  const toc = gzipOf(joinBytes([parts.at(-1)!, end]));
  return { tar, stored: joinBytes([...members, toc, estargzFooter(tocOffset)]) };
}

/** An empty gzip member whose extra field says `OFFSETSTARGZ`. */
function estargzFooter(tocOffset: number): Uint8Array {
  const text = new TextEncoder().encode(`${tocOffset.toString(16).padStart(16, "0")}STARGZ`);
  const header = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, 0x53, 0x47, text.length, 0];
  const emptyBlock = [1, 0, 0, 255, 255];
  return new Uint8Array([...header, ...text, ...emptyBlock, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/** zstd:chunked: a frame for each entry, then the table and a footer in frames that are skipped. */
function zstdChunked(): { tar: Uint8Array; stored: Uint8Array } {
  const tar = buildTar(FILES);
  const parts = FILES.map(buildTarEntry);
  const end = tar.subarray(parts.reduce((sum, part) => sum + part.length, 0));
  const frames = [...parts, end].map(zstdOf);
  return { tar, stored: joinBytes([...frames, skippableFrame(500), skippableFrame(64)]) };
}

async function readsAsTar(
  { tar, stored }: { tar: Uint8Array; stored: Uint8Array },
  compress: ImageSpec["compress"] & string,
  annotations: Record<string, string>,
): Promise<void> {
  for (const [way, more] of WAYS) {
    await withDirectory(async (directory) => {
      writeOciLayout(directory, {
        layers: [tar],
        compress,
        changeStored: () => stored,
        changeManifest: (manifest) => {
          manifest.layers[0]!.annotations = annotations;
          return manifest;
        },
      });
      const options = testOptions(more);
      await withLoaded(`oci:${directory}`, options, ([layer]) => {
        assertEquals(storeBytes(layer!), tar, way);
        assertEquals(options.warnings.list(), []);
      });
    });
  }
}

Deno.test("loadLayers reads eStargz as the tar that it is, with its table and landmark", async () => {
  const digest = `sha256:${"0".repeat(64)}`;
  await readsAsTar(estargz(), "gzip", { "containerd.io/snapshot/stargz/toc.digest": digest });
});

Deno.test("loadLayers reads zstd:chunked as the tar that it is, whatever its table says", async () => {
  if (!HAS_ZSTD) return notRun("zstd:chunked", "this runtime's node:zlib does not know zstd");
  await readsAsTar(zstdChunked(), "zstd", {
    "io.containers.zstd-chunked.manifest-checksum": `sha256:${"0".repeat(64)}`,
    "io.containers.zstd-chunked.manifest-position": "0:500:1000:1",
  });
});
