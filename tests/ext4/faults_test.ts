import { assertEquals, assertGreater, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { writeImage } from "../../lib/ext4/write/write_image.ts";
import { InputError, InterruptedError, IoError } from "../../lib/errors.ts";
import {
  createFileSink,
  type FileOperations,
  NODE_FILE_OPERATIONS,
} from "../../lib/io/file_sink.ts";
import type { ImageSink } from "../../lib/io/sink.ts";
import type { FileTree } from "../../lib/model/node.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { dir, file, symlink, treeOf } from "../oracle/tree_builder.ts";
import { GIB, makeImage, MIB, planTree } from "./made_image.ts";
import { readAt } from "./plan_on_disk.ts";

const BLOCK_BYTES = 4096;
const OPTIONS = { progress: NO_PROGRESS };

function someTree(): FileTree {
  return treeOf({
    "dir": dir({ "a": file("some content"), "l": symlink("l".repeat(100)) }),
    "large": file({ sizeBytes: 3 * MIB + 3, noise: "all", seed: 2 }),
    "x": file("", { xattrs: { "user.x": new Uint8Array(3000).fill(1) } }),
  });
}

/** A sink that keeps count, and fails at one write or at its end. */
function failingSink(failAt: number): ImageSink & { calls: number; aborts: number } {
  const step = (): void => {
    if (sink.calls++ === failAt) throw new IoError("the sink", `fails at ${failAt}`);
  };
  const sink = { calls: 0, aborts: 0, write: step, finish: step, abort: () => void sink.aborts++ };
  return sink;
}

Deno.test("writeImage aborts the sink once, wherever it fails, and hands its error on", async () => {
  const whole = failingSink(Infinity);
  await writeImage(planTree(someTree()), whole, OPTIONS);
  assertGreater(whole.calls, 10);
  assertEquals(whole.aborts, 0);
  for (let failAt = 0; failAt < whole.calls; failAt++) {
    const sink = failingSink(failAt);
    const error = await assertRejects(
      () => writeImage(planTree(someTree()), sink, OPTIONS),
      IoError,
    );
    assertEquals(error.message, `the sink: fails at ${failAt}`);
    assertEquals([sink.calls, sink.aborts], [failAt + 1, 1]);
  }
});

/** File operations of which the `failAt`th call that changes a file fails as on a full disk. */
function fullDisk(failAt: number): { files: FileOperations; count: () => number } {
  let calls = 0;
  const step = <T>(work: () => T): T => {
    if (calls++ === failAt) {
      throw Object.assign(new Error("ENOSPC: no space left on device, write"), {
        code: "ENOSPC",
        syscall: "write",
      });
    }
    return work();
  };
  const real = NODE_FILE_OPERATIONS;
  const files: FileOperations = {
    ...real,
    write: (...args) => step(() => real.write(...args)),
    writeBehind: (...args) => step(() => real.writeBehind(...args)),
    truncate: (...args) => step(() => real.truncate(...args)),
    sync: () => step(() => Promise.resolve()),
    link: (...args) => step(() => real.link(...args)),
  };
  return { files, count: () => calls };
}

Deno.test("a full disk at any write leaves no image, no part, and an error that names it", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const path = `${scratch}/image`;
    const write = (files: FileOperations) =>
      writeImage(planTree(someTree()), createFileSink(path, { files }), OPTIONS);
    const whole = fullDisk(Infinity);
    await write(whole.files);
    Deno.removeSync(path);
    assertGreater(whole.count(), 5);
    // The last step is link(2): where it fails, rename(2) does its work.
    for (let failAt = 0; failAt < whole.count() - 1; failAt++) {
      const error = await assertRejects(() => write(fullDisk(failAt).files), IoError);
      assertEquals(error.message.includes(path), true, error.message);
      assertEquals([...Deno.readDirSync(scratch)], [], `after a fault at ${failAt}`);
    }
  });
});

Deno.test("content that changed since it was planned is an error and leaves nothing", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const bytes = new Uint8Array(100_000).fill(7);
    const changing = file(bytes);
    const { store } = changing.payload;
    const tree = treeOf({
      "a": file("first"),
      "f": {
        ...changing,
        payload: {
          ...changing.payload,
          store: {
            ...store,
            name: "a store",
            readAt: (target: Uint8Array) => {
              target.fill(8);
              return target.length;
            },
          },
        },
      },
      "z": file("last"),
    });
    const error = await assertRejects(() => makeImage(`${scratch}/image`, tree), InputError);
    assertEquals(error.message.startsWith("a store: changed while it was read"), true);
    assertEquals([...Deno.readDirSync(scratch)], []);
  });
});

Deno.test("an abort while an image is written ends it and leaves nothing", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const abortAt of [0, 1, 3, 5]) {
      const controller = new AbortController();
      let writes = 0;
      const sink = createFileSink(`${scratch}/image`, { signal: controller.signal });
      const counting: ImageSink = {
        write: (bytes, offset) => {
          if (writes++ === abortAt) controller.abort();
          return sink.write(bytes, offset);
        },
        finish: (sizeBytes) => sink.finish(sizeBytes),
        abort: () => sink.abort(),
      };
      const { signal } = controller;
      await assertRejects(
        () => writeImage(planTree(someTree()), counting, { ...OPTIONS, signal }),
        InterruptedError,
      );
      assertEquals([...Deno.readDirSync(scratch)], []);
    }
  });
});

Deno.test("writes ascend and never overlap, and all of them lie in used blocks", async () => {
  const plan = planTree(someTree(), { size: { kind: "free", freeBytes: 1 * GIB } });
  let end = 0;
  const sink: ImageSink = {
    write: (bytes, offset) => {
      assertEquals(offset >= end, true);
      end = offset + bytes.length;
      const block = Math.floor(offset / BLOCK_BYTES);
      const last = Math.floor((end - 1) / BLOCK_BYTES);
      const isUsed = plan.usedRanges.some(({ startBlock, blockCount }) =>
        block >= startBlock && last < startBlock + blockCount
      );
      assertEquals(isUsed, true, `blocks ${block} to ${last}`);
    },
    finish: (sizeBytes) => assertEquals(sizeBytes, plan.totalBlocks * BLOCK_BYTES),
    abort: () => {},
  };
  await writeImage(plan, sink, OPTIONS);
});

Deno.test("equal trees and options give equal bytes", async () => {
  await withTemporaryDirectory(async (scratch) => {
    for (const choices of [{}, { size: { kind: "free", freeBytes: 200 * MIB } }] as const) {
      const first = await makeImage(`${scratch}/first`, someTree(), choices);
      const second = await makeImage(`${scratch}/second`, someTree(), choices);
      mustRun("cmp", [first.path, second.path]);
    }
  });
});

Deno.test("another UUID changes superblocks and the journal's superblock, nothing else", async () => {
  await withTemporaryDirectory(async (scratch) => {
    const size = { kind: "total", sizeBytes: 600 * MIB } as const;
    for (const journalBytes of [0, 4 * MIB]) {
      const choices = { size, journalBytes };
      const uuid = "00000000-1111-4222-8333-444444444444";
      const first = await makeImage(`${scratch}/first`, someTree(), choices);
      const second = await makeImage(`${scratch}/second`, someTree(), { ...choices, uuid });
      const superblocks = first.plan.geometry.reserved.map(({ startBlock }) => startBlock);
      assertEquals(superblocks.length, 3);
      const journalBlock = /\(0(?:-\d+)?\):(\d+)/.exec(
        mustRun("debugfs", ["-R", "stat <8>", first.path]),
      );
      const expected = journalBytes === 0
        ? superblocks
        : [...superblocks, Number(journalBlock![1])];
      const changed = changedBlocks(first.path, second.path);
      assertEquals(changed.filter((block) => !expected.includes(block)), []);
      assertEquals(superblocks.filter((block) => !changed.includes(block)), []);
    }
  });
});

function changedBlocks(first: string, second: string): number[] {
  using a = Deno.openSync(first);
  using b = Deno.openSync(second);
  const sizeBytes = a.statSync().size;
  assertEquals(b.statSync().size, sizeBytes);
  const changed: number[] = [];
  for (let at = 0; at < sizeBytes; at += MIB) {
    const [left, right] = [readAt(a, at, MIB), readAt(b, at, MIB)];
    if (Buffer.compare(left, right) === 0) continue;
    for (let from = 0; from < MIB; from += BLOCK_BYTES) {
      const end = from + BLOCK_BYTES;
      if (Buffer.compare(left.subarray(from, end), right.subarray(from, end)) !== 0) {
        changed.push((at + from) / BLOCK_BYTES);
      }
    }
  }
  return changed;
}
