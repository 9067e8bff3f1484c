import { assert, assertEquals, assertRejects } from "@std/assert";
import { InputError, InterruptedError } from "../../../lib/errors.ts";
import { verifyImage } from "../../../lib/ext4/verify/verify.ts";
import { memoryReader, openFileReader } from "../../../lib/io/random_reader.ts";
import { withTemporaryDirectory } from "../../oracle/command.ts";
import { Random } from "../../oracle/noise.ts";
import { file, treeOf } from "../../oracle/tree_builder.ts";
import { fixture, FIXTURES, unpackFixture } from "../format/fixture_image.ts";
import { KIB, makeImage, MIB } from "../made_image.ts";
import { isReported, verdictOf } from "./damage.ts";

/** Smashed images a run. */
const SMASH_COUNT = Number(Deno.env.get("EXT4_VERIFY_SMASHES") ?? "150");
Deno.test("verify finds nothing wrong with any fixture", async () => {
  for (const name of FIXTURES) {
    const report = await verifyImage(memoryReader(fixture(name).bytes, name));
    assertEquals([name, report.findings, report.clean, report.complete], [name, [], true, true]);
    assertEquals(report.blessed, false);
  }
});

Deno.test("verify counts the large files on the grid, and holds an image to it when told to", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const path = `${scratch}/image.ext4`;
    const tree = treeOf({
      a: file({ sizeBytes: 300 * KIB, noise: "all", seed: 1 }),
      b: file({ sizeBytes: 70 * KIB, noise: "all", seed: 2 }),
      c: file("small"),
    });
    await makeImage(path, tree, { journalBytes: 0, alignThresholdBytes: 64 * KIB });
    const reader = openFileReader(path);
    try {
      const report = await verifyImage(reader);
      assertEquals([report.clean, report.blessed, report.layout], [true, true, {
        gridBytes: 128 * KIB,
        thresholdBytes: 64 * KIB,
        files: 2,
        congruentFiles: 2,
      }]);
      const layout = { gridBytes: MIB };
      assertEquals((await verifyImage(reader, { layout })).clean, true);
      const held = await verifyImage(reader, { layout, requireLayout: true });
      assertEquals(held.findings.map(({ structure }) => structure), ["layout"]);
    } finally {
      reader.close();
    }
  });
});

Deno.test("verify keeps as many findings as it is told to, and counts all", async () => {
  const bytes = unpackFixture("csum-1k");
  // All inodes of the first table are wrong.
  const table = fixture("csum-1k").descriptor(0).inodeTableBlock * 1024;
  for (let i = 0; i < 26; i++) bytes[table + i * 256 + 0x64]! ^= 1;
  const report = await verifyImage(memoryReader(bytes), { findingsMax: 3 });
  assertEquals(report.findings.length, 3);
  assert(report.findingCount > 20);
});

Deno.test("verify names both owners of a block", async () => {
  const image = fixture("plain-4k");
  const bytes = unpackFixture("plain-4k");
  const [a, b] = image.usedInodes().filter((used) =>
    image.extents(used).length === 1 && used.inode.mode >> 12 === 8
  );
  const at = (slot: Uint8Array) => slot.byteOffset - image.bytes.byteOffset + 0x28 + 20;
  bytes.copyWithin(at(b!.slot), at(a!.slot), at(a!.slot) + 4);
  const { findings } = await verifyImage(memoryReader(bytes));
  const found = findings.find(({ problem }) => problem === "block with two owners")?.found;
  assertEquals(found, `inode ${a!.number} and inode ${b!.number}`);
});

Deno.test("verify stops when it is told to", async () => {
  const signal = AbortSignal.abort();
  const verified = verifyImage(memoryReader(fixture("csum-1k").bytes), { signal });
  await assertRejects(() => verified, InterruptedError);
});

Deno.test("verify of a cut image tells that it is cut, wherever it is cut", async () => {
  const random = new Random(7);
  for (const name of FIXTURES) {
    const { bytes } = fixture(name);
    const places = [0, 1, 1023, 1024, 2047, 2048, 4096, 8192, 12_288, 65_536, bytes.length - 1];
    for (let i = 0; i < 6; i++) places.push(random.below(bytes.length));
    for (const length of places) {
      const verdict = await verdictOf(bytes.subarray(0, length));
      assert(isReported(verdict), `${name} cut at ${length}`);
    }
  }
});

Deno.test("verify comes to an end on smashed images, and throws only what it says", async () => {
  const random = new Random(Number(Deno.env.get("EXT4_VERIFY_SEED") ?? "11"));
  for (let i = 0; i < SMASH_COUNT; i++) {
    const name = random.pick(FIXTURES);
    const bytes = unpackFixture(name);
    const used = fixture(name);
    const blocks = Math.floor(bytes.length / used.blockSizeBytes);
    // Most of what matters lies at the front; a burst of any bytes goes over it, or over one structure.
    for (let burst = random.below(4); burst >= 0; burst--) {
      const range = random.pick([2048, 65_536, 400_000, blocks * used.blockSizeBytes]);
      const start = random.below(Math.min(range, bytes.length));
      const end = Math.min(bytes.length, start + 1 + random.below(random.pick([4, 64, 4096])));
      const isZero = random.below(4) === 0;
      for (let at = start; at < end; at++) bytes[at] = isZero ? 0 : random.below(256);
    }
    const verdict = await verdictOf(bytes);
    if (!(verdict instanceof InputError)) {
      assertEquals(verdict.clean, verdict.findingCount === 0);
    }
  }
});
