import { assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { readdirSync, readFileSync } from "node:fs";
import { memoryReader } from "../../lib/io/random_reader.ts";
import { IoError, UsageError } from "../../lib/errors.ts";
import { readGpt } from "../../lib/disk/gpt.ts";
import { openVerity } from "../../lib/bless/verity_place.ts";
import { CONSTANT_SALT } from "../../lib/verity/format.ts";
import { verifyTree } from "../../lib/verity/verify_tree.ts";
import { hasCommand, mustRun } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { notRun } from "../oracle/notice.ts";
import { withDirectory } from "../source/helpers.ts";
import { hasVeritysetup, MemorySink, veritysetupAgrees } from "../verity/veritysetup.ts";
import { blessTo, filesOf, writeLayers } from "./layered_helpers.ts";

const LAYERS = [
  [{ path: "a", data: new Uint8Array(400_000).fill(1) }],
  [{ path: "b", data: "b" }],
  [{ path: "c/" }, { path: "c/d", data: "d" }],
];
const VERITY = { salt: CONSTANT_SALT };

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
      "verity: each layer has a tree of its own: wanted append",
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
