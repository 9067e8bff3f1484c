import { assertEquals, assertRejects } from "@std/assert";
import { InterruptedError } from "../../../lib/errors.ts";
import { CellCounter, writeImage } from "../../../lib/ext4/write/write_image.ts";
import { type ImageSink, nullSink } from "../../../lib/io/sink.ts";
import { NO_PROGRESS, type Progress } from "../../../lib/progress.ts";
import { file, treeOf } from "../../oracle/tree_builder.ts";
import { planTree } from "../made_image.ts";

const TREE = treeOf({
  "a": file({ sizeBytes: 300_000, noise: "all", seed: 1 }),
  "b": file("small"),
});

/** Keeps an image in memory. */
function memorySink(sizeBytes: number): ImageSink & { readonly image: Uint8Array } {
  const image = new Uint8Array(sizeBytes);
  return { image, write: (bytes, offset) => image.set(bytes, offset), finish() {}, abort() {} };
}

Deno.test("writeImage writes payload where the plan has it, and counts the cells that hold any", async () => {
  const plan = planTree(TREE, { journalBytes: 0 });
  const sink = memorySink(plan.totalBlocks * 4096);
  const { cellBytes } = await writeImage(plan, sink, { progress: NO_PROGRESS });
  for (const { startBlock, blockCount, logicalBlock, payload } of plan.payload) {
    const wanted = new Uint8Array(blockCount * 4096);
    payload.store.readAt(
      wanted.subarray(0, payload.sizeBytes - logicalBlock * 4096),
      logicalBlock * 4096,
    );
    const found = sink.image.subarray(startBlock * 4096, (startBlock + blockCount) * 4096);
    assertEquals(found, wanted);
  }
  let cells = 0;
  for (let at = 0; at < sink.image.length; at += 131_072) {
    if (sink.image.subarray(at, at + 131_072).some((byte) => byte !== 0)) cells++;
  }
  assertEquals(cellBytes, cells * 131_072);
});

Deno.test("writeImage tells how far it is, up to all that was planned", async () => {
  const steps: number[] = [];
  let total: number | undefined;
  let ended = false;
  const progress: Progress = {
    ...NO_PROGRESS,
    begin: (_, planned) => {
      total = planned;
      return {
        advance: (amount: number) => void steps.push(amount),
        end: () => void (ended = true),
      };
    },
  };
  let written = 0;
  const counting = { ...nullSink, write: (bytes: Uint8Array) => void (written += bytes.length) };
  await writeImage(planTree(TREE), counting, { progress });
  assertEquals([steps.reduce((sum, step) => sum + step, 0), total], [written, written]);
  assertEquals(ended, true);
});

Deno.test("writeImage takes two files of one payload for two", async () => {
  const shared = file({ sizeBytes: 10_000, noise: "all", seed: 1 });
  const plan = planTree(treeOf({ "a": shared, "b": { ...shared }, "c": { ...shared } }));
  assertEquals(plan.files.length, 3);
  await writeImage(plan, nullSink, { progress: NO_PROGRESS });
});

Deno.test("writeImage waits for a sink that is slow, and writes nothing after an abort", async () => {
  const plan = planTree(TREE);
  let open = 0;
  const slow: ImageSink = {
    write: async () => {
      assertEquals(open++, 0);
      await Promise.resolve();
      open--;
    },
    finish: () => assertEquals(open, 0),
    abort() {},
  };
  await writeImage(plan, slow, { progress: NO_PROGRESS });
  let writes = 0;
  const counting = { ...nullSink, write: () => void writes++ };
  const signal = AbortSignal.abort();
  await assertRejects(
    () => writeImage(planTree(TREE), counting, { progress: NO_PROGRESS, signal }),
    InterruptedError,
  );
  assertEquals(writes, 0);
});

Deno.test("CellCounter counts each cell with a byte in it once, however it is written", () => {
  const counter = new CellCounter(8);
  counter.add(Uint8Array.of(0, 0, 0, 1), 0);
  assertEquals(counter.cellBytes, 8);
  counter.add(Uint8Array.of(1, 1, 1, 1, 0, 0, 0, 0), 4);
  assertEquals(counter.cellBytes, 8);
  counter.add(Uint8Array.of(0, 0, 0, 2), 12);
  assertEquals(counter.cellBytes, 16);
  counter.add(new Uint8Array(100), 16);
  assertEquals(counter.cellBytes, 16);
  counter.add(new Uint8Array(17).fill(1), 119);
  assertEquals(counter.cellBytes, 16 + 24);
});
