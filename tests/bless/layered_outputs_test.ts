import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { IoError, UsageError } from "../../lib/errors.ts";
import { readGpt } from "../../lib/disk/gpt.ts";
import { openVerity } from "../../lib/bless/verity_image.ts";
import { CONSTANT_SALT } from "../../lib/verity/format.ts";
import { verifyTree } from "../../lib/verity/verify_tree.ts";
import { hasCommand, mustRun } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { notRun } from "../oracle/notice.ts";
import { withDirectory } from "../source/helpers.ts";
import { hasVeritysetup, MemorySink, veritysetupAgrees } from "../verity/veritysetup.ts";
import { blessTo, filesOf, writeLayers } from "./layered_helpers.ts";
import { join } from "node:path";
import { LayerChunks, sumOfChunked } from "../../lib/bless/layered_outputs.ts";
import { ChunkSink, ChunkUploader } from "../../lib/chunk/chunk_sink.ts";
import { decodeChunkIndex, encodeChunkIndex } from "../../lib/chunk/chunk_index.ts";
import { DirectoryStore } from "../../lib/chunk/directory_store.ts";
import { readFileInto } from "../../lib/io/streams.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";

const LAYERS = [
  [{ path: "a", data: new Uint8Array(400_000).fill(1) }],
  [{ path: "b", data: "b" }],
  [{ path: "c/" }, { path: "c/d", data: "d" }],
];
const VERITY = { salt: CONSTANT_SALT };
const BESIDE = { ...VERITY, beside: true };

Deno.test("each layer gets a hash tree, and an image that is there is used with its own", async () => {
  await withDirectory(async (directory) => {
    writeLayers(`${directory}/oci`, LAYERS);
    const [plain, out] = [`${directory}/plain`, `${directory}/out`];
    await blessTo(plain, `oci:${directory}/oci`);
    const envelope = { verity: VERITY };
    const report = await blessTo(out, `oci:${directory}/oci`, { envelope });
    const compares = hasVeritysetup("trees of layers against veritysetup");
    for (const { file, image, verity } of report.layers) {
      const path = `${out}/${file}`;
      const bytes = readFileSync(path);
      assertEquals(bytes.length, image.sizeBytes + verity!.hashBytes);
      const alone = readFileSync(`${plain}/${file}`);
      assertEquals(Buffer.compare(bytes.subarray(0, image.sizeBytes), alone), 0);
      assertE2fsckClean(path);
      const found = openVerity({ image: path });
      assertEquals(found.report, verity);
      const { rootHash } = verity!;
      assertEquals((await verifyTree(found.place, { rootHash })).clean, true);
      found.close();
      if (compares) assertEquals(veritysetupAgrees(path, path, rootHash, image.sizeBytes), true);
    }
    const described = JSON.parse(readFileSync(`${out}/image.json`, "utf8")).layers;
    assertEquals(
      described.map((layer: { verity: unknown }) => layer.verity),
      report.layers.map(({ verity }) => verity),
    );
    const before = filesOf(out);
    const again = await blessTo(out, `oci:${directory}/oci`, { envelope });
    assertEquals(again.reusedLayers, 3);
    assertEquals(
      again.layers.map(({ verity }) => verity),
      report.layers.map(({ verity }) => verity),
    );
    assertEquals(filesOf(out), before);
  });
});

Deno.test("each layer gets a hash tree in a file beside its image, which stays as it is", async () => {
  await withDirectory(async (directory) => {
    writeLayers(`${directory}/oci`, LAYERS);
    const source = `oci:${directory}/oci`;
    const [plain, behind, out] = ["plain", "behind", "out"].map((name) => `${directory}/${name}`);
    await blessTo(plain!, source);
    const appended = await blessTo(behind!, source, { envelope: { verity: VERITY } });
    const report = await blessTo(out!, source, { envelope: { verity: BESIDE } });
    const compares = hasVeritysetup("trees beside layers against veritysetup");
    for (const [i, { file, image, verity, hashFile }] of report.layers.entries()) {
      assertEquals(hashFile, `${file}.verity`);
      const [path, treePath] = [`${out}/${file}`, `${out}/${hashFile}`];
      assertEquals(Buffer.compare(readFileSync(path), readFileSync(`${plain}/${file}`)), 0);
      const whole = readFileSync(`${behind}/${file}`);
      assertEquals(Buffer.compare(readFileSync(treePath), whole.subarray(image.sizeBytes)), 0);
      assertEquals(verity, { ...appended.layers[i]!.verity!, hashOffset: 0 });
      if (compares) assertEquals(veritysetupAgrees(path, treePath, verity!.rootHash), true);
    }
    const described = JSON.parse(readFileSync(`${out}/image.json`, "utf8")).layers;
    assertEquals(
      described.map((layer: { hashFile: string }) => layer.hashFile),
      report.layers.map(({ hashFile }) => hashFile),
    );
    const before = filesOf(out!);
    const again = await blessTo(out!, source, { envelope: { verity: BESIDE } });
    assertEquals([again.reusedLayers, filesOf(out!)], [3, before]);
    assertEquals(
      again.layers.map(({ verity }) => verity),
      report.layers.map(({ verity }) => verity),
    );
  });
});

Deno.test("a tree beside its image that is gone or damaged is told, and made again with its image", async () => {
  await withDirectory(async (directory) => {
    writeLayers(`${directory}/oci`, LAYERS);
    const source = `oci:${directory}/oci`;
    const out = `${directory}/out`;
    const envelope = { verity: BESIDE };
    const { layers } = await blessTo(out, source, { envelope });
    const whole = filesOf(out);
    const treePath = `${out}/${layers[0]!.hashFile}`;
    const recordPath = `${out}/${layers[0]!.file.replace(/ext4$/, "json")}`;
    const spoils: [message: string, spoil: () => void][] = [
      ["is missing", () => rmSync(treePath)],
      ["is damaged: it was changed", () => {
        writeFileSync(
          treePath,
          readFileSync(treePath).map((byte, i) => i === 5000 ? byte ^ 1 : byte),
        );
      }],
      ["is damaged: it has 5 bytes", () => writeFileSync(treePath, "short")],
    ];
    for (const [message, spoil] of spoils) {
      spoil();
      const error = await assertRejects(() => blessTo(out, source, { envelope }), IoError, message);
      assertMatch(error.message, /cannot be reused: its hash tree .*\.verity/);
      const forced = await blessTo(out, source, { envelope, force: true });
      assertEquals([forced.reusedLayers, filesOf(out)], [2, whole]);
    }
    // A writer that was killed left the image, and perhaps a part of the rest.
    for (const left of [[], [treePath]]) {
      for (const path of [treePath, recordPath]) if (!left.includes(path)) rmSync(path);
      const adopted = await blessTo(out, source, { envelope });
      assertEquals([adopted.reusedLayers, filesOf(out)], [3, whole]);
    }
    // It was killed before the image had its name.
    rmSync(`${out}/${layers[0]!.file}`);
    rmSync(recordPath);
    const made = await blessTo(out, source, { envelope });
    assertEquals([made.reusedLayers, filesOf(out)], [2, whole]);
  });
});

Deno.test("an image with another tree, or none, is not used again", async () => {
  await withDirectory(async (directory) => {
    writeLayers(`${directory}/oci`, LAYERS);
    const out = `${directory}/out`;
    const source = `oci:${directory}/oci`;
    await blessTo(out, source);
    const error = await assertRejects(
      () => blessTo(out, source, { envelope: { verity: VERITY } }),
      IoError,
      "it was made with other options",
    );
    assertEquals(error.differences.map(({ option, wanted }) => [option, wanted]), [
      ["verity", "append"],
      ["veritySalt", "00".repeat(32)],
    ]);
    const forced = await blessTo(out, source, { force: true, envelope: { verity: VERITY } });
    assertEquals(forced.reusedLayers, 0);
    await assertRejects(
      () => blessTo(out, source, { envelope: { verity: { salt: Uint8Array.of(1) } } }),
      IoError,
      "it was made with other options",
    );
    await assertRejects(() => blessTo(out, source), IoError, "it was made with other options");
    // A salt that is another one each time is no reason to make an image again.
    const random = (byte: number) => ({
      force: byte === 0,
      envelope: { verity: { salt: Uint8Array.of(byte), randomSalt: true } },
    });
    const first = await blessTo(out, source, random(0));
    const second = await blessTo(out, source, random(1));
    assertEquals([first.reusedLayers, second.reusedLayers], [0, 3]);
    assertEquals(second.layers[0]!.verity!.salt, "00");
  });
});

Deno.test("all layers go into one disk, a partition each, with their numbers in image.json", async () => {
  await withDirectory(async (directory) => {
    // The lowest layer comes again on top: it has one partition.
    const { manifest } = writeLayers(`${directory}/oci`, [...LAYERS, LAYERS[0]!]);
    const out = `${directory}/out`;
    for (const envelope of [{ disk: {} }, { disk: {}, verity: VERITY }]) {
      const report = await blessTo(out, `oci:${directory}/oci`, { envelope, force: true });
      const { disk } = report;
      assertEquals(disk!.file, `image-${manifest.digest.slice(7)}.raw`);
      assertEquals(disk!.partitions.length, 3);
      const path = `${out}/${disk!.file}`;
      const bytes = readFileSync(path);
      const { partitions } = readGpt(memoryReader(bytes));
      for (const { file, partition, verity, image } of report.layers) {
        const { startBytes, sizeBytes, guid } = partitions[partition! - 1]!;
        const part = bytes.subarray(startBytes, startBytes + sizeBytes);
        assertEquals(Buffer.compare(part, readFileSync(`${out}/${file}`)), 0);
        assertEquals(startBytes % (1 << 20), 0);
        const wanted = verity === undefined
          ? image.uuid
          : verity.rootHash.slice(0, 32).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
        assertEquals(guid, wanted);
        if (verity === undefined) continue;
        const { rootHash } = verity;
        const found = openVerity({ image: path, rootHash });
        assertEquals(found.report, verity);
        assertEquals((await verifyTree(found.place, { rootHash })).clean, true);
        found.close();
      }
      const described = JSON.parse(readFileSync(`${out}/image.json`, "utf8"));
      assertEquals(
        described.layers.map((layer: { partition: number }) => layer.partition),
        report.layers.map(({ partition }) => partition),
      );
      assertEquals(described.disk, disk);
      if (hasCommand("sgdisk")) assertMatch(mustRun("sgdisk", ["-v", path]), /No problems found/);
      else notRun("disks of layers against sgdisk", "sgdisk is not installed");
      assertEquals(readdirSync(out).filter((name) => name.includes("part-")), []);
    }
  });
});

Deno.test("a disk of layers that would not fit, or that nobody boots from, is refused", async () => {
  await withDirectory(async (directory) => {
    writeLayers(`${directory}/oci`, LAYERS);
    const source = `oci:${directory}/oci`;
    const sizeBytes = 3 << 20;
    await assertRejects(
      () =>
        blessTo(`${directory}/out`, source, { envelope: { disk: {} } }, {
          size: { kind: "total", sizeBytes },
        }),
      UsageError,
      `the disk has ${sizeBytes}`,
    );
    assertEquals(readdirSync(`${directory}/out`).filter((name) => /image|part/.test(name)), []);
    const esp = memoryReader(new Uint8Array(4096));
    await assertRejects(
      () => blessTo(`${directory}/none`, source, { envelope: { disk: { esp } } }),
      UsageError,
      "esp: a disk of layers is not booted from",
    );
    await assertRejects(
      () =>
        blessTo(`${directory}/none`, source, {
          envelope: { verity: { ...VERITY, hashSink: new MemorySink() } },
        }),
      UsageError,
      "verity: each layer has its own tree: wanted append or beside",
    );
    await assertRejects(
      () => blessTo(`${directory}/none`, source, { envelope: { disk: {}, verity: BESIDE } }),
      UsageError,
      "verity: the trees of layers on a disk are on it: wanted append",
    );
  });
});

Deno.test("layers and their disk get the footers of VHDs", async () => {
  await withDirectory(async (directory) => {
    writeLayers(`${directory}/oci`, LAYERS);
    const source = `oci:${directory}/oci`;
    const envelope = { verity: VERITY, vhd: true };
    const { layers } = await blessTo(`${directory}/vhds`, source, { envelope });
    const { image, verity, file } = layers[0]!;
    const bytes = readFileSync(`${directory}/vhds/${file}`);
    assertEquals(bytes.length, image.sizeBytes + verity!.hashBytes + 512);
    assertEquals(bytes.subarray(-512, -504).toString(), "conectix");
    assertNotEquals(bytes.subarray(-444, -428).toString("hex"), "00".repeat(16));
    const { disk } = await blessTo(`${directory}/disk`, source, {
      envelope: { ...envelope, disk: {} },
    });
    assertMatch(disk!.file, /^image-[0-9a-f]{64}\.vhd$/);
    const whole = readFileSync(`${directory}/disk/${disk!.file}`);
    assertEquals(whole.length, disk!.sizeBytes + 512);
    // The footer of the disk is no part of its partitions.
    assertEquals(disk!.partitions[0]!.sizeBytes, image.sizeBytes + verity!.hashBytes);
  });
});

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
