import { assertEquals, assertThrows } from "@std/assert";
import {
  countBlocks,
  forEachOverlap,
  joinedInOrder,
  mergeRanges,
} from "../../../lib/ext4/plan/range_list.ts";

const range = (startBlock: number, blockCount: number) => ({ startBlock, blockCount });

Deno.test("mergeRanges sorts ranges and joins those that touch", () => {
  const given = [range(10, 5), range(0, 2), range(15, 1), range(3, 1)];
  assertEquals(mergeRanges(given), [range(0, 2), range(3, 1), range(10, 6)]);
  assertEquals(mergeRanges([]), []);
  assertEquals(given[0], range(10, 5));
});

Deno.test("mergeRanges takes a block handed out twice for a fault", () => {
  assertThrows(() => mergeRanges([range(0, 3), range(2, 1)]), Error, "handed out twice");
});

Deno.test("joinedInOrder joins what touches and leaves the rest to mergeRanges", () => {
  const lists = [[range(1, 2)], [], [range(3, 1), range(9, 1)], [range(10, 2), range(10, 2)]];
  assertEquals(joinedInOrder(lists), [range(1, 3), range(9, 3), range(10, 2)]);
  assertEquals(lists[0], [range(1, 2)]);
  assertThrows(() => mergeRanges(joinedInOrder(lists)), Error, "handed out twice");
});

Deno.test("countBlocks adds up", () => {
  assertEquals(countBlocks([]), 0);
  assertEquals(countBlocks([range(1, 2), range(10, 30)]), 32);
});

Deno.test("forEachOverlap cuts ranges to a window", () => {
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
