import { assert, assertEquals, assertRejects } from "@std/assert";
import process from "node:process";
import { InputError, InterruptedError } from "../../lib/errors.ts";
import { memoryReader } from "../../lib/io/random_reader.ts";
import type { FileNode, FileTree } from "../../lib/model/node.ts";
import { buildTree } from "../../lib/tree/build.ts";
import { diffTrees, equalAttributes, equalContent } from "../../lib/tree/diff.ts";
import { treeItems } from "../../lib/tree/tar.ts";
import { Warnings } from "../../lib/warnings.ts";
import { describeDifference, firstDifference } from "../oracle/compare.ts";
import { Random } from "../oracle/noise.ts";
import { randomTree } from "../oracle/random_tree.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";
import { viewTree } from "../oracle/tree_view.ts";
import { changedTree, copyTree } from "./changed_tree.ts";
import { treeOptions } from "./layers.ts";
import { layerOfItems } from "./tar_round_trip.ts";

const RUN_COUNT = Number(process.env["BLESSFS_DIFF_RUNS"] ?? 60);

const diff = (before: FileTree, after: FileTree) =>
  diffTrees(before, after, { warnings: new Warnings() });

async function applied(before: FileTree, after: FileTree): Promise<FileTree> {
  const { items } = await diff(before, after);
  const lower = await layerOfItems(treeItems(before, new Warnings()), false);
  const upper = await layerOfItems(items, true);
  return buildTree([lower, upper], treeOptions({ warnings: new Warnings() }));
}

/** The paths of a difference, with what they are. */
async function pathsOf(before: FileTree, after: FileTree): Promise<string[]> {
  const { items } = await diff(before, after);
  return items.map(({ entry: { kind, path, linkTarget } }) =>
    kind === "hardlink" ? `${path} -> ${linkTarget}` : path
  );
}

Deno.test("diffTrees gives a layer that turns any tree into any other", async () => {
  let [entryCount, whiteoutCount] = [0, 0];
  for (let seed = 1; seed <= RUN_COUNT; seed++) {
    const random = new Random(seed);
    const limits = {
      gridBytes: 131_072,
      contentBytesMax: 1 << 20,
      allowsLong: false,
      allowsBig: false,
      valueBytesMax: 1500,
    };
    const before = copyTree(randomTree(random, limits));
    // Mostly a changed one; sometimes one that has nothing to do with it.
    const after = random.chance(0.9)
      ? changedTree(before, random)
      : copyTree(randomTree(random, limits));
    const { items } = await diff(before, after);
    entryCount += items.length;
    whiteoutCount += items.filter(({ entry }) => entry.path.includes(".wh.")).length;
    const made = await applied(before, after);
    const difference = firstDifference(viewTree(made), viewTree(after));
    assert(!difference, `seed ${seed}: ${difference && describeDifference(difference)}`);
    assertEquals((await diff(made, after)).items, [], `seed ${seed}: what is equal is mentioned`);
  }
  assert(entryCount > RUN_COUNT && whiteoutCount > RUN_COUNT / 5, `${entryCount} entries`);
});

Deno.test("diffTrees says no more than it has to", async () => {
  const linked = file("linked");
  const before = treeOf({
    same: file("same"),
    mode: file("mode"),
    kind: file("kind"),
    gone: file("gone"),
    full: dir({ a: file("a"), b: file("b"), c: file("c") }),
    one: dir({ a: file("a"), b: file("b") }),
    link1: linked,
    link2: linked,
    directory: dir({ deep: dir({ deeper: file("x") }) }),
  });
  const [a, b] = [file("new"), file("linked")];
  const after = treeOf({
    same: file("same"),
    mode: file("mode", { mode: 0o600 }),
    kind: symlink("kind"),
    full: dir({ d: a }),
    one: dir({ b: file("b") }),
    link1: b,
    link2: b,
    link3: b,
    directory: file("no directory any more"),
  });
  assertEquals(await pathsOf(before, after), [
    ".wh.gone",
    "directory",
    "full/",
    "full/.wh..wh..opq",
    "full/d",
    "kind",
    "link1",
    "link2 -> link1",
    "link3 -> link1",
    "mode",
    "one/.wh.a",
  ]);
  const { counts } = await diff(before, after);
  assertEquals(counts, { added: 2, removed: 5, changed: 5 });
});

Deno.test("diffTrees tells links apart: joined, split, and lost names", async () => {
  const [x, y] = [file("same"), file("same")];
  const joined = treeOf({ a: x, b: x });
  const split = treeOf({ a: y, b: file("same") });
  assertEquals(await pathsOf(joined, joined), []);
  assertEquals(await pathsOf(joined, split), ["b"]);
  assertEquals(await pathsOf(split, joined), ["a", "b -> a"]);
  assertEquals(await pathsOf(joined, treeOf({ a: x })), [".wh.b"]);
});

Deno.test("diffTrees compares times, attributes, targets, devices, and every byte", async () => {
  const bytes = new Random(3).bytes(20_000);
  const other = bytes.slice();
  other[19_999]! ^= 1;
  const pairs: [() => Parameters<typeof treeOf>[0], () => Parameters<typeof treeOf>[0]][] = [
    [() => ({ a: file("x", { mtime: [5, 1] }) }), () => ({ a: file("x", { mtime: [5, 2] }) })],
    [() => ({ a: file("x") }), () => ({ a: file("x", { xattrs: { "user.a": "" } }) })],
    [
      () => ({ a: file("x", { xattrs: { "user.a": "1" } }) }),
      () => ({ a: file("x", { xattrs: { "user.a": "2" } }) }),
    ],
    [() => ({ a: file(bytes) }), () => ({ a: file(other) })],
    [() => ({ a: symlink("x") }), () => ({ a: symlink("y") })],
    [() => ({ a: special("blockDevice", [1, 2]) }), () => ({ a: special("blockDevice", [1, 3]) })],
    [() => ({ a: special("blockDevice") }), () => ({ a: special("characterDevice", [5, 5]) })],
    [() => dir({}, { uid: 1 }), () => dir({}, { uid: 2 })],
  ];
  for (const [before, after] of pairs) {
    assertEquals((await diff(treeOf(before()), treeOf(before()))).items, []);
    assertEquals((await diff(treeOf(before()), treeOf(after()))).items.length, 1);
  }
});

Deno.test("diffTrees refuses names that would be whiteouts, unless they stay", async () => {
  const odd = treeOf({ ".wh.x": file("x") });
  assertEquals((await diff(odd, treeOf({ ".wh.x": file("x") }))).items, []);
  await assertRejects(() => diff(treeOf({}), odd), InputError, ".wh.");
  await assertRejects(() => diff(odd, treeOf({})), InputError, ".wh.");
});

Deno.test("diffTrees leaves out sockets with a warning, and takes away what they replace", async () => {
  const warnings = new Warnings();
  const after = treeOf({ a: special("socket"), b: special("socket") });
  const { items } = await diffTrees(treeOf({ a: file("x") }), after, { warnings });
  assertEquals(items.map(({ entry }) => entry.path), [".wh.a"]);
  assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["skippedSocket", 2]]);
});

Deno.test("diffTrees stops for a signal", async () => {
  const content = { sizeBytes: 64 << 20, noise: "all", seed: 1 } as const;
  const [before, after] = [treeOf({ a: file(content) }), treeOf({ a: file(content) })];
  const signal = AbortSignal.abort();
  await assertRejects(
    () => diffTrees(before, after, { warnings: new Warnings(), signal }),
    InterruptedError,
  );
});

Deno.test("equalAttributes compares every field", () => {
  const same = () => file("x", { xattrs: { "user.a": "b" } });
  assertEquals(equalAttributes(same(), same()), true);
  const others = [
    file("x", { mode: 1 }),
    file("x", { uid: 1 }),
    file("x", { gid: 1 }),
    file("x", { mtime: 1 }),
    file("x", { mtime: [1_600_000_000, 1] }),
    file("x", { xattrs: { "user.b": "b" } }),
    dir(),
  ];
  for (const other of others) assertEquals(equalAttributes(same(), other), false);
});

Deno.test("equalAttributes takes a time for equal to what ext4 makes of it", () => {
  const at = (mtime: [number, number]) => file("x", { mtime });
  const pairs: [[number, number], [number, number], boolean][] = [
    [[2 ** 40, 5], [2 ** 34 - 2 ** 31 - 1, 999_999_999], true],
    [[-(2 ** 31), 0], [-(2 ** 33), 7], true],
    [[2 ** 40, 0], [2 ** 41, 0], false],
    [[2 ** 40, 0], [2 ** 34 - 2 ** 31 - 1, 0], false],
  ];
  for (const [a, b, isEqual] of pairs) assertEquals(equalAttributes(at(a), at(b)), isEqual);
});

Deno.test("equalContent reads bytes where checksums cannot tell", async () => {
  const one = file("hello");
  const { payload } = one;
  const forged: FileNode = {
    ...one,
    payload: { ...payload, store: memoryReader(new TextEncoder().encode("hallo")) },
  };
  assertEquals(await equalContent(one, file("hello")), true);
  assertEquals(await equalContent(one, forged), false);
  assertEquals(await equalContent(one, file("hello!")), false);
  assertEquals(await equalContent(symlink("a"), symlink("b")), false);
  assertEquals(await equalContent(special("fifo"), special("fifo")), true);
  assertEquals(await equalContent(special("fifo"), symlink("a")), false);
  assertEquals(await equalContent(dir(), dir({ a: one })), true);
  assertEquals(await equalContent(dir(), one), false);
});
