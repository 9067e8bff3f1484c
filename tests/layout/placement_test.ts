import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import type { BlockRange } from "../../lib/layout/blocks.ts";
import {
  appendExtents,
  type Demand,
  type DemandedPayload,
  type Extent,
  isAligned,
  type LayoutRules,
  type PayloadOrder,
  placePayloads,
  runStarts,
  sortPayloads,
} from "../../lib/layout/placement.ts";

const KIB = 1024;
const TIGHT: LayoutRules = {
  blockSizeBytes: 4096,
  extentBlocksMax: 32_768,
  gridBlocks: 32,
  alignThresholdBytes: 64 * KIB,
  startOnGrid: true,
  packing: { kind: "tight" },
};
const MERGE: LayoutRules = { ...TIGHT, packing: { kind: "merge" } };
const RESYNC: LayoutRules = {
  ...TIGHT,
  packing: { kind: "resync", meanBytes: 256 * KIB, lowBytes: 64 * KIB },
};

function payload(blockCount: number, contentHash = 0xffffffff): DemandedPayload {
  return {
    sizeBytes: blockCount * 4096,
    dataRuns: blockCount === 0 ? [] : [{ startBlock: 0, blockCount }],
    contentHash,
  };
}

function inOneDirectory(payloads: readonly DemandedPayload[]): Demand[] {
  return payloads.map((payload) => ({ payload, directory: 11, nameHash: 0 }));
}

function starts(
  payloads: readonly DemandedPayload[],
  rules: LayoutRules,
  reserved: readonly BlockRange[] = [],
): number[] {
  const { extents } = placePayloads(inOneDirectory(payloads), rules, { fromBlock: 1, reserved });
  return extents.map((leaves) => leaves[0]?.startBlock ?? -1);
}

describe("placePayloads", () => {
  it("isAligned goes by the size of a file, not by what is stored of it", () => {
    assertEquals(isAligned(payload(16), TIGHT), true);
    assertEquals(isAligned({ ...payload(16), sizeBytes: 64 * KIB - 1 }, TIGHT), false);
    assertEquals(isAligned({ ...payload(0), sizeBytes: 64 * KIB }, TIGHT), true);
    assertEquals(isAligned(payload(1e6), { ...TIGHT, alignThresholdBytes: Infinity }), false);
  });

  it("no alignment packs everything", () => {
    const rules = { ...RESYNC, alignThresholdBytes: Infinity };
    const payloads = [payload(3, 0), payload(100, 0), payload(2, 0)];
    assertEquals(starts(payloads, rules), [32, 35, 135]);
    assertEquals(starts(payloads, { ...rules, startOnGrid: false }), [1, 4, 104]);
  });

  it("a large file resumes congruent behind a reserved range", () => {
    const reserved = [{ startBlock: 96, blockCount: 3 }];
    const { extents } = placePayloads(inOneDirectory([payload(80)]), TIGHT, {
      fromBlock: 1,
      reserved,
    });
    assertEquals(extents[0], [
      { logicalBlock: 0, blockCount: 64, startBlock: 32 },
      { logicalBlock: 64, blockCount: 16, startBlock: 128 },
    ]);
  });

  it("files stay in order and apart, aligned ones congruent and alone, under every rule", () => {
    const run = fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 70 }));
    const index = fc.tuple(fc.array(run, { maxLength: 4 }), fc.nat(0xffffffff)).map(
      ([runs, contentHash]): DemandedPayload => {
        let end = 0;
        const dataRuns = runs.map(([gap, blockCount]) => {
          const startBlock = end === 0 ? gap : end + 1 + gap;
          end = startBlock + blockCount;
          return { startBlock, blockCount };
        });
        return { sizeBytes: end * 4096, dataRuns, contentHash };
      },
    );
    const reserved = [{ startBlock: 0, blockCount: 2 }, { startBlock: 256, blockCount: 5 }];
    fc.assert(
      fc.property(
        fc.array(index, { maxLength: 12 }),
        fc.constantFrom(TIGHT, RESYNC, MERGE, { ...RESYNC, alignThresholdBytes: Infinity }),
        (payloads, rules) => {
          const placed = placePayloads(inOneDirectory(payloads), rules, { fromBlock: 3, reserved });
          let next = placed.startBlock;
          const owners = new Map<number, number>();
          placed.extents.forEach((leaves, i) => {
            for (const { startBlock, blockCount, logicalBlock } of leaves) {
              assertEquals(startBlock >= next, true);
              next = startBlock + blockCount;
              assertEquals(next <= 256 || startBlock >= 261, true);
              if (isAligned(payloads[i]!, rules)) assertEquals((startBlock - logicalBlock) % 32, 0);
              for (let cell = Math.floor(startBlock / 32); cell * 32 < next; cell++) {
                const owner = owners.get(cell) ?? i;
                const shares = owner !== i && (rules === RESYNC || rules === MERGE) &&
                  (isAligned(payloads[i]!, rules) || isAligned(payloads[owner]!, rules));
                assertEquals(shares, false);
                owners.set(cell, i);
              }
            }
            const mapped = leaves.reduce((sum, { blockCount }) => sum + blockCount, 0);
            const wanted = payloads[i]!.dataRuns.reduce(
              (sum, { blockCount }) => sum + blockCount,
              0,
            );
            assertEquals(mapped, wanted);
          });
          assertEquals(placed.endBlock, next);
        },
      ),
    );
  });

  it("payload steps over every cell that a reserved range reaches into, wherever it starts", () => {
    const reserved = [{ startBlock: 70, blockCount: 1 }, { startBlock: 72, blockCount: 30 }];
    assertEquals(starts([payload(40), payload(1)], RESYNC, reserved), [32, 160]);
    const { extents } = placePayloads(inOneDirectory([payload(40)]), TIGHT, {
      fromBlock: 1,
      reserved,
    });
    assertEquals(extents[0], [
      { logicalBlock: 0, blockCount: 32, startBlock: 32 },
      { logicalBlock: 32, blockCount: 8, startBlock: 128 },
    ]);
    // Without alignment there is no grid to go back to.
    const unaligned = { ...TIGHT, alignThresholdBytes: Infinity };
    assertEquals(starts([payload(38), payload(1), payload(2)], unaligned, reserved), [32, 71, 102]);
  });

  it("an extent has no more blocks than the rules allow", () => {
    const { extents } = placePayloads(inOneDirectory([payload(70)]), {
      ...TIGHT,
      extentBlocksMax: 30,
    }, {
      fromBlock: 0,
      reserved: [],
    });
    assertEquals(extents[0]!.map(({ blockCount }) => blockCount), [30, 30, 10]);
  });
});

describe("tight packing", () => {
  it("starts large files on the grid and packs what follows at once", () => {
    assertEquals(starts([payload(3), payload(20), payload(2), payload(0), payload(16)], TIGHT), [
      32,
      64,
      84,
      -1,
      96,
    ]);
  });
});

describe("resync packing", () => {
  it("starts on the grid behind a large file", () => {
    assertEquals(starts([payload(3), payload(20), payload(2), payload(2)], RESYNC), [
      32,
      64,
      96,
      98,
    ]);
  });

  it("ends a run only past the low mark, where content says so", () => {
    // A hash of 0 ends every run that may end, the highest none.
    const always = Array.from({ length: 10 }, () => payload(5, 0));
    assertEquals(starts(always, RESYNC), [32, 37, 42, 47, 64, 69, 74, 79, 96, 101]);
    const never = Array.from({ length: 10 }, () => payload(5));
    assertEquals(starts(never, RESYNC), [32, 37, 42, 47, 52, 57, 62, 67, 72, 77]);
  });

  it("ends a run where the directory changes, but only past the low mark", () => {
    const files = (...places: number[]) =>
      places.map((directory) => ({ payload: payload(8), directory, nameHash: 0 }));
    const startsOf = (list: readonly Demand[], rules = RESYNC) =>
      placePayloads(list, rules, { fromBlock: 1, reserved: [] }).extents.map(([leaf]) =>
        leaf!.startBlock
      );
    assertEquals(startsOf(files(1, 2, 2, 3)), [32, 40, 48, 64]);
    assertEquals(startsOf(files(1, 1, 2, 1, 1, 3)), [32, 40, 64, 72, 80, 96]);
    assertEquals(startsOf(files(1, 1, 2), TIGHT), [32, 40, 48]);
    const unaligned = { ...RESYNC, alignThresholdBytes: Infinity };
    assertEquals(startsOf(files(1, 1, 2), unaligned), [32, 40, 48]);
    // What lies behind an aligned file is a new run, whatever its directory.
    const aligned = { payload: payload(16), directory: 99, nameHash: 0 };
    const [a, b] = files(1, 2);
    assertEquals(startsOf([a!, a!, aligned, a!, b!]), [32, 40, 64, 96, 104]);
  });
});

describe("merge packing", () => {
  /** The rule as it is stated, without regard to what it costs. */
  function groupsByDefinition(demands: readonly Demand[], rules: LayoutRules): number[][] {
    const blocksOf = ({ payload }: Demand) =>
      payload.dataRuns.reduce((sum, { blockCount }) => sum + blockCount, 0);
    const stretches: number[][] = [[]];
    demands.forEach((demand, i) => {
      if (blocksOf(demand) === 0) return;
      if (demand.payload.sizeBytes >= rules.alignThresholdBytes) stretches.push([]);
      else stretches.at(-1)!.push(i);
    });
    return stretches.flatMap((stretch) => {
      let groups = stretch.map((i) => [i]);
      const boundaries = stretch.slice(1).map((behind, i) => ({
        behind,
        key: [
          demands[stretch[i]!]!.directory === demands[behind]!.directory ? 1 : 0,
          demands[behind]!.nameHash,
          demands[behind]!.payload.contentHash,
          i,
        ],
      }));
      boundaries.sort((a, b) => {
        const at = a.key.findIndex((part, i) => part !== b.key[i]);
        return b.key[at]! - a.key[at]!;
      });
      for (const { behind } of boundaries) {
        const at = groups.findIndex((group) => group[0] === behind);
        const joined = [...groups[at - 1]!, ...groups[at]!];
        const blocks = joined.reduce((sum, i) => sum + blocksOf(demands[i]!), 0);
        if (blocks > rules.gridBlocks) continue;
        groups = [...groups.slice(0, at - 1), joined, ...groups.slice(at + 1)];
      }
      return groups;
    });
  }

  it("joins as its definition says, for any files", () => {
    const demand = fc.record({
      blockCount: fc.nat(20),
      directory: fc.nat(3),
      nameHash: fc.oneof(fc.nat(3), fc.nat(0xffffffff)),
      contentHash: fc.oneof(fc.nat(2), fc.nat(0xffffffff)),
    });
    fc.assert(
      fc.property(
        fc.array(demand, { maxLength: 60 }),
        fc.constantFrom(4, 16, 32, 1024),
        (files, gridBlocks) => {
          const rules = { ...MERGE, gridBlocks };
          const demands = files.map(({ blockCount, contentHash, ...rest }) => ({
            payload: payload(blockCount, contentHash),
            ...rest,
          }));
          const wanted = new Uint8Array(demands.length);
          for (const [first] of groupsByDefinition(demands, rules)) wanted[first!] = 1;
          assertEquals([...runStarts(demands, rules)], [...wanted]);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("fills no cell over its end, and starts every group on the grid", () => {
    const demands = Array.from({ length: 40 }, (_, i): Demand => ({
      payload: payload(1 + i % 9, i),
      directory: Math.floor(i / 7),
      nameHash: Math.imul(i, 0x9e3779b1) >>> 0,
    }));
    const { extents } = placePayloads(demands, MERGE, { fromBlock: 1, reserved: [] });
    for (const [{ startBlock, blockCount }] of extents as [Extent][]) {
      assertEquals(Math.floor(startBlock / 32), Math.floor((startBlock + blockCount - 1) / 32));
    }
  });

  it("keeps a change within its cell when no group begins or ceases to fit", () => {
    const demands = Array.from({ length: 200 }, (_, i): Demand => ({
      payload: payload(3, i),
      directory: Math.floor(i / 10),
      nameHash: Math.imul(i, 0x9e3779b1) >>> 0,
    }));
    const before = runStarts(demands, MERGE);
    const changed = demands.map((demand, i) =>
      i === 101 ? { ...demand, payload: payload(3, 0xdead) } : demand
    );
    assertEquals([...runStarts(changed, MERGE)], [...before]);
  });
});

describe("sortPayloads", () => {
  it("keeps the order given among equals", () => {
    const file = (
      name: string,
      firstLayer: number | undefined,
      layerIndex: number,
      entryIndex = 0,
    ) => ({
      name,
      origin: { layerIndex, entryIndex },
      ...firstLayer === undefined ? {} : { firstLayer },
    });
    const namesIn = (order: PayloadOrder) => {
      const files = [
        file("a", 1, 1),
        file("b", 0, 2, 5),
        file("c", undefined, 0, 7),
        file("d", 1, 2, 1),
        file("e", 0, 0, 3),
      ];
      sortPayloads(files, order, (origin) => origin);
      return files.map(({ name }) => name).join("");
    };
    assertEquals(namesIn("path"), "abcde");
    assertEquals(namesIn("first-layer"), "bcead");
    assertEquals(namesIn("layer"), "ecadb");
  });
});

describe("appendExtents", () => {
  it("cuts runs at the most blocks that an extent can have", () => {
    const leaves: Extent[] = [];
    appendExtents(leaves, 5, [{ startBlock: 100, blockCount: 32_769 }, {
      startBlock: 50_000,
      blockCount: 2,
    }], 32_768);
    assertEquals(leaves, [
      { logicalBlock: 5, blockCount: 32_768, startBlock: 100 },
      { logicalBlock: 32_773, blockCount: 1, startBlock: 32_868 },
      { logicalBlock: 32_774, blockCount: 2, startBlock: 50_000 },
    ]);
  });
});
