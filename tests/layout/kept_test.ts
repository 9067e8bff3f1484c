import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  type BlockRange,
  overlapsAny,
  subtractRanges,
  uniteRanges,
} from "../../lib/layout/blocks.ts";
import { type KeptDemand, type KeptSurroundings, placeAmongKept } from "../../lib/layout/kept.ts";
import type { Extent, LayoutRules } from "../../lib/layout/placement.ts";
import { Random } from "../oracle/noise.ts";

const RULES: LayoutRules = {
  blockSizeBytes: 4096,
  extentBlocksMax: 32768,
  gridBlocks: 8,
  alignThresholdBytes: 4 * 4096,
  startOnGrid: true,
  packing: { kind: "merge" },
};
const EMPTY: KeptSurroundings = { taken: [], reserved: [], cleared: () => [] };

/** A file of whole blocks; `at` is where it is kept, `was` where the one is that it replaces. */
function demand(
  blockCount: number,
  places: { at?: number; was?: readonly [number, number] } = {},
): KeptDemand {
  const extents = (startBlock: number, count: number): Extent[] => [
    { startBlock, blockCount: count, logicalBlock: 0 },
  ];
  return {
    payload: {
      sizeBytes: blockCount * 4096,
      dataRuns: [{ startBlock: 0, blockCount }],
      contentHash: blockCount,
    },
    directory: 2,
    nameHash: blockCount,
    sameContent: places.at === undefined ? undefined : extents(places.at, blockCount),
    replaced: places.was === undefined ? undefined : extents(...places.was),
  };
}

function startsOf(demands: readonly KeptDemand[], surroundings = EMPTY, rules = RULES): number[] {
  return placeAmongKept(demands, rules, surroundings).extents.map(([first]) => first!.startBlock);
}

describe("placeAmongKept", () => {
  it("keeps what was there and puts new files behind, on the grid", () => {
    const files = [demand(2, { at: 8 }), demand(3), demand(2, { at: 10 })];
    // The cell in front is free as a whole.
    assertEquals(startsOf(files), [8, 0, 10]);
    assertEquals(startsOf(files, { ...EMPTY, taken: [{ startBlock: 0, blockCount: 1 }] }), [
      8,
      16,
      10,
    ]);
  });

  it("uses room of cells that change anyway, and of no others", () => {
    const files = [demand(2, { at: 8 }), demand(2, { at: 24 }), demand(3)];
    const cleared = () => [{ startBlock: 30, blockCount: 1 }];
    assertEquals(startsOf(files, { ...EMPTY, cleared }), [8, 24, 26]);
    assertEquals(startsOf(files), [8, 24, 0]);
  });

  it("puts a file where the one was that it replaces, if it fits", () => {
    const cleared = () => [{ startBlock: 12, blockCount: 2 }];
    const around = [demand(2, { at: 8 }), demand(1, { at: 15 })];
    const place = (blocks: number) =>
      startsOf([...around, demand(blocks, { was: [12, 2] })], { ...EMPTY, cleared })[2];
    assertEquals([place(2), place(3)], [12, 12]);
    assertEquals([place(4) === 12, place(5) === 12].includes(true), false);
  });

  it("leaves the last cell of an aligned file alone, and what shares it is placed anew", () => {
    const files = [demand(9, { at: 0 }), demand(2, { at: 10 }), demand(1)];
    const cleared = () => [{ startBlock: 12, blockCount: 1 }];
    const { extents, isKept } = placeAmongKept(files, RULES, { ...EMPTY, cleared });
    assertEquals([...isKept], [1, 0, 0]);
    assertEquals(extents.slice(1).map(([first]) => first!.startBlock), [16, 18]);
    // Without alignment there are no such cells.
    const tight = { ...RULES, packing: { kind: "tight" } } as const;
    assertEquals([...placeAmongKept(files, tight, { ...EMPTY, cleared }).isKept], [1, 1, 0]);
  });

  it("does not keep what is off the grid, fragmented, mapped otherwise or in the way", () => {
    const off = demand(9, { at: 3 });
    const other = {
      ...demand(3),
      sameContent: [{ startBlock: 8, blockCount: 2, logicalBlock: 0 }],
    };
    const backwards = {
      ...demand(2),
      sameContent: [
        { startBlock: 20, blockCount: 1, logicalBlock: 0 },
        { startBlock: 18, blockCount: 1, logicalBlock: 1 },
      ],
    };
    const taken = demand(1, { at: 40 });
    const surroundings = { ...EMPTY, taken: [{ startBlock: 40, blockCount: 1 }] };
    const { isKept } = placeAmongKept([off, other, backwards, taken], RULES, surroundings);
    assertEquals([...isKept], [0, 0, 0, 0]);
  });

  it("never gives a block out twice, keeps the grid, and goes around what is taken", () => {
    for (let seed = 0; seed < 200; seed++) {
      const random = new Random(seed);
      const isTight = random.chance(0.3);
      const rules = isTight ? { ...RULES, packing: { kind: "tight" as const } } : RULES;
      const demands: KeptDemand[] = [];
      for (let at = 16; at < 400; at += random.between(0, 12)) {
        const blocks = random.between(1, random.chance(0.2) ? 20 : 3);
        const start = blocks >= 4 ? Math.ceil(at / 8) * 8 : at;
        if (random.chance(0.7)) demands.push(demand(blocks, { at: start }));
        else demands.push(demand(random.between(1, 12), { was: [start, blocks] }));
        at = start + blocks;
      }
      const taken: BlockRange[] = [{ startBlock: 0, blockCount: 10 }];
      const reserved: BlockRange[] = [{ startBlock: 256, blockCount: 2 }, {
        startBlock: 512,
        blockCount: 2,
      }];
      const given = uniteRanges(demands.flatMap(({ replaced }) => replaced ?? []));
      const cleared = (kept: readonly BlockRange[]) => subtractRanges(given, kept);
      const placed = placeAmongKept(demands, rules, { taken, reserved, cleared });
      const used: BlockRange[] = [];
      placed.extents.forEach((extents, i) => {
        const isAligned = demands[i]!.payload.sizeBytes >= rules.alignThresholdBytes;
        for (const extent of extents) {
          assert(!overlapsAny(extent, uniteRanges([...taken, ...reserved])), `seed ${seed}`);
          assert(!overlapsAny(extent, uniteRanges(used)), `seed ${seed}: twice`);
          assert(!isAligned || extent.startBlock % 8 === extent.logicalBlock % 8, `seed ${seed}`);
          used.push(extent);
        }
      });
    }
  });
});
