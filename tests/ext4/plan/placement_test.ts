import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { BlockRange } from "../../../lib/ext4/plan/geometry.ts";
import type { FileToPlace, PlacementRules } from "../../../lib/ext4/plan/placement.ts";
import { isAligned, placePayloads } from "../../../lib/ext4/plan/placement.ts";
import type { PayloadIndex } from "../../../lib/model/payload.ts";

const KIB = 1024;
const TIGHT: PlacementRules = {
  gridBlocks: 32,
  alignThresholdBytes: 64 * KIB,
  packing: { kind: "tight" },
};
const RESYNC: PlacementRules = {
  ...TIGHT,
  packing: { kind: "resync", meanBytes: 256 * KIB, lowBytes: 64 * KIB },
};

function payload(blockCount: number, contentHash = 0xffffffff): PayloadIndex {
  return {
    sizeBytes: blockCount * 4096,
    segments: [],
    dataRuns: blockCount === 0 ? [] : [{ startBlock: 0, blockCount }],
    contentHash,
  };
}

function inOneDirectory(payloads: readonly PayloadIndex[]): FileToPlace[] {
  return payloads.map((payload) => ({ payload, directory: 11 }));
}

function starts(
  payloads: readonly PayloadIndex[],
  rules: PlacementRules,
  reserved: readonly BlockRange[] = [],
): number[] {
  const { extents } = placePayloads(inOneDirectory(payloads), rules, { fromBlock: 1, reserved });
  return extents.map((leaves) => leaves[0]?.startBlock ?? -1);
}

Deno.test("isAligned goes by the size of a file, not by what is stored of it", () => {
  assertEquals(isAligned(payload(16), TIGHT), true);
  assertEquals(isAligned({ ...payload(16), sizeBytes: 64 * KIB - 1 }, TIGHT), false);
  assertEquals(isAligned({ ...payload(0), sizeBytes: 64 * KIB }, TIGHT), true);
  assertEquals(isAligned(payload(1e6), { ...TIGHT, alignThresholdBytes: Infinity }), false);
});

Deno.test("tight packing starts large files on the grid and packs what follows at once", () => {
  assertEquals(starts([payload(3), payload(20), payload(2), payload(0), payload(16)], TIGHT), [
    32,
    64,
    84,
    -1,
    96,
  ]);
});

Deno.test("resync packing starts on the grid behind a large file", () => {
  assertEquals(starts([payload(3), payload(20), payload(2), payload(2)], RESYNC), [32, 64, 96, 98]);
});

Deno.test("resync packing ends a run only past the low mark, where content says so", () => {
  // A hash of 0 ends every run that may end, the highest none.
  const always = Array.from({ length: 10 }, () => payload(5, 0));
  assertEquals(starts(always, RESYNC), [32, 37, 42, 47, 64, 69, 74, 79, 96, 101]);
  const never = Array.from({ length: 10 }, () => payload(5));
  assertEquals(starts(never, RESYNC), [32, 37, 42, 47, 52, 57, 62, 67, 72, 77]);
});

Deno.test("resync packing ends a run where the directory changes, but only past the low mark", () => {
  const files = (...places: number[]) =>
    places.map((directory) => ({ payload: payload(8), directory }));
  const startsOf = (list: readonly FileToPlace[], rules = RESYNC) =>
    placePayloads(list, rules, { fromBlock: 1, reserved: [] }).extents.map(([leaf]) =>
      leaf!.startBlock
    );
  assertEquals(startsOf(files(1, 2, 2, 3)), [32, 40, 48, 64]);
  assertEquals(startsOf(files(1, 1, 2, 1, 1, 3)), [32, 40, 64, 72, 80, 96]);
  assertEquals(startsOf(files(1, 1, 2), TIGHT), [32, 40, 48]);
  const unaligned = { ...RESYNC, alignThresholdBytes: Infinity };
  assertEquals(startsOf(files(1, 1, 2), unaligned), [32, 40, 48]);
  // What lies behind an aligned file is a new run, whatever its directory.
  const aligned = { payload: payload(16), directory: 99 };
  const [a, b] = files(1, 2);
  assertEquals(startsOf([a!, a!, aligned, a!, b!]), [32, 40, 64, 96, 104]);
});

Deno.test("no alignment packs everything", () => {
  const rules = { ...RESYNC, alignThresholdBytes: Infinity };
  assertEquals(starts([payload(3, 0), payload(100, 0), payload(2, 0)], rules), [32, 35, 135]);
});

Deno.test("a large file resumes congruent behind a reserved range", () => {
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

Deno.test("files stay in order and apart, aligned ones congruent and alone, under every rule", () => {
  const run = fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 70 }));
  const index = fc.tuple(fc.array(run, { maxLength: 4 }), fc.nat(0xffffffff)).map(
    ([runs, contentHash]): PayloadIndex => {
      let end = 0;
      const dataRuns = runs.map(([gap, blockCount]) => {
        const startBlock = end === 0 ? gap : end + 1 + gap;
        end = startBlock + blockCount;
        return { startBlock, blockCount };
      });
      return { sizeBytes: end * 4096, segments: [], dataRuns, contentHash };
    },
  );
  const reserved = [{ startBlock: 0, blockCount: 2 }, { startBlock: 256, blockCount: 5 }];
  fc.assert(
    fc.property(
      fc.array(index, { maxLength: 12 }),
      fc.constantFrom(TIGHT, RESYNC, { ...RESYNC, alignThresholdBytes: Infinity }),
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
              const shares = owner !== i && rules === RESYNC &&
                (isAligned(payloads[i]!, rules) || isAligned(payloads[owner]!, rules));
              assertEquals(shares, false);
              owners.set(cell, i);
            }
          }
          const mapped = leaves.reduce((sum, { blockCount }) => sum + blockCount, 0);
          const wanted = payloads[i]!.dataRuns.reduce((sum, { blockCount }) => sum + blockCount, 0);
          assertEquals(mapped, wanted);
        });
        assertEquals(placed.endBlock, next);
      },
    ),
  );
});
