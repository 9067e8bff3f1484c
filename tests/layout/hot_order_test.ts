import { assertEquals } from "@std/assert";
import {
  type Demand,
  hotFirst,
  type LayoutRules,
  placePayloads,
  runStarts,
} from "../../lib/layout/placement.ts";

const RULES: LayoutRules = {
  blockSizeBytes: 4096,
  extentBlocksMax: 32768,
  gridBlocks: 32,
  alignThresholdBytes: 65536,
  startOnGrid: true,
  packing: { kind: "merge" },
};

interface Named extends Demand {
  readonly name: string;
}

function demand(name: string, blocks: number): Named {
  const dataRuns = blocks === 0 ? [] : [{ startBlock: 0, blockCount: blocks }];
  const payload = { sizeBytes: blocks * 4096, dataRuns, contentHash: blocks };
  return { name, payload, directory: 1, nameHash: blocks };
}

const FILES = [
  demand("a", 1),
  demand("B", 40),
  demand("c", 2),
  demand("D", 20),
  demand("empty", 0),
  demand("e", 3),
];

function ordered(hot: readonly string[]): { names: string[]; starts: number[] } {
  const rankOf = ({ name }: Named) => hot.includes(name) ? hot.indexOf(name) : undefined;
  const { files, isCopy, runStarts } = hotFirst(FILES, RULES, rankOf);
  const { extents } = placePayloads(files, RULES, { fromBlock: 10, reserved: [], runStarts });
  return {
    names: files.map(({ name }, i) => isCopy[i] === 1 ? `copy of ${name}` : name),
    starts: extents.map((own) => own[0]?.startBlock ?? -1),
  };
}

Deno.test("hot files come first, small ones packed and large ones on the grid behind them", () => {
  assertEquals(ordered(["e", "D", "empty", "a"]), {
    names: ["e", "empty", "a", "D", "copy of a", "B", "c", "copy of e"],
    // Three blocks and one share a cell; what follows the hot ones begins a cell, as it does without them.
    starts: [32, -1, 35, 64, 96, 128, 192, 224],
  });
  assertEquals(ordered(["c", "e"]).starts.slice(0, 4), [32, 34, 64, 96]);
});

Deno.test("cells of other files are those that they are where nothing is hot", () => {
  /** The files of each cell and where in it they begin, without the hot ones themselves. */
  const cellsOf = (hot: readonly string[]) => {
    const { names, starts } = ordered(hot);
    const cells = new Map<number, string[]>();
    names.forEach((name, i) => {
      if (hot.includes(name) || starts[i] === -1) return;
      const cell = Math.floor(starts[i]! / 32);
      const place = `${name.replace("copy of ", "")}@${starts[i]! % 32}`;
      cells.set(cell, [...cells.get(cell) ?? [], place]);
    });
    return [...cells.values()].map((each) => each.join(" "));
  };
  assertEquals(cellsOf(["e", "a"]), cellsOf([]));
  // A large one only moves, and still parts the small ones around it.
  assertEquals(cellsOf(["D", "c"]), cellsOf([]).filter((cell) => cell !== "D@0"));
});

Deno.test("nothing changes where nothing is hot", () => {
  const { files, isCopy, runStarts: starts } = hotFirst(FILES, RULES, () => undefined);
  assertEquals([files, [...isCopy]], [FILES, [0, 0, 0, 0, 0, 0]]);
  assertEquals(starts, runStarts(FILES, RULES));
});

Deno.test("without alignment hot files come first, and there are no cells to keep", () => {
  const rules = { ...RULES, alignThresholdBytes: Infinity, startOnGrid: false };
  const rankOf = ({ name }: Named) => name === "e" ? 0 : undefined;
  const { files, isCopy, runStarts: starts } = hotFirst(FILES, rules, rankOf);
  assertEquals([[...starts], [...isCopy]], [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]);
  assertEquals(files.map(({ name }) => name), ["e", "a", "B", "c", "D", "empty"]);
});
