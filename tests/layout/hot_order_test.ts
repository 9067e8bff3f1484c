import { assertEquals } from "@std/assert";
import { hotFirst, runStartsBehindHot } from "../../lib/layout/hot_order.ts";
import type { Demand, LayoutRules } from "../../lib/layout/packing.ts";
import { placePayloads } from "../../lib/layout/placement.ts";

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
  const { files, hotCount } = hotFirst(FILES, RULES, rankOf);
  const runStarts = runStartsBehindHot(files, RULES, hotCount);
  const { extents } = placePayloads(files, RULES, { fromBlock: 10, reserved: [], runStarts });
  return {
    names: files.map(({ name }) => name),
    starts: extents.map((own) => own[0]?.startBlock ?? -1),
  };
}

Deno.test("hot files come first, small ones packed and large ones on the grid behind them", () => {
  assertEquals(ordered(["e", "D", "empty", "a"]), {
    names: ["e", "empty", "a", "D", "B", "c"],
    // Three blocks and one share a cell; what follows the hot ones begins a cell.
    starts: [32, -1, 35, 64, 96, 160],
  });
  assertEquals(ordered(["c", "e"]).starts.slice(0, 4), [32, 34, 64, 96]);
});

Deno.test("nothing changes where nothing is hot", () => {
  const { files, hotCount } = hotFirst(FILES, RULES, () => undefined);
  assertEquals([files, hotCount], [FILES, 0]);
});

Deno.test("without alignment hot files come first, and nothing is padded", () => {
  const rules = { ...RULES, alignThresholdBytes: Infinity, startOnGrid: false };
  const rankOf = ({ name }: Named) => name === "e" ? 0 : undefined;
  const { files, hotCount } = hotFirst(FILES, rules, rankOf);
  assertEquals([...runStartsBehindHot(files, rules, hotCount)], [0, 0, 0, 0, 0, 0]);
  assertEquals(files.map(({ name }) => name), ["e", "a", "B", "c", "D", "empty"]);
});
