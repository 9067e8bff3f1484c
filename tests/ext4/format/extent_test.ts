import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InputError } from "../../../lib/errors.ts";
import { INODE_FLAG } from "../../../lib/ext4/format/constants.ts";
import {
  decodeExtentNode,
  encodeExtentNode,
  EXTENT_ROOT_ENTRIES_MAX,
  extentEntriesMax,
  sealExtentBlock,
  verifyExtentBlock,
} from "../../../lib/ext4/format/extent.ts";
import { fixture, fixtures } from "./fixture_image.ts";

/** e2fsck's rebuilt trees leave old entries behind the ones in use; only those in use are compared. */
function usedPart(node: Uint8Array, decoded: ReturnType<typeof decodeExtentNode>): Uint8Array {
  return node.slice(0, 12 * (1 + decoded.leaves.length + decoded.indexes.length));
}

Deno.test("extent nodes come back byte for byte", () => {
  const depths = new Map<number, number>();
  for (const image of fixtures()) {
    for (const used of image.usedInodes()) {
      if ((used.inode.flags & INODE_FLAG.EXTENTS) === 0) continue;
      const nodes = [used.inode.blockField, ...image.extentBlocks(used).map(({ bytes }) => bytes)];
      for (const bytes of nodes) {
        const node = decodeExtentNode(bytes, `${image.name} inode ${used.number}`);
        const encoded = new Uint8Array(bytes.length).fill(0xaa);
        encodeExtentNode(encoded, node);
        assertEquals(usedPart(encoded, node), usedPart(bytes, node));
        depths.set(node.depth, (depths.get(node.depth) ?? 0) + 1);
      }
    }
  }
  assert((depths.get(0) ?? 0) > 100 && (depths.get(1) ?? 0) >= 4 && (depths.get(2) ?? 0) >= 2);
});

Deno.test("sealExtentBlock stores what debugfs and the kernel stored", () => {
  let count = 0;
  for (const image of fixtures()) {
    for (const used of image.usedInodes()) {
      const seed = image.inodeSeed(used);
      if (seed === undefined) continue;
      for (const { number, bytes } of image.extentBlocks(used)) {
        verifyExtentBlock(bytes, seed, `${image.name} block ${number}`);
        const sealed = bytes.slice();
        const tail = 12 * (1 + decodeExtentNode(bytes, "node").entriesMax);
        sealed.fill(0xaa, tail, tail + 4);
        sealExtentBlock(sealed, seed);
        assertEquals(sealed, bytes.slice());
        count++;
      }
    }
  }
  assert(count >= 8, `only ${count} extent blocks`);
});

Deno.test("verifyExtentBlock names the block, the value found and the one wanted", () => {
  const image = fixture("csum-1k");
  const used = image.usedInodes().find((one) => image.extentBlocks(one).length > 1);
  assert(used !== undefined);
  const seed = image.inodeSeed(used) ?? 0;
  const [block] = image.extentBlocks(used);
  const damaged = block?.bytes.slice() ?? new Uint8Array(0);
  damaged[20] = (damaged[20] ?? 0) ^ 0x80;
  assertThrows(
    () => verifyExtentBlock(damaged, seed, "extent block 77"),
    InputError,
    "extent block 77: its checksum",
  );
  new DataView(damaged.buffer).setUint16(4, 85, true);
  assertThrows(
    () => verifyExtentBlock(damaged, seed, "extent block 77"),
    InputError,
    "leaves none",
  );
});

Deno.test("extentEntriesMax is the kernel's, and the tail fits behind it", () => {
  assertEquals(extentEntriesMax(1024), 84);
  assertEquals(extentEntriesMax(2048), 169);
  assertEquals(extentEntriesMax(4096), 340);
  assertEquals(extentEntriesMax(65536), 5460);
  for (let size = 1024; size <= 65536; size *= 2) {
    assert(12 * (1 + extentEntriesMax(size)) + 4 <= size);
    // fs/ext4/extents.c does not think of the tail when it counts the places.
    assertEquals(extentEntriesMax(size), Math.floor((size - 12) / 12));
  }
  assertEquals(EXTENT_ROOT_ENTRIES_MAX, Math.floor((60 - 12) / 12));
});

const leaves = fc.array(
  fc.record({
    gap: fc.nat(1000),
    blockCount: fc.integer({ min: 1, max: 32767 }),
    startBlock: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
    unwritten: fc.boolean(),
  }),
  { maxLength: 84 },
).map((parts) => {
  let next = 0;
  return parts.map(({ gap, ...rest }) => {
    const leaf = { logicalBlock: next + gap, ...rest };
    next = leaf.logicalBlock + leaf.blockCount;
    return leaf;
  });
});

Deno.test("leaf nodes survive a round trip, sealed", () => {
  fc.assert(fc.property(leaves, fc.nat(), (entries, seed) => {
    const block = new Uint8Array(1024);
    encodeExtentNode(block, { depth: 0, entriesMax: 84, leaves: entries });
    sealExtentBlock(block, seed);
    verifyExtentBlock(block, seed, "node");
    const node = decodeExtentNode(block, "node");
    assertEquals(node, { depth: 0, entriesMax: 84, leaves: entries, indexes: [] });
  }));
});

Deno.test("index nodes survive a round trip", () => {
  fc.assert(fc.property(
    fc.uniqueArray(fc.nat(), { minLength: 1, maxLength: 4 }),
    fc.integer({ min: 1, max: 2 ** 48 - 1 }),
    (starts, childBlock) => {
      const sorted = starts.sort((a, b) => a - b);
      const indexes = sorted.map((logicalBlock) => ({ logicalBlock, childBlock }));
      const root = new Uint8Array(60);
      encodeExtentNode(root, { depth: 3, entriesMax: 4, indexes });
      assertEquals(decodeExtentNode(root, "root").indexes, indexes);
    },
  ));
});

Deno.test("an extent of 32768 blocks is a written one", () => {
  const root = new Uint8Array(60);
  const leaf = { logicalBlock: 0, blockCount: 32768, startBlock: 9 };
  encodeExtentNode(root, { depth: 0, entriesMax: 4, leaves: [leaf] });
  assertEquals(decodeExtentNode(root, "root").leaves, [{ ...leaf, unwritten: false }]);
  for (const bad of [{ ...leaf, blockCount: 32769 }, { ...leaf, unwritten: true }]) {
    const node = { depth: 0, entriesMax: 4, leaves: [bad] };
    assertThrows(() => encodeExtentNode(root, node), Error, "Invariant");
  }
});

Deno.test("encodeExtentNode refuses nodes that cannot be", () => {
  const leaf = { logicalBlock: 0, blockCount: 1, startBlock: 9 };
  const refused = [
    { depth: 0, entriesMax: 4, leaves: Array(5).fill(leaf) },
    { depth: 0, entriesMax: 5, leaves: [] },
    { depth: 1, entriesMax: 4, leaves: [leaf] },
    { depth: 0, entriesMax: 4, indexes: [{ logicalBlock: 0, childBlock: 5 }] },
    { depth: 6, entriesMax: 4, indexes: [{ logicalBlock: 0, childBlock: 5 }] },
    { depth: 1, entriesMax: 4, indexes: [{ logicalBlock: 0, childBlock: 0 }] },
    { depth: 0, entriesMax: 4, leaves: [{ ...leaf, startBlock: 2 ** 48 }] },
    { depth: 0, entriesMax: 4, leaves: [{ ...leaf, logicalBlock: 2 ** 32 }] },
    { depth: 0, entriesMax: 4, leaves: [{ ...leaf, blockCount: 0 }] },
  ];
  for (const node of refused) {
    assertThrows(() => encodeExtentNode(new Uint8Array(60), node), Error, "Invariant");
  }
});

Deno.test("decodeExtentNode refuses damaged nodes", () => {
  const good = new Uint8Array(60);
  encodeExtentNode(good, {
    depth: 0,
    entriesMax: 4,
    leaves: [
      { logicalBlock: 0, blockCount: 4, startBlock: 100 },
      { logicalBlock: 4, blockCount: 4, startBlock: 200 },
    ],
  });
  const damages: [string, (view: DataView) => void][] = [
    ["magic number", (view) => view.setUint16(0, 0xf30b, true)],
    ["it has 5 entries", (view) => view.setUint16(2, 5, true)],
    ["room for 0 entries", (view) => view.setUint16(4, 0, true)],
    ["room for 5 entries", (view) => view.setUint16(4, 5, true)],
    ["its depth is 6", (view) => view.setUint16(6, 6, true)],
    ["entry 1 begins at logical block 4, before 5", (view) => view.setUint16(16, 5, true)],
    ["entry 1 begins at logical block 3, before 4", (view) => view.setUint16(24, 3, true)],
    ["it maps 0 blocks", (view) => view.setUint16(16, 0, true)],
    ["it maps 4 blocks from logical", (view) => view.setUint32(24, 0xfffffffe, true)],
    ["0 entries at depth 1", (view) => {
      view.setUint16(2, 0, true);
      view.setUint16(6, 1, true);
    }],
    ["it points to block 0", (view) => {
      view.setUint16(6, 1, true);
      view.setUint32(16, 0, true);
      view.setUint16(20, 0, true);
    }],
  ];
  for (const [message, damage] of damages) {
    const node = good.slice();
    damage(new DataView(node.buffer));
    assertThrows(() => decodeExtentNode(node, "root of inode 12"), InputError, message);
  }
});

Deno.test("decodeExtentNode never fails on bytes that it does not know but with InputError", () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 56, maxLength: 56 }), (rest) => {
    const node = Uint8Array.of(0x0a, 0xf3, 0, 0, ...rest);
    node[2] = 1 + (rest[0] ?? 0) % 4;
    node.set([4, 0, (rest[1] ?? 0) % 3, 0], 4);
    try {
      decodeExtentNode(node, "node");
    } catch (error) {
      assert(error instanceof InputError, String(error));
    }
  }));
});
