import { assert, assertEquals, assertRejects } from "@std/assert";
import { InterruptedError } from "../../../lib/errors.ts";
import { writeImage } from "../../../lib/ext4/write/write_image.ts";
import type { Payload } from "../../../lib/model/node.ts";
import { NO_PROGRESS } from "../../../lib/progress.ts";
import { CellCutter } from "../../../probe/units/cutters.ts";
import { ContentTable } from "../../../probe/units/store.ts";
import { CellCompositions, PlanCutter } from "../../../probe/units/plan_cutter.ts";
import { planTree } from "../../ext4/made_image.ts";
import { Random } from "../../oracle/noise.ts";
import { randomTree } from "../../oracle/random_tree.ts";
import { dir, file, treeOf } from "../../oracle/tree_builder.ts";

const LIMITS = {
  gridBytes: 131072,
  contentBytesMax: 4 << 20,
  allowsLong: false,
  allowsBig: false,
  valueBytesMax: 1000,
} as const;

type Plan = ReturnType<typeof planTree>;

/** Payloads that are equal count as one. */
function contentsOf(plan: Plan, known = new Map<string, number>()): Map<Payload, number> {
  return new Map(plan.files.map(({ payload }) => {
    const name = `${payload.contentHash} ${payload.sizeBytes} ${JSON.stringify(payload.dataRuns)}`;
    if (!known.has(name)) known.set(name, known.size);
    return [payload, known.get(name)!];
  }));
}

async function cutBoth(
  plan: Plan,
  compositions: CellCompositions,
  table: ContentTable,
  known: Map<string, number>,
) {
  const written: string[] = [];
  const sink = new CellCutter(plan.gridBlocks * 4096, (cell, index, rawBytes) => {
    written.push(`${index} ${table.indexOfBytes(cell, undefined)} ${rawBytes}`);
  });
  await writeImage(plan, sink, { progress: NO_PROGRESS });
  const cut: string[] = [];
  let readCount = 0;
  await new PlanCutter(plan, {
    compositions,
    contentOf: contentsOf(plan, known),
    numberOf: (cell) => (readCount++, table.indexOfBytes(cell, undefined)),
    progress: NO_PROGRESS,
    signal: undefined,
  }, ({ content, rawBytes }, index) => cut.push(`${index} ${content} ${rawBytes}`)).run();
  assertEquals(cut, written);
  return { cellCount: cut.length, readCount };
}

Deno.test("PlanCutter gives the cells of what is written, of random trees and every layout", async () => {
  const compositions = new CellCompositions();
  const [table, known] = [new ContentTable(), new Map<string, number>()];
  for (let seed = 1; seed <= 6; seed++) {
    const tree = randomTree(new Random(seed), LIMITS);
    for (const gridBytes of [4096, 65536, 131072]) {
      for (const alignThresholdBytes of [4096, 65536, Infinity]) {
        for (const kind of ["tight", "resync"] as const) {
          const packing = kind === "tight"
            ? { kind } as const
            : { kind, meanBytes: 65536, lowBytes: 16384 } as const;
          const plan = planTree(tree, { gridBytes, alignThresholdBytes, packing });
          await cutBoth(plan, compositions, table, known);
        }
      }
    }
  }
});

Deno.test("PlanCutter reads no cell again that lies elsewhere or in another image", async () => {
  const large = new Uint8Array(1 << 20).map((_, i) => (i * 2654435761) >>> 13);
  const [table, known, compositions] = [
    new ContentTable(),
    new Map<string, number>(),
    new CellCompositions(),
  ];
  const first = planTree(treeOf({ large: file(large) }));
  const second = planTree(treeOf({ a: file("new in front"), d: dir({ copy: file(large) }) }));
  await cutBoth(first, compositions, table, known);
  const { cellCount, readCount } = await cutBoth(second, compositions, table, known);
  assert(cellCount - readCount >= 8, `${readCount} of ${cellCount} cells were read`);
});

Deno.test("PlanCutter stops when it is told to", async () => {
  const plan = planTree(treeOf({ a: file("x") }));
  const signal = AbortSignal.abort();
  const cutter = new PlanCutter(plan, {
    compositions: new CellCompositions(),
    contentOf: contentsOf(plan),
    numberOf: () => 0,
    progress: NO_PROGRESS,
    signal,
  }, () => {});
  await assertRejects(() => cutter.run(), InterruptedError);
});
