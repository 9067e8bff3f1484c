import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { CONSTANT_SALT, parseSalt } from "../../lib/verity/format.ts";
import { HashTreeBuilder } from "../../lib/verity/hash_tree.ts";
import { LevelBlocks } from "../../lib/verity/hash_tree.ts";
import { dataBlocksWithin, treeShape } from "../../lib/verity/format.ts";
import { UsageError } from "../../lib/errors.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { Random } from "../oracle/noise.ts";
import { sweepCases } from "../oracle/sweeps.ts";
import {
  BLOCK_BYTES,
  compareWithVeritysetup,
  hasVeritysetup,
  randomWrites,
  treeBytes,
  treeOf,
} from "./veritysetup.ts";

const NO_SALT = new Uint8Array(0);
/** Where a level gets one more block, or the tree one more level. */
const BOUNDARIES = [1, 2, 127, 128, 129, 255, 256, 257, ...sweepCases([16384, 16383, 16385], 2)];

/** Counts up through all words, so that no two blocks are equal. */
function countingData(dataBlocks: number): Uint8Array {
  const words = new Uint32Array(dataBlocks * BLOCK_BYTES / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + 1, 0x9e3779b1);
  return new Uint8Array(words.buffer);
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

// Made with veritysetup 2.6.1: what must hold where it is not installed.
const VECTORS: readonly (readonly [blocks: number, salt: string, root: string, tree: string])[] = [
  [
    1,
    "0000000000000000000000000000000000000000000000000000000000000000",
    "d7a24d73b65a1e1d67ad2c855c3c56af9dc8fde0da9a28b105f8b5c2a95d1a8a",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  ],
  [
    1,
    "-",
    "962767ff8e14dc0e56cfc0410fb9f22602dc457196e4bb543a68f63a362207f6",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  ],
  [
    1,
    "00ff5aa5",
    "d214d9d4ca0f7ca60e3cce6e38371d6820b2a863bb6207b6aa7b56b18ef06a06",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  ],
  [
    2,
    "0000000000000000000000000000000000000000000000000000000000000000",
    "99c7cfdaf342d88104d70ede97db48ad9cf6f23697bdc1134a436e8bbf0e4a2b",
    "a67336b598cb9e1c3508ee652d9ef66bebea1a9220296514571c455e36e676b1",
  ],
  [
    2,
    "-",
    "83784a45b2fff316b20bf1d7e3aaa580f2973a3c615183cc1d4907303a25988b",
    "83784a45b2fff316b20bf1d7e3aaa580f2973a3c615183cc1d4907303a25988b",
  ],
  [
    2,
    "00ff5aa5",
    "b924a28e23e887d6e4bb9105de4c186d6b1632f57d3a2b716ccfe36a82619dde",
    "bdbb05048d41ca479400abb82dd6e0b615b0bc224745cfa96761b7f5543d110a",
  ],
  [
    127,
    "0000000000000000000000000000000000000000000000000000000000000000",
    "6d72bde1f404666e53e9f333d84fc2eed14c7834cbdc45fa70ab5c178a738f05",
    "53499678da3af7fd68745bb0ba0be976f227cd33f86a6bf69ef6b0c3f622ddf1",
  ],
  [
    127,
    "-",
    "e63dc6728de99acc116a94535549026bfb20e3d042473caf12607cc04170466e",
    "e63dc6728de99acc116a94535549026bfb20e3d042473caf12607cc04170466e",
  ],
  [
    127,
    "00ff5aa5",
    "a5bc5fe6295bc7e029b4a0a1a6482bb4f5dae05fd51633a293f382088cce2b5a",
    "7080efd5fd45b4c550b2e34b2d2caa902510ec917e63950c8456181950b9e68a",
  ],
  [
    128,
    "0000000000000000000000000000000000000000000000000000000000000000",
    "cdac0eadaf23673660674941242553155d53889c0d9bee9c502e8254bbb28955",
    "b4754ce1c772056251a670e5b19a05da3119025e66a63932f62536aa366cb35a",
  ],
  [
    128,
    "-",
    "dce9341fc382be52d4a35b6cadca025db1d54177d13ba27d1e448f5f1dba78f6",
    "dce9341fc382be52d4a35b6cadca025db1d54177d13ba27d1e448f5f1dba78f6",
  ],
  [
    128,
    "00ff5aa5",
    "5db2180ca1896190d888b0ef8448b17ec6c1d815cb8e517007eb23018a3bde0a",
    "6f00f938393d9d324d23280df43c881b27ff47850950b7fd1c6b34bd66fb22fd",
  ],
  [
    129,
    "0000000000000000000000000000000000000000000000000000000000000000",
    "67e19a2b1bd19ecf3bfb6d083654007c7b381099271f4cf14a785a09dbdbe260",
    "a647962119c9d8bb6dff5ab21766a5084f5a697285a9882f716dc6f9048b18f0",
  ],
  [
    129,
    "-",
    "888e93d1290039b98fbbd648a96a5ff3e07feca15e2514486ac4cfe660a3adb8",
    "c566374692dbf22dade4dcebc0f23eb0014195f9ee8a87520d3a871f38751364",
  ],
  [
    129,
    "00ff5aa5",
    "d9fa9bf0bb3294308952b348e3c4584b79e36bbca70d34a40c984ea347001f48",
    "aafbaacc07e8a6ffd22e49cbdddc8ba83f01b88f238734023f970b859d4029cf",
  ],
  [
    300,
    "0000000000000000000000000000000000000000000000000000000000000000",
    "f37ac5eef11ca4249a04a1463db96981eb5424e667888c83b8d81c1e76b691e0",
    "d2f0bf658e0055bab06f7e8f2ac4fde58f54f42786535d4a5ebf8971e22980b8",
  ],
  [
    300,
    "-",
    "89dbd990db85e782019f7071f8d609c391cdd1e843ca9681f994490381106405",
    "68954558b472089c07f5ea5dc0b370865c8584380e5811d11d7eb7854190bcd5",
  ],
  [
    300,
    "00ff5aa5",
    "315ee545ac2fe90e0fdc02722750c4dc495402c9c4713d8d6616e7844c085c94",
    "4063b02fc73d5d9980e8cc02135904f40862137292a5bb2ebeb4039ad37b90b7",
  ],
  [
    16385,
    "0000000000000000000000000000000000000000000000000000000000000000",
    "b219270780968b5928de545d5ce282d3ee668e0cd134538ced84006fdcf14209",
    "df3e8c394a59128f876797311e28f29a6715dae9207912512e5900f88ff30472",
  ],
  [
    16385,
    "-",
    "ccbe9af27fe3013c6fd49134cf1cf573720abde462c8158209bffe0dc653a1e4",
    "0256ef63bfa110ac82b10bf41ff899f8ca0f27551f23352e68a9a1f4285352a7",
  ],
  [
    16385,
    "00ff5aa5",
    "be68530eba84cc6a7501c531e61f94439c195799954eace2b17de30c6da714de",
    "e6d51730745ad1a59b17a0aefe069a10a038fe86acb02e4925866c62d2295e47",
  ],
];

Deno.test("trees are those of veritysetup, as pinned", async () => {
  assertEquals(VECTORS.length, 21);
  for (const [dataBlocks, salt, rootHash, digest] of VECTORS) {
    const writes = [{ offset: 0, bytes: countingData(dataBlocks) }];
    const tree = await treeOf(writes, { dataBlocks, salt: parseSalt(salt) });
    assertEquals(tree.parameters.rootHash, rootHash, `${dataBlocks} blocks`);
    assertEquals(sha256((await treeBytes(tree)).subarray(BLOCK_BYTES)), digest);
    tree.close();
  }
});

Deno.test("trees at every boundary are byte for byte those of veritysetup", async () => {
  if (!hasVeritysetup("trees at boundaries against veritysetup")) return;
  await withTemporaryDirectory(async (directory) => {
    for (const dataBlocks of BOUNDARIES) {
      for (const salt of [CONSTANT_SALT, NO_SALT]) {
        await compareWithVeritysetup(directory, dataBlocks, { seed: dataBlocks, salt });
      }
    }
  });
});

Deno.test("trees of random sizes and salts are byte for byte those of veritysetup", async () => {
  if (!hasVeritysetup("trees of random sizes against veritysetup")) return;
  const random = new Random(18);
  await withTemporaryDirectory(async (directory) => {
    for (let i = 0; i < 20; i++) {
      const dataBlocks = random.between(1, i < 19 ? 600 : 20_000);
      const salt = i % 2 === 0 ? NO_SALT : random.bytes(random.between(1, 256));
      await compareWithVeritysetup(directory, dataBlocks, { seed: i, salt });
    }
  });
});

Deno.test("a thread makes the same tree", async () => {
  const dataBlocks = 3000;
  const writes = randomWrites(new Random(7), dataBlocks * BLOCK_BYTES);
  const [here, there] = await Promise.all(
    [false, true].map((threaded) => treeOf(writes, { dataBlocks, salt: CONSTANT_SALT, threaded })),
  );
  assertEquals(there!.parameters, here!.parameters);
  assertEquals(Buffer.compare(await treeBytes(there!), await treeBytes(here!)), 0);
});

Deno.test("holes cost no hashing: the tree over a hole of 16 TiB is known by one block a level", () => {
  const dataBlocks = 2 ** 32;
  const builder = new HashTreeBuilder({ dataBlocks, salt: CONSTANT_SALT });
  builder.addZeroBlocks(dataBlocks);
  const tree = builder.finish();
  let digest: Uint8Array = new Uint8Array(BLOCK_BYTES);
  const hash = (block: Uint8Array) =>
    createHash("sha256").update(CONSTANT_SALT).update(block).digest();
  digest = hash(digest);
  // 4 full levels of 128; the fifth has 16 digests in its one block.
  for (let level = 0; level < 4; level++) digest = hash(repeated(digest, 128));
  const top = new Uint8Array(BLOCK_BYTES);
  top.set(repeated(digest, 16));
  assertEquals(tree.parameters.rootHash, Buffer.from(hash(top)).toString("hex"));
  assertEquals(tree.shape.levels.length, 5);
  tree.close();
});

function repeated(bytes: Uint8Array, count: number): Uint8Array {
  const whole = new Uint8Array(bytes.length * count);
  for (let i = 0; i < count; i++) whole.set(bytes, i * bytes.length);
  return whole;
}

Deno.test("a written zero block and a hole are the same", async () => {
  const dataBlocks = 300;
  const zeros = [{ offset: 0, bytes: new Uint8Array(dataBlocks * BLOCK_BYTES) }];
  const [written, hole] = [
    await treeOf(zeros, { dataBlocks, salt: CONSTANT_SALT }),
    await treeOf([], { dataBlocks, salt: CONSTANT_SALT }),
  ];
  assertEquals(written.parameters, hole.parameters);
  assertEquals(await treeBytes(written), await treeBytes(hole));
});

Deno.test("a level that is too much for memory goes into a file, and comes back in order", () => {
  const few = new LevelBlocks(undefined, 2 * 1024 * 1024);
  const block = new Uint8Array(BLOCK_BYTES);
  const repeatedBlock = new Uint8Array(BLOCK_BYTES).fill(0xee);
  const wanted = createHash("sha256");
  for (let i = 0; i < 1500; i++) {
    new DataView(block.buffer).setUint32(0, i);
    few.append(block);
    wanted.update(block);
    if (i % 400 !== 399) continue;
    few.appendRepeated(repeatedBlock, 300);
    for (let k = 0; k < 300; k++) wanted.update(repeatedBlock);
  }
  const found = createHash("sha256");
  for (const piece of few.read()) found.update(piece);
  assertEquals(found.digest("hex"), wanted.digest("hex"));
  few.close();
});

Deno.test("sizes are known before anything is hashed", () => {
  assertEquals(treeShape(1).sizeBytes, BLOCK_BYTES);
  assertEquals(treeShape(128).sizeBytes, 2 * BLOCK_BYTES);
  assertEquals(treeShape(129).sizeBytes, 4 * BLOCK_BYTES);
  assertEquals(treeShape(16385).levels.map(({ blockCount }) => blockCount), [129, 2, 1]);
  for (let total = 0; total < 40_000; total += 37) {
    const data = dataBlocksWithin(total);
    const blocks = (count: number) => count + treeShape(count).sizeBytes / BLOCK_BYTES;
    if (data > 0) assertEquals(blocks(data) <= total, true);
    assertEquals(blocks(data + 1) > total, true);
  }
});

Deno.test("salts are hex, or none", () => {
  assertEquals(parseSalt("a".repeat(512)).length, 256);
  assertEquals(parseSalt("-").length, 0);
  assertThrows(() => parseSalt("a".repeat(514)), UsageError, "wanted at most 256 bytes, found 257");
  assertThrows(
    () => parseSalt("abc"),
    UsageError,
    'wanted pairs of hex digits, found "abc"',
  );
  assertThrows(() => parseSalt(""), UsageError, "wanted pairs of hex digits");
});

Deno.test("a tree of more or less data than was announced is a fault of the program", async () => {
  await assertRejects(
    () =>
      treeOf([{ offset: 2 * BLOCK_BYTES, bytes: Uint8Array.of(1) }], {
        dataBlocks: 2,
        salt: CONSTANT_SALT,
      }),
    Error,
    "Invariant broken",
  );
});
