import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { InterruptedError } from "../../../lib/errors.ts";
import { filePayload, ImagePayload } from "../../../lib/ext4/read/content.ts";
import { BlockBudget } from "../../../lib/ext4/read/image.ts";
import { findInode } from "../../../lib/ext4/read/directory.ts";
import { memoryReader, openFileReader } from "../../../lib/io/random_reader.ts";
import { readPayload } from "../../../lib/model/node.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { assertE2fsckClean } from "../../oracle/e2fsck.ts";
import { Random } from "../../oracle/noise.ts";
import { payloadOf } from "../../oracle/tree_builder.ts";
import { openStrictly, victimOf } from "./read_image.ts";
import { assertUndamaged, verifyFile } from "../verify/undamaged.ts";

Deno.test("filePayload points into the image, and its holes are holes", () => {
  const victim = victimOf("plain-4k");
  const image = victim.open();
  const payload = filePayload(image, image.inode(victim.inodeOf("/holes")));
  assertEquals(payload.store, image.reader);
  assertEquals(payload.segments.map(({ fileOffset }) => fileOffset / 4096), [
    ...Array.from({ length: 9 }, (_, i) => 2 * i),
  ]);
  assertEquals(payload.segments.at(-1)!.lengthBytes, 6);
  assertEquals(payload.dataRuns.length, 9);
  const far = filePayload(image, image.inode(victim.inodeOf("/beyond-4g")));
  assertEquals(far.sizeBytes, 5 * 2 ** 30);
  const bytes = new Uint8Array(16);
  readPayload(far, bytes, 4500 * 2 ** 20 - 5);
  assertEquals(new TextDecoder().decode(bytes), "\0\0\0\0\0hello\n\0\0\0\0\0");
});

Deno.test("filePayload takes inline data from the inode", () => {
  const victim = victimOf("rare-4k");
  const image = victim.open();
  const payload = filePayload(image, image.inode(victim.inodeOf("/inline-with-xattr")));
  const bytes = new Uint8Array(100);
  readPayload(payload, bytes, 0);
  assertEquals(bytes.every((byte) => byte === 0x77), true);
  assertEquals(payload.dataRuns, [{ startBlock: 0, blockCount: 1 }]);
});

Deno.test("a file that is one hole stays one where mke2fs says that it has inline data", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const source = `${scratch}/source`;
    Deno.mkdirSync(source);
    for (const sizeBytes of [61, 5 * 2 ** 30]) {
      Deno.writeFileSync(`${source}/${sizeBytes}`, new Uint8Array());
      Deno.truncateSync(`${source}/${sizeBytes}`, sizeBytes);
    }
    const path = `${scratch}/image`;
    mustRun("mke2fs", ["-q", "-t", "ext4", "-O", "inline_data", "-d", source, path, "4M"]);
    assertE2fsckClean(path);
    await assertUndamaged("holes with inline data", path);
    const image = openStrictly(openFileReader(path));
    try {
      for (const sizeBytes of [61, 5 * 2 ** 30]) {
        const { inode } = findInode(image, `/${sizeBytes}`, { followsLast: false });
        const payload = filePayload(image, inode);
        assertEquals([payload.sizeBytes, payload.segments, payload.dataRuns], [sizeBytes, [], []]);
      }
    } finally {
      image.close();
    }
    // As e2fsck has it, the size needs large_file all the same.
    mustRun("debugfs", ["-w", "-R", "feature -large_file", path]);
    const { findings } = await verifyFile(path);
    const sizes = findings.filter(({ structure }) => structure === "inode");
    assertEquals(sizes.map(({ wanted }) => wanted), ["below 2147483648 without large_file"]);
  });
});

Deno.test("ImagePayload finds the same runs and hash as whoever made the file, at once or in pieces", async () => {
  const parts: [number, Uint8Array][] = [
    [0, new Random(1).bytes(5000)],
    [20_480, new Uint8Array(4096)],
    [40_960, new Random(2).bytes(3_000_001)],
  ];
  const made = payloadOf({ sizeBytes: 5_000_000, parts });
  const bytes = new Uint8Array(5_000_000);
  readPayload(made, bytes, 0);
  // Pieces of 1 KiB, as small blocks would give them.
  const segments = parts.flatMap(([start, part]) =>
    Array.from({ length: Math.ceil(part.length / 1024) }, (_, i) => ({
      fileOffset: start + 1024 * i,
      storeOffset: start + 1024 * i,
      lengthBytes: Math.min(1024, part.length - 1024 * i),
    }))
  );
  const make = () => new ImagePayload(5_000_000, segments, memoryReader(bytes));
  const scanned = make();
  await scanned.scan();
  for (const payload of [scanned, make()]) {
    assertEquals(payload.contentHash, made.contentHash);
    assertEquals(payload.dataRuns, made.dataRuns);
  }
});

Deno.test("ImagePayload stops in the middle of a large file when it is told to", async () => {
  const controller = new AbortController();
  let readBytes = 0;
  const reader = {
    sizeBytes: 2 ** 40,
    name: "endless",
    readAt(target: Uint8Array) {
      readBytes += target.length;
      controller.abort();
      return target.length;
    },
    close() {},
  };
  const segments = [{ fileOffset: 0, storeOffset: 0, lengthBytes: 2 ** 40 }];
  const payload = new ImagePayload(2 ** 40, segments, reader);
  await assertRejects(() => payload.scan(controller.signal), InterruptedError);
  assertEquals(readBytes <= 32 * 2 ** 20, true);
});

Deno.test("filePayload refuses files that are too long, encrypted, no files, or written behind their end", () => {
  const cases: [path: string, offset: number, word: number, message: string][] = [
    ["/holes", 0x04, 50_000, "i_size: found 50000, wanted at least 65536"],
    ["/holes", 0x6c, 0x10_0000, "i_size: found 45"],
    ["/holes", 0x20, 0x80800, "i_flags: ENCRYPT without the feature"],
    ["/directory", 0x6c, 0, "it is a directory"],
  ];
  for (const [path, offset, word, message] of cases) {
    const victim = victimOf("plain-4k");
    const number = victim.inodeOf(path);
    victim.view.setUint32(victim.inodeOffset(number) + offset, word, true);
    const refusal = victim.refusal((image) => filePayload(image, image.inode(number)));
    assertStringIncludes(refusal, `inode ${number}: ${message}`);
  }
});

Deno.test("filePayload keeps to its bounds", () => {
  const victim = victimOf("plain-4k");
  const number = victim.inodeOf("/holes");
  const few = victim.refusal((image) =>
    filePayload(image, image.inode(number), { maxSegmentCount: 8 })
  );
  assertStringIncludes(few, "it has more than 8 runs of data");
  const budget = new BlockBudget(9);
  const refusal = victim.refusal((image) => filePayload(image, image.inode(number), { budget }));
  assertStringIncludes(refusal, "10 blocks have owners");
});
