import { assert, assertEquals, assertRejects } from "@std/assert";
import { writeTar } from "../../lib/bless/write_tar.ts";
import { InterruptedError } from "../../lib/errors.ts";
import { NO_PROGRESS } from "../../lib/progress.ts";
import { treeItems } from "../../lib/tree/entries.ts";
import { Warnings } from "../../lib/warnings.ts";
import { file, treeOf } from "../oracle/tree_builder.ts";
import { readTar } from "../tar/read.ts";
import { tarOf } from "../tree/tar_round_trip.ts";

const ignoring = { write: () => {}, finish: () => {}, abort: () => {} };

Deno.test("writeTar gives the same tar for zeros and for holes", async () => {
  const bytes = new Uint8Array(40_000);
  bytes.set([1], 20_000);
  const holes = file({ sizeBytes: 40_000, parts: [[20_000, Uint8Array.of(1)]] });
  const [dense, sparse] = [treeOf({ a: file(bytes) }), treeOf({ a: holes })];
  const tars = [dense, sparse].map((tree) => tarOf(treeItems(tree, new Warnings())));
  const [first, second] = await Promise.all(tars) as [Uint8Array, Uint8Array];
  assertEquals(first, second);
  assert(first.length < 20_000);
});

Deno.test("writeTar writes zeros for small holes where it is told to, and ends in two blocks of them", async () => {
  const tree = treeOf({ a: file({ sizeBytes: 40_000, parts: [[20_000, Uint8Array.of(1)]] }) });
  const sizes: number[] = [];
  for (const denseHoleBytesMax of [0, 36_000, 40_000]) {
    const pieces: Uint8Array[] = [];
    const sink = { ...ignoring, write: (bytes: Uint8Array) => void pieces.push(bytes.slice()) };
    const items = treeItems(tree, new Warnings());
    const size = await writeTar(items, sink, { denseHoleBytesMax, progress: NO_PROGRESS });
    const tar = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
    assertEquals(tar.length, size);
    assert(tar.subarray(-1024).every((byte) => byte === 0));
    assertEquals(readTar(tar).entries.at(-1)?.payload?.sizeBytes, 40_000);
    sizes.push(size);
  }
  assertEquals(sizes[1], sizes[2]);
  assert(sizes[0]! < sizes[1]!);
});

Deno.test("writeTar stops for a signal", async () => {
  const tree = treeOf({ a: file({ sizeBytes: 20 << 20, noise: "all", seed: 1 }) });
  await assertRejects(
    () =>
      writeTar(treeItems(tree, new Warnings()), ignoring, {
        denseHoleBytesMax: 0,
        signal: AbortSignal.abort(),
        progress: NO_PROGRESS,
      }),
    InterruptedError,
  );
});
