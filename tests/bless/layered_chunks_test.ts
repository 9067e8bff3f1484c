import { assert, assertEquals, assertRejects } from "@std/assert";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LayerChunks, sumOfChunked } from "../../lib/bless/layered_outputs.ts";
import { ChunkSink, ChunkUploader } from "../../lib/chunk/chunk_sink.ts";
import { decodeChunkIndex, encodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { DirectoryStore } from "../../lib/chunk/directory_store.ts";
import { readFileInto } from "../../lib/io/streams.ts";
import { IoError } from "../../lib/errors.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { withDirectory } from "../source/helpers.ts";
import { blessTo, filesOf, writeLayers } from "./layered_helpers.ts";

const DIGEST = "sha512-256";

function target(directory: string, dryRun = false) {
  const store = new DirectoryStore(join(directory, "store"));
  return {
    uploader: new ChunkUploader({ store, zstdLevel: 1, dryRun }),
    digest: DIGEST,
  } as const;
}

function withLayers(test: (directory: string, source: string) => Promise<void>): Promise<void> {
  return withDirectory(async (directory) => {
    const layers = [[{ path: "a", data: "x".repeat(300_000) }], [{ path: "b", data: "two" }]];
    writeLayers(join(directory, "oci"), layers);
    await test(directory, `oci:${join(directory, "oci")}`);
  });
}

/** The index of a file as it would be cut anew. */
async function indexOf(path: string): Promise<Uint8Array> {
  const dryRun = true;
  const uploader = new ChunkUploader({
    store: new DirectoryStore("/nowhere"),
    zstdLevel: 1,
    dryRun,
  });
  const sink = new ChunkSink(uploader, { chunkBytes: 131072, digest: DIGEST });
  await readFileInto(path, sink, { progress: NO_PROGRESS });
  return encodeChunkIndex(sink.index);
}

Deno.test("blessLayered puts each layer's image into the store, with an index that image.json names", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    const report = await blessTo(out, source, { chunks: target(directory) });
    const description = JSON.parse(readFileSync(join(out, "image.json"), "utf8"));
    for (const [i, layer] of report.layers.entries()) {
      assertEquals(layer.index, layer.file.replace(".ext4", ".caibx"));
      assertEquals(description.layers[i].index, layer.index);
      const bytes = new Uint8Array(readFileSync(join(out, layer.index!)));
      assertEquals(bytes, await indexOf(join(out, layer.file)));
      assertEquals(decodeChunkIndex(bytes, "x").sizeBytes, layer.image.sizeBytes);
    }
    const sum = report.layers.reduce((total, { chunks }) => total + chunks!.chunks, 0);
    assertEquals(report.chunks!.chunks, sum);
    assert(report.chunks!.newChunks > 0);
  });
});

Deno.test("blessLayered gives a store images that were there already, and leaves right indexes alone", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    const plain = await blessTo(out, source);
    assertEquals([plain.chunks, plain.layers[0]!.index], [undefined, undefined]);
    assertEquals(
      "index" in JSON.parse(readFileSync(join(out, "image.json"), "utf8")).layers[0],
      false,
    );
    const first = await blessTo(out, source, { chunks: target(directory) });
    assertEquals([first.reusedLayers, first.chunks!.newChunks > 0], [2, true]);
    const files = filesOf(out);
    const again = await blessTo(out, source, { chunks: target(directory) });
    assertEquals([again.chunks!.newChunks, filesOf(out)], [0, files]);
    rmSync(join(directory, "store"), { recursive: true });
    const anew = await blessTo(out, source, { chunks: target(directory) });
    assertEquals(anew.chunks, first.chunks);
  });
});

Deno.test("blessLayered without a store names no index, and leaves those of earlier runs", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    await blessTo(out, source, { chunks: target(directory) });
    const withStore = filesOf(out);
    const description = () => readFileSync(join(out, "image.json"), "utf8");
    const named = description();
    await blessTo(out, source);
    assertEquals([named.includes('"index"'), description().includes('"index"')], [true, false]);
    assertEquals(Object.keys(filesOf(out)), Object.keys(withStore));
    await blessTo(out, source, { chunks: target(directory) });
    assertEquals(description(), named);
  });
});

Deno.test("blessLayered in a dry run writes nothing, and knows what would be new", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    const dry = await blessTo(out, source, { chunks: target(directory, true), dryRun: true });
    assertEquals([existsSync(out), existsSync(join(directory, "store"))], [false, false]);
    assertEquals(dry.layers.map(({ index }) => index), [undefined, undefined]);
    const real = await blessTo(out, source, { chunks: target(directory) });
    assertEquals(dry.chunks, real.chunks);
    assertEquals(dry.layers.map(({ image }) => image), real.layers.map(({ image }) => image));
    const files = filesOf(out);
    await blessTo(out, source, { chunks: target(directory, true), dryRun: true, force: true });
    assertEquals(filesOf(out), files);
  });
});

Deno.test("blessLayered replaces an old index, and nothing else of that name", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    const { layers } = await blessTo(out, source, { chunks: target(directory) });
    const path = join(out, layers[0]!.index!);
    const right = readFileSync(path);
    const old = encodeChunkIndex({
      digest: "sha256",
      chunkBytes: 4096,
      sizeBytes: 0,
      ids: new Uint8Array(0),
    });
    writeFileSync(path, old);
    await blessTo(out, source, { chunks: target(directory) });
    assertEquals(readFileSync(path), right);
    writeFileSync(path, "my notes");
    const blessing = () => blessTo(out, source, { chunks: target(directory) });
    await assertRejects(blessing, IoError, "already exists");
    assertEquals(readFileSync(path, "utf8"), "my notes");
    await blessTo(out, source, { chunks: target(directory), force: true });
    assertEquals(readFileSync(path), right);
  });
});

Deno.test("blessLayered names no index when the store fails", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    writeFileSync(join(directory, "store"), "in the way");
    await assertRejects(() => blessTo(out, source, { chunks: target(directory) }), IoError);
    const names = existsSync(out) ? readdirSync(out) : [];
    assertEquals(names.filter((name) => /caibx|image|part/.test(name)), []);
  });
});

Deno.test("LayerChunks counts an image that comes twice once", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    const { layers } = await blessTo(out, source);
    const chunks = new LayerChunks({
      ...target(directory),
      outputDir: out,
      chunkBytes: 131072,
      dryRun: false,
      force: false,
      progress: NO_PROGRESS,
    });
    const name = layers[0]!.file.replace(".ext4", "");
    const image = { name, isReused: true };
    const chunked = await chunks.finish([image, image]);
    assertEquals(sumOfChunked(chunked), { ...chunked.get(name)!.counts });
  });
});

Deno.test("LayerChunks counts what was new of an image that another process was quicker to name", async () => {
  await withLayers(async (directory, source) => {
    const out = join(directory, "out");
    const { layers } = await blessTo(out, source);
    const name = layers[0]!.file.replace(".ext4", "");
    const chunks = new LayerChunks({
      ...target(directory),
      outputDir: out,
      chunkBytes: 131072,
      dryRun: false,
      force: false,
      progress: NO_PROGRESS,
    });
    await readFileInto(join(out, `${name}.ext4`), chunks.sinkOf(name), { progress: NO_PROGRESS });
    const counts = (await chunks.finish([{ name, isReused: true }])).get(name)!.counts;
    assertEquals([counts.newChunks, counts.reusedChunks], [counts.distinctChunks, 0]);
  });
});
