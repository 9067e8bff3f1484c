import { assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import type { DiskReport, EnvelopeOptions } from "../../lib/bless/envelope.ts";
import { blessMerged, type BlessMergedOptions } from "../../lib/bless/merged.ts";
import { type LayoutOptions, MERGED_DEFAULTS } from "../../lib/bless/options.ts";
import { openVerity, verityData } from "../../lib/bless/verity_image.ts";
import { partitionType, readGpt } from "../../lib/disk/gpt.ts";
import { CONSTANT_SALT, parseVeritySignature } from "../../lib/verity/format.ts";
import { InputError, UsageError } from "../../lib/errors.ts";
import { createFileSink } from "../../lib/io/file_sink.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { hostPlatform } from "../../lib/source/platform.ts";
import { verifyTree } from "../../lib/verity/verify_tree.ts";
import { hasCommand, mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { assertE2fsckClean } from "../oracle/e2fsck.ts";
import { notRun } from "../oracle/notice.ts";
import { testOptions } from "../source/helpers.ts";
import { buildTar } from "../tar/build.ts";
import { hasVeritysetup, MemorySink, veritysetupAgrees } from "../verity/veritysetup.ts";

const MIB = 1 << 20;
const SOURCE = buildTar([
  { path: "etc/", mtime: 5 },
  { path: "etc/os-release", data: "ID=test\n", mtime: 5 },
  { path: "large", data: new Uint8Array(3_000_000).map((_, i) => i >> 7), mtime: 5 },
  { path: "usr/", mtime: 5 },
]);
const VERITY = { salt: CONSTANT_SALT };
const ARCHITECTURE = hostPlatform().architecture;

async function blessed(
  envelope: EnvelopeOptions | undefined,
  layout: Partial<LayoutOptions> = {},
  more: Partial<BlessMergedOptions> = {},
) {
  return await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "root.tar");
    Deno.writeFileSync(path, SOURCE);
    const sink = new MemorySink();
    const report = await blessMerged({
      ...testOptions(),
      source: `tar:${path}`,
      layout: { ...MERGED_DEFAULTS, journalBytes: 0, ...layout },
      envelope,
      sink,
      ...more,
    });
    assertEquals(sink.isFinished, more.sink === undefined);
    return { report, bytes: sink.bytes };
  });
}

function partition(bytes: Uint8Array, disk: DiskReport | undefined, role: string): Uint8Array {
  const found = disk?.partitions.find((one) => one.role === role);
  if (found === undefined) throw new Error(`no partition ${role}`);
  return bytes.subarray(found.startBytes, found.startBytes + found.sizeBytes);
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

Deno.test("a hash tree is appended in the pass that writes, over the same image", async () => {
  const plain = await blessed(undefined);
  const { report, bytes } = await blessed({ verity: VERITY });
  const { verity, outputBytes, sizeBytes, cellBytes } = report;
  assertEquals(equal(bytes.subarray(0, sizeBytes), plain.bytes), true);
  assertEquals([verity?.hashOffset, outputBytes], [sizeBytes, bytes.length]);
  assertEquals(bytes.length, sizeBytes + verity!.hashBytes);
  // The tree is one more cell.
  assertEquals(cellBytes, plain.report.cellBytes + 131072);
  await withTemporaryDirectory(async (directory) => {
    const image = join(directory, "image");
    Deno.writeFileSync(image, bytes);
    const found = openVerity({ image });
    assertEquals(found.report, verity);
    assertEquals(verityData(found).sizeBytes, sizeBytes);
    assertEquals((await verifyTree(found.place, { rootHash: verity!.rootHash })).clean, true);
    found.close();
    assertE2fsckClean(image);
    if (!hasVeritysetup("trees of bless against veritysetup")) return;
    assertEquals(veritysetupAgrees(image, image, verity!.rootHash, sizeBytes), true);
  });
});

Deno.test("a hash tree in a file of its own leaves the image as it is", async () => {
  const plain = await blessed(undefined);
  const hashSink = new MemorySink();
  const { report, bytes } = await blessed({ verity: { ...VERITY, hashSink } });
  assertEquals(equal(bytes, plain.bytes), true);
  assertEquals(hashSink.isFinished, true);
  const appended = await blessed({ verity: VERITY });
  assertEquals(equal(hashSink.bytes, appended.bytes.subarray(report.sizeBytes)), true);
  assertEquals(report.verity, { ...appended.report.verity!, hashOffset: 0 });
});

Deno.test("equal sources have equal trees, and another salt gives another tree", async () => {
  const [first, again, other] = [
    await blessed({ verity: VERITY }),
    await blessed({ verity: VERITY }),
    await blessed({ verity: { salt: Uint8Array.of(1) } }),
  ];
  assertEquals(equal(first.bytes, again.bytes), true);
  assertNotEquals(first.report.verity!.rootHash, other.report.verity!.rootHash);
});

Deno.test("a journal with a hash tree is an error, before anything is read", async () => {
  const error = await assertRejects(
    () => blessed({ verity: VERITY }, { journalBytes: 4 * MIB }, { source: "tar:/nonexistent" }),
    UsageError,
    "journalBytes: an image with a hash tree is never written to: wanted none",
  );
  assertEquals(error.option, "journalBytes");
});

Deno.test("a disk has its partitions on the grid, named by the root hash, and tools accept it", async () => {
  const plain = await blessed(undefined);
  const esp = memoryReader(new Uint8Array(MIB).fill(7), "esp");
  const { report, bytes } = await blessed({ verity: VERITY, disk: { esp } });
  const { disk, verity } = report;
  assertEquals(disk!.partitions.map(({ role }) => role), ["esp", "root", "root-verity"]);
  assertEquals(disk!.sizeBytes, bytes.length);
  assertEquals(disk!.sizeBytes % MIB, 0);
  for (const { startBytes } of disk!.partitions) assertEquals(startBytes % MIB, 0);
  assertEquals(equal(partition(bytes, disk, "root"), plain.bytes), true);
  assertEquals(equal(partition(bytes, disk, "esp"), new Uint8Array(MIB).fill(7)), true);
  const { rootHash } = verity!;
  const guid = (hex: string) => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  const { partitions } = readGpt(memoryReader(bytes));
  assertEquals(partitions.slice(1).map((one) => [one.guid, one.typeGuid, one.isReadOnly]), [
    [guid(rootHash.slice(0, 32)), partitionType("root", ARCHITECTURE), true],
    [guid(rootHash.slice(32)), partitionType("root-verity", ARCHITECTURE), true],
  ]);
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "disk.raw");
    Deno.writeFileSync(path, bytes);
    const found = openVerity({ image: path, rootHash });
    assertEquals(found.report, verity);
    assertEquals((await verifyTree(found.place, { rootHash })).clean, true);
    found.close();
    if (hasCommand("sgdisk")) assertMatch(mustRun("sgdisk", ["-v", path]), /No problems found/);
    else notRun("disks of bless against sgdisk", "sgdisk is not installed");
    if (hasCommand("sfdisk")) {
      assertMatch(mustRun("sfdisk", ["--verify", path]), /^No errors detected\.$/m);
    } else notRun("disks of bless against sfdisk", "sfdisk is not installed");
  });
});

Deno.test("a disk goes to a file as to any other sink", async () => {
  const memory = await blessed({ verity: VERITY, disk: {} });
  await withTemporaryDirectory(async (directory) => {
    const path = join(directory, "disk");
    const { report } = await blessed({ verity: VERITY, disk: {} }, {}, {
      sink: createFileSink(path),
    });
    assertEquals(equal(Deno.readFileSync(path), memory.bytes), true);
    assertEquals(report.disk, memory.report.disk);
  });
});

Deno.test("a signature has its partition, and one of another root hash is refused", async () => {
  const { report } = await blessed({ verity: VERITY, disk: {} });
  const signed = (rootHash: string) => ({
    name: "root.sig",
    ...parseVeritySignature(
      new TextEncoder().encode(
        JSON.stringify({ rootHash, signature: "AAAA", certificateFingerprint: rootHash }),
      ),
      "root.sig",
    ),
  });
  const { rootHash } = report.verity!;
  const signature = signed(rootHash);
  const { report: made, bytes } = await blessed({ verity: VERITY, disk: { signature } });
  assertEquals(made.verity, report.verity);
  assertEquals(equal(partition(bytes, made.disk, "root-verity-sig"), signature.bytes), true);
  const other = "00".repeat(32);
  const sink = new MemorySink();
  await assertRejects(
    () => blessed({ verity: VERITY, disk: { signature: signed(other) } }, {}, { sink }),
    InputError,
    `root.sig: signs the root hash ${other}, the image has ${rootHash}`,
  );
  assertEquals([sink.isAborted, sink.isFinished, sink.bytes.length], [true, false, 0]);
  await assertRejects(
    () => blessed({ disk: { signature } }),
    UsageError,
    "there is no hash tree on the disk to sign",
  );
});

Deno.test("the size of a disk is the size that is given, and the root takes what is left", async () => {
  for (const envelope of [{ disk: {} }, { disk: {}, verity: VERITY }, { disk: {}, vhd: true }]) {
    const sizeBytes = 20 * MIB + 512;
    const { report, bytes } = await blessed(envelope, { size: { kind: "total", sizeBytes } });
    assertEquals(bytes.length, sizeBytes);
    assertEquals(report.sizeBytes > 17 * MIB, true);
    readGpt(memoryReader(bytes));
  }
  await assertRejects(
    () => blessed({ disk: {} }, { size: { kind: "total", sizeBytes: MIB } }, { source: "tar:/no" }),
    UsageError,
    "size: the partitions and their table need 2097152 bytes, the disk has 1048576",
  );
  await assertRejects(
    () => blessed({ disk: {} }, { size: { kind: "total", sizeBytes: 3 * MIB } }),
    InputError,
    "the content needs 3264512 bytes (3.1 MiB), on a disk of 3145728 bytes",
  );
});

Deno.test("a disk without a hash tree has a root that can be written", async () => {
  const { report, bytes } = await blessed({ disk: {} }, { journalBytes: 4 * MIB });
  const { partitions } = readGpt(memoryReader(bytes));
  assertEquals(partitions.map(({ isReadOnly }) => isReadOnly), [false]);
  assertEquals(report.verity, undefined);
});

Deno.test("architectures without partition types are refused", async () => {
  await assertRejects(
    () => blessed({ disk: {} }, {}, { platform: "linux/s390x" }),
    UsageError,
    "no root partition type for the architecture `s390x`",
  );
});

Deno.test("a VHD is the image, and what is around it, with a footer", async () => {
  for (const envelope of [{}, { verity: VERITY }, { verity: VERITY, disk: {} }]) {
    const plain = await blessed(envelope);
    const { report, bytes } = await blessed({ ...envelope, vhd: true });
    assertEquals(equal(bytes.subarray(0, -512), plain.bytes), true);
    assertEquals(report.outputBytes, bytes.length);
    if (!hasCommand("qemu-img")) {
      notRun("VHDs of bless against qemu-img", "qemu-img is not installed");
      continue;
    }
    await withTemporaryDirectory((directory) => {
      const path = join(directory, "disk.vhd");
      Deno.writeFileSync(path, bytes);
      const info = JSON.parse(mustRun("qemu-img", ["info", "--output=json", "-f", "vpc", path]));
      assertEquals(info["virtual-size"], plain.bytes.length);
      const raw = join(directory, "disk.raw");
      mustRun("qemu-img", ["convert", "-f", "vpc", "-O", "raw", path, raw]);
      assertEquals(equal(Deno.readFileSync(raw), plain.bytes), true);
    });
  }
});

Deno.test("a tree that has no room in its file leaves no image and no disk", async () => {
  for (const disk of [undefined, {}]) {
    const sink = new MemorySink();
    const full: ImageSink = {
      write: () => {},
      finish: () => {
        throw new Error("no space");
      },
      abort: () => {},
    };
    await assertRejects(
      () => blessed({ verity: { ...VERITY, hashSink: full }, disk }, {}, { sink }),
      Error,
      "no space",
    );
    assertEquals([sink.isAborted, sink.isFinished], [true, false]);
  }
});

Deno.test("whatever fails, all outputs are given up", async () => {
  const [sink, hashSink] = [new MemorySink(), new MemorySink()];
  const failing = {
    write: () => {
      throw new Error("no space");
    },
    finish: () => {},
    abort: () => sink.abort(),
  };
  for (const disk of [undefined, {}]) {
    await assertRejects(
      () => blessed({ verity: { ...VERITY, hashSink }, disk }, {}, { sink: failing }),
      Error,
      "no space",
    );
    assertEquals([sink.isAborted, hashSink.isAborted, hashSink.isFinished], [true, true, false]);
  }
});

Deno.test("a disk in a file is hashed in the pass that writes, and has the bytes that it has elsewhere", async () => {
  const esp = memoryReader(new Uint8Array(MIB).fill(7), "esp");
  const signed = (hash: string) => ({
    name: "signature.json",
    ...parseVeritySignature(
      new TextEncoder().encode(
        JSON.stringify({
          rootHash: hash,
          signature: "MIIB",
          certificateFingerprint: "01".repeat(32),
        }),
      ),
      "signature.json",
    ),
  });
  await withTemporaryDirectory(async (directory) => {
    for (const gridBytes of [4096, 131072]) {
      const { rootHash } = (await blessed({ verity: VERITY }, { gridBytes })).report.verity!;
      const envelopes: EnvelopeOptions[] = [
        { verity: VERITY, disk: {} },
        { verity: VERITY, disk: { esp, signature: signed(rootHash) }, vhd: true },
        { verity: VERITY, disk: { esp } },
      ];
      for (const [i, envelope] of envelopes.entries()) {
        const streamed = await blessed(envelope, { gridBytes });
        const path = join(directory, `${i}-${gridBytes}`);
        const { report } = await blessed(envelope, { gridBytes }, { sink: createFileSink(path) });
        assertEquals(equal(Deno.readFileSync(path), streamed.bytes), true);
        assertEquals({ ...report, source: "" }, { ...streamed.report, source: "" });
      }
    }
    const hashPath = join(directory, "tree");
    const apart = (sink: ImageSink) => ({ verity: { ...VERITY, hashSink: sink }, disk: {} });
    const hashSink = new MemorySink();
    const streamed = await blessed(apart(hashSink));
    const path = join(directory, "apart");
    await blessed(apart(createFileSink(hashPath)), {}, { sink: createFileSink(path) });
    assertEquals(equal(Deno.readFileSync(path), streamed.bytes), true);
    assertEquals(equal(Deno.readFileSync(hashPath), hashSink.bytes), true);
    const names = [...Deno.readDirSync(directory)].length;
    const wrong = { verity: VERITY, disk: { signature: signed("ab".repeat(32)) } };
    await assertRejects(
      () => blessed(wrong, {}, { sink: createFileSink(join(directory, "wrong")) }),
      InputError,
      `signature.json: signs the root hash ${"ab".repeat(32)}`,
    );
    assertEquals([...Deno.readDirSync(directory)].length, names);
  });
});

Deno.test("how long everything will be is known before the first byte", async () => {
  const esp = memoryReader(new Uint8Array(MIB).fill(7), "esp");
  const envelopes = (): (EnvelopeOptions | undefined)[] => [
    undefined,
    { vhd: true },
    { verity: VERITY },
    { verity: VERITY, vhd: true },
    { verity: { ...VERITY, hashSink: new MemorySink() } },
    { disk: {} },
    { disk: { esp }, verity: VERITY },
    { disk: {}, verity: VERITY, vhd: true },
  ];
  for (const size of [undefined, { kind: "total", sizeBytes: 30 * MIB }] as const) {
    for (const envelope of envelopes()) {
      const said: number[] = [];
      let writes = 0;
      const memory = new MemorySink();
      const sink: ImageSink = {
        checkSize(sizeBytes) {
          assertEquals(writes, 0);
          said.push(sizeBytes);
        },
        write(bytes, offset) {
          writes++;
          return memory.write(bytes, offset);
        },
        finish: (sizeBytes) => memory.finish(sizeBytes),
        abort: () => memory.abort(),
      };
      await blessed(envelope, size === undefined ? {} : { size }, { sink });
      assertEquals(said, [memory.bytes.length], JSON.stringify(Object.keys(envelope ?? {})));
    }
  }
});
