import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import {
  AscendingAllocator,
  type BlockRange,
  countBlocks,
  forEachOverlap,
  joinedInOrder,
  mergeRanges,
} from "../../lib/layout/blocks.ts";

const RESERVED: readonly BlockRange[] = [
  { startBlock: 0, blockCount: 2 },
  { startBlock: 100, blockCount: 3 },
  { startBlock: 200, blockCount: 1 },
];

const range = (startBlock: number, blockCount: number) => ({ startBlock, blockCount });

describe("AscendingAllocator", () => {
  it("hands out blocks in pieces around reserved ranges", () => {
    const allocator = new AscendingAllocator(RESERVED);
    assertEquals(allocator.cursor, 2);
    assertEquals(allocator.contiguousBlocks, 98);
    assertEquals(allocator.take(97), [{ startBlock: 2, blockCount: 97 }]);
    assertEquals(allocator.take(99), [
      { startBlock: 99, blockCount: 1 },
      { startBlock: 103, blockCount: 97 },
      { startBlock: 201, blockCount: 1 },
    ]);
    assertEquals(allocator.contiguousBlocks, Infinity);
    assertEquals(allocator.take(0), []);
  });

  it("takeContiguous leaves what is too short free", () => {
    const allocator = new AscendingAllocator(RESERVED, 50);
    assertEquals(allocator.takeContiguous(50), 50);
    assertEquals(allocator.cursor, 103);
    assertEquals(allocator.takeContiguous(98), 201);
  });

  it("advanceToCongruent finds the next free block with the residue", () => {
    const allocator = new AscendingAllocator(RESERVED);
    allocator.advanceToCongruent(2, 4);
    assertEquals(allocator.cursor, 2);
    allocator.advanceToCongruent(1, 50);
    assertEquals(allocator.cursor, 51);
    allocator.advanceToCongruent(0, 50);
    assertEquals(allocator.cursor, 150);
    allocator.alignTo(64);
    assertEquals(allocator.cursor, 192);
  });

  it("never hands out a block twice, or a reserved one", () => {
    const step = fc.tuple(
      fc.constantFrom("take", "contiguous", "congruent"),
      fc.nat(70),
      fc.nat(7),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.nat(150), (steps, startBlock) => {
        const allocator = new AscendingAllocator(RESERVED, startBlock);
        const seen = new Set<number>(
          RESERVED.flatMap((range) =>
            Array.from({ length: range.blockCount }, (_, i) => range.startBlock + i)
          ),
        );
        for (const [kind, blockCount, residue] of steps) {
          if (kind === "congruent") {
            allocator.advanceToCongruent(residue, 8);
            assertEquals(allocator.cursor % 8, residue);
            assertEquals(seen.has(allocator.cursor), false);
            continue;
          }
          const ranges = kind === "take"
            ? allocator.take(blockCount)
            : [{ startBlock: allocator.takeContiguous(blockCount), blockCount }];
          let total = 0;
          for (const range of ranges) {
            total += range.blockCount;
            for (let i = 0; i < range.blockCount; i++) {
              assertEquals(seen.has(range.startBlock + i), false);
              seen.add(range.startBlock + i);
            }
          }
          assertEquals(total, blockCount);
        }
      }),
    );
  });
});

describe("ranges", () => {
  it("mergeRanges sorts ranges and joins those that touch", () => {
    const given = [range(10, 5), range(0, 2), range(15, 1), range(3, 1)];
    assertEquals(mergeRanges(given), [range(0, 2), range(3, 1), range(10, 6)]);
    assertEquals(mergeRanges([]), []);
    assertEquals(given[0], range(10, 5));
  });

  it("mergeRanges takes a block handed out twice for a fault", () => {
    assertThrows(() => mergeRanges([range(0, 3), range(2, 1)]), Error, "handed out twice");
  });

  it("joinedInOrder joins what touches and leaves the rest to mergeRanges", () => {
    const lists = [[range(1, 2)], [], [range(3, 1), range(9, 1)], [range(10, 2), range(10, 2)]];
    assertEquals(joinedInOrder(lists), [range(1, 3), range(9, 3), range(10, 2)]);
    assertEquals(lists[0], [range(1, 2)]);
    assertThrows(() => mergeRanges(joinedInOrder(lists)), Error, "handed out twice");
  });

  it("countBlocks adds up", () => {
    assertEquals(countBlocks([]), 0);
    assertEquals(countBlocks([range(1, 2), range(10, 30)]), 32);
  });

  it("forEachOverlap cuts ranges to a window", () => {
    const ranges = [range(0, 4), range(6, 2), range(10, 10)];
    const seen: [number, number][] = [];
    const collect = (startBlock: number, endBlock: number) => {
      seen.length = 0;
      forEachOverlap(ranges, { startBlock, endBlock }, (start, count) => seen.push([start, count]));
      return [...seen];
    };
    assertEquals(collect(0, 30), [[0, 4], [6, 2], [10, 10]]);
    assertEquals(collect(2, 12), [[2, 2], [6, 2], [10, 2]]);
    assertEquals(collect(4, 6), []);
    assertEquals(collect(3, 7), [[3, 1], [6, 1]]);
    assertEquals(collect(20, 25), []);
  });
});
