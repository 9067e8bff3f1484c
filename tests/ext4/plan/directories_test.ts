import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { directoryHash, HASH_SEED } from "../../../lib/ext4/format/htree.ts";
import { encodeDirectory, KIND_CODES, shapeDirectory } from "../../../lib/ext4/plan/directories.ts";
import type { TreeNode } from "../../../lib/model/node.ts";

const BLOCK_BYTES = 4096;
const TAIL_TYPE = 0xde;

interface FoundEntry {
  readonly inodeNumber: number;
  readonly name: string;
  readonly fileType: number;
}

/** The entries of a block, by hand; fails unless their records fill it. */
function entriesOf(block: Uint8Array): FoundEntry[] {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const entries: FoundEntry[] = [];
  let at = 0;
  while (at < BLOCK_BYTES) {
    const inodeNumber = view.getUint32(at, true);
    const recordLength = view.getUint16(at + 4, true);
    const nameLength = view.getUint8(at + 6);
    const fileType = view.getUint8(at + 7);
    const name = String.fromCharCode(...block.subarray(at + 8, at + 8 + nameLength));
    assertEquals(recordLength >= 8 && recordLength % 4 === 0, true);
    if (inodeNumber !== 0) entries.push({ inodeNumber, name, fileType });
    else assertEquals([recordLength, fileType], [12, TAIL_TYPE]);
    at += recordLength;
  }
  assertEquals(at, BLOCK_BYTES);
  return entries;
}

function names(count: number, lengthBytes: number): string[] {
  return Array.from({ length: count }, (_, i) => `${i}`.padStart(lengthBytes, "x"));
}

function encode(all: readonly string[], inodeSeed: number | undefined) {
  const shape = shapeDirectory({ path: "/d" }, all, { checksummed: inodeSeed !== undefined });
  const blocks = encodeDirectory(shape, {
    inodeNumber: 20,
    parentInodeNumber: 2,
    children: all.map((name, i) => ({ name, inodeNumber: 100 + i, fileType: 1 })),
    inodeSeed,
  });
  assertEquals(blocks.length, shape.blockCount * BLOCK_BYTES);
  return { shape, blocks };
}

Deno.test("every kind of node has a directory entry type of its own", () => {
  const kinds: TreeNode["kind"][] = [
    "file",
    "directory",
    "characterDevice",
    "blockDevice",
    "fifo",
    "socket",
    "symlink",
  ];
  assertEquals(kinds.map((kind) => KIND_CODES[kind].direntType), [1, 2, 3, 4, 5, 6, 7]);
});

Deno.test("an empty directory is one block of dots, with a checksum or without", () => {
  for (const seed of [undefined, 77]) {
    const { shape, blocks } = encode([], seed);
    assertEquals([shape.blockCount, shape.index], [1, undefined]);
    assertEquals(entriesOf(blocks), [
      { inodeNumber: 20, name: ".", fileType: 2 },
      { inodeNumber: 2, name: "..", fileType: 2 },
    ]);
  }
});

Deno.test("shapeDirectory stays linear while every record fits", () => {
  assertEquals(shapeDirectory({ path: "/d" }, names(253, 8), { checksummed: true }).blockCount, 1);
  assertEquals(
    shapeDirectory({ path: "/d" }, names(254, 8), { checksummed: true }).index === undefined,
    false,
  );
  assertEquals(shapeDirectory({ path: "/d" }, names(254, 8), { checksummed: false }).blockCount, 1);
  assertEquals(
    shapeDirectory({ path: "/d" }, names(255, 8), { checksummed: false }).index === undefined,
    false,
  );
});

Deno.test("hashed directories keep every name in the leaf that its hash leads to", () => {
  for (const seed of [undefined, 77]) {
    for (const all of [names(400, 8), names(10_500, 200)]) {
      const { shape, blocks } = encode(all, seed);
      const index = shape.index!;
      assertEquals(index.nodes.length > 0, all.length > 1000);
      const found: string[] = [];
      index.leaves.forEach((_, leaf) => {
        const at = index.leaves[leaf]!.block * BLOCK_BYTES;
        for (const { name } of entriesOf(blocks.subarray(at, at + BLOCK_BYTES))) {
          const options = { version: 1, seed: HASH_SEED, signed: false };
          const { hash } = directoryHash(name, options);
          const low = leaf === 0 ? 0 : index.leaves[leaf]!.hash & ~1;
          const high = index.leaves[leaf + 1]?.hash ?? 2 ** 32;
          assertEquals(hash >= low >>> 0 && hash <= high, true);
          found.push(name);
        }
      });
      assertEquals(found.toSorted(), all.toSorted());
    }
  }
});

Deno.test("shapeDirectory refuses what no directory holds while it counts, before it hashes", () => {
  let count = 0;
  function* names(): Generator<string> {
    const name = "n".repeat(255);
    for (;;) {
      count++;
      yield name;
    }
  }
  assertThrows(
    () => shapeDirectory({ path: "/d" }, names(), { checksummed: true }),
    InputError,
    "/d: has at least 4000000 entries",
  );
  // 507 by 510 blocks, a little more than 15 names of that length in each.
  assert(count > 507 * 510 * 15 && count < 507 * 510 * 16, `${count}`);
});
