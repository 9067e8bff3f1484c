import { assertEquals, assertRejects } from "@std/assert";
import { memoryReader } from "../../lib/io/random_reader.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import {
  CONSTANT_SALT,
  rootHashPath,
  VERITY_FORMATS,
  verityText,
} from "../../lib/verity/format.ts";
import { dataBlocksOf, VeritySink } from "../../lib/verity/verity_sink.ts";
import { readVeritySuperblock, verifyTree } from "../../lib/verity/verify_tree.ts";
import { Random } from "../oracle/noise.ts";
import { BLOCK_BYTES, MemorySink, randomWrites } from "./veritysetup.ts";

const DATA_BLOCKS = 200;
const DATA_BYTES = DATA_BLOCKS * BLOCK_BYTES;
const options = { dataBlocks: DATA_BLOCKS, salt: CONSTANT_SALT };

async function writeAll(sink: ImageSink): Promise<void> {
  for (const { bytes, offset } of randomWrites(new Random(5), DATA_BYTES)) {
    await sink.write(bytes, offset);
  }
  await sink.finish(DATA_BYTES);
}

Deno.test("an image gets its tree behind it, or in a file of its own: the same tree", async () => {
  const [plain, whole, image, hash] = Array.from({ length: 4 }, () => new MemorySink()) as [
    MemorySink,
    MemorySink,
    MemorySink,
    MemorySink,
  ];
  await writeAll(plain);
  const append = new VeritySink(whole, options);
  await writeAll(append);
  const apart = new VeritySink(image, { ...options, hashSink: hash });
  await writeAll(apart);
  assertEquals(whole.bytes.subarray(0, DATA_BYTES), plain.bytes);
  assertEquals(image.bytes, plain.bytes);
  assertEquals(whole.bytes.subarray(DATA_BYTES), hash.bytes);
  assertEquals([whole, image, hash].map(({ isFinished }) => isFinished), [true, true, true]);
  const { hashOffset, hashBytes, rootHash, uuid, salt, dataBlocks } = append.report!;
  assertEquals([hashOffset, hashBytes, dataBlocks], [DATA_BYTES, hash.bytes.length, DATA_BLOCKS]);
  assertEquals(apart.report, { rootHash, uuid, salt, dataBlocks, hashOffset: 0, hashBytes });
  assertEquals(uuid[14], "8");
  const reader = memoryReader(whole.bytes);
  assertEquals(readVeritySuperblock(reader, hashOffset).dataBlocks, DATA_BLOCKS);
  const check = await verifyTree({ data: reader, hash: reader, hashOffset }, {
    rootHash,
    progress: NO_PROGRESS,
  });
  assertEquals(check.clean, true);
});

Deno.test("whatever fails, both files are given up", async () => {
  for (const threaded of [false, true]) {
    const [image, hash] = [new MemorySink(), new MemorySink()];
    const failing: ImageSink = {
      write() {
        throw new Error("no space");
      },
      finish: () => {},
      abort: () => image.abort(),
    };
    const sink = new VeritySink(failing, { ...options, hashSink: hash, threaded });
    await assertRejects(() => writeAll(sink), Error, "no space");
    await sink.abort();
    await sink.abort();
    assertEquals([image.isAborted, hash.isAborted, hash.isFinished], [true, true, false]);
  }
});

Deno.test("only whole blocks can be hashed", () => {
  assertEquals([0, 1, 4095, 4097, -4096].map(dataBlocksOf), Array(5).fill(undefined));
  assertEquals(dataBlocksOf(8192), 2);
});

Deno.test("trees are told to the kernel, veritysetup, systemd and containerd", () => {
  const report = {
    rootHash: "ab".repeat(32),
    salt: "",
    uuid: "",
    dataBlocks: 2,
    hashOffset: 8192,
    hashBytes: 8192,
  };
  const devices = { name: "root", dataDevice: "/dev/vda", hashDevice: "/dev/vdb" };
  const texts = VERITY_FORMATS.map((format) => verityText(format, report, devices));
  assertEquals(texts, [
    'dm-mod.create="root,,,ro,0 16 verity 1 /dev/vda /dev/vdb 4096 4096 2 3 sha256 ' +
    `${report.rootHash} -"\n`,
    `veritysetup open /dev/vda root /dev/vdb ${report.rootHash} --hash-offset=8192\n`,
    `root /dev/vda /dev/vdb ${report.rootHash} hash-offset=8192\n`,
    `{\n  "roothash": "${report.rootHash}",\n  "hashoffset": 8192\n}\n`,
  ]);
  const apart = { ...report, hashOffset: 0 };
  assertEquals(
    verityText("systemd", apart, devices),
    `root /dev/vda /dev/vdb ${report.rootHash}\n`,
  );
  assertEquals(
    ["a.raw", "b.ext4", "c.raw.ext4"].map(rootHashPath),
    ["a.roothash", "b.ext4.roothash", "c.raw.ext4.roothash"],
  );
});
