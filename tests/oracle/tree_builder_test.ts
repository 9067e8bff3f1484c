import { assertEquals, assertThrows } from "@std/assert";
import { crc32 } from "node:zlib";
import { readPayload } from "../../lib/model/node.ts";
import { firstDifference } from "./compare.ts";
import { noiseReader, Random } from "./noise.ts";
import { dir, file, payloadOf, special, symlink, treeOf } from "./tree_builder.ts";
import type { Children } from "./tree_builder.ts";
import { viewTree } from "./tree_view.ts";

const KIB = 1024;

function runsOf(content: Parameters<typeof payloadOf>[0]): [number, number][] {
  return payloadOf(content).dataRuns.map((run) => [run.startBlock, run.blockCount]);
}

Deno.test("payloadOf finds the blocks that hold something", () => {
  assertEquals(runsOf(""), []);
  assertEquals(runsOf("x"), [[0, 1]]);
  assertEquals(runsOf(new Uint8Array(12 * KIB)), []);
  assertEquals(runsOf(new Uint8Array(12 * KIB).fill(1, 4095, 4097)), [[0, 2]]);
  assertEquals(runsOf(new Uint8Array(12 * KIB).fill(1, 8191, 8192)), [[1, 1]]);
  const one = new Uint8Array(1).fill(1);
  assertEquals(runsOf({ sizeBytes: 2 ** 40, parts: [[4095, one], [4096, one], [2 ** 39, one]] }), [
    [0, 2],
    [2 ** 27, 1],
  ]);
  assertEquals(runsOf({ sizeBytes: 64 * KIB, noise: [[1, 1], [8191, 2]], seed: 1 }), [[0, 3]]);
  assertEquals(runsOf({ sizeBytes: 5000, noise: "all", seed: 1 }), [[0, 2]]);
});

Deno.test("payloadOf hashes whole data blocks, zeros behind the end included", () => {
  const bytes = new Uint8Array(5 * 4096);
  bytes.fill(7, 4096, 4100).fill(9, 3 * 4096, 3 * 4096 + 1);
  const blocks = new Uint8Array([
    ...bytes.subarray(4096, 8192),
    ...bytes.subarray(3 * 4096, 4 * 4096),
  ]);
  assertEquals(payloadOf(bytes).contentHash, crc32(blocks));
  assertEquals(payloadOf(bytes.subarray(0, 3 * 4096 + 1)).contentHash, crc32(blocks));
  assertEquals(payloadOf("").contentHash, 0);
});

Deno.test("payloadOf refuses parts that overlap or reach past the end", () => {
  const two = new Uint8Array(2);
  assertThrows(() => payloadOf({ sizeBytes: 9, parts: [[0, two], [1, two]] }), Error, "overlap");
  assertThrows(() => payloadOf({ sizeBytes: 1, parts: [[0, two]] }), Error, "past the size");
});

Deno.test("noiseReader gives the same bytes however it is asked, and never a zero", () => {
  const whole = new Uint8Array(3 * 4096 + 100);
  noiseReader(whole.length, 5).readAt(whole, 0);
  assertEquals(whole.indexOf(0), -1);
  for (const [start, length] of [[0, 1], [4095, 2], [4090, 5000], [12_300, 500]] as const) {
    const part = new Uint8Array(length);
    const count = noiseReader(whole.length, 5).readAt(part, start);
    assertEquals(part.subarray(0, count), whole.slice(start, start + length));
  }
  assertEquals(whole.slice(8, 4096), whole.slice(4096 + 8, 8192));
  assertEquals(whole[0] === whole[4096] && whole[1] === whole[4097], false);
});

Deno.test("Random repeats itself for a seed and keeps to its limits", () => {
  const draw = (seed: number) => Array.from({ length: 1000 }, random(seed));
  function random(seed: number): () => number {
    const source = new Random(seed);
    return () => source.between(3, 7);
  }
  assertEquals(draw(1), draw(1));
  assertEquals(draw(1).join() === draw(2).join(), false);
  assertEquals(draw(1).join() === draw(2 ** 32 + 1).join(), false);
  assertEquals([...new Set(draw(9))].sort(), [3, 4, 5, 6, 7]);
});

Deno.test("treeOf makes one node of one object and numbers nodes in the order of the walk", () => {
  const shared = file("shared");
  const tree = treeOf({ b: shared, a: dir({ x: shared, "10": symlink("y") }), c: special("fifo") });
  const seen = [...viewTree(tree)].map((name) => [name.path, name.kind, name.linkCount]);
  assertEquals(seen, [
    ["", "directory", 3],
    ["/a", "directory", 2],
    ["/a/10", "symlink", 1],
    ["/a/x", "file", 2],
    ["/b", "file", 2],
    ["/c", "fifo", 1],
  ]);
  assertEquals(shared.origin.entryIndex, 3);
  const content = new Uint8Array(6);
  readPayload(shared.payload, content, 0);
  assertEquals(new TextDecoder().decode(content), "shared");
});

Deno.test("firstDifference tells two trees apart by anything, and not from themselves", () => {
  const build = (change: Children = {}) => {
    const shared = file("12345");
    const base: Children = {
      a: file(new Uint8Array(9000).fill(1), { xattrs: { "user.x": "1" } }),
      b: shared,
      c: shared,
      d: dir({ e: symlink("f") }),
      g: special("blockDevice", [8, 1]),
    };
    return treeOf({ ...base, ...change });
  };
  const differ = (change: Children) => firstDifference(viewTree(build(change)), viewTree(build()));
  assertEquals(differ({}), undefined);
  const cases: [string, Children][] = [
    ["/a size", { a: file(new Uint8Array(9001).fill(1), { xattrs: { "user.x": "1" } }) }],
    ["/a byte 8999", {
      a: file(new Uint8Array(9000).fill(1).fill(2, 8999), { xattrs: { "user.x": "1" } }),
    }],
    ["/a byte 4096", {
      a: file(new Uint8Array(9000).fill(1, 0, 4096), { xattrs: { "user.x": "1" } }),
    }],
    ["/a xattr user.x", { a: file(new Uint8Array(9000).fill(1), { xattrs: { "user.x": "" } }) }],
    ["/a xattr user.y", {
      a: file(new Uint8Array(9000).fill(1), { xattrs: { "user.x": "1", "user.y": "" } }),
    }],
    ["/b links", { b: file("12345") }],
    ["/d/e path", { d: dir() }],
    ["/d mode", { d: dir({ e: symlink("f") }, { mode: 0o1755 }) }],
    ["/d/e target", { d: dir({ e: symlink("g") }) }],
    ["/g device", { g: special("blockDevice", [1, 8]) }],
    ["/g type", { g: special("characterDevice", [8, 1]) }],
    ["/g mtime", { g: special("blockDevice", [8, 1], { mtime: [1_600_000_000, 1] }) }],
    ["/g uid", { g: special("blockDevice", [8, 1], { uid: 2 ** 32 - 2 }) }],
    ["/aa path", { aa: file() }],
    ["/z path", { z: file() }],
  ];
  for (const [wanted, change] of cases) {
    const difference = differ(change);
    assertEquals(`${difference?.path} ${difference?.field}`, wanted);
  }
});

Deno.test("firstDifference sees the same holes only where it is asked to", () => {
  const zeros = treeOf({ a: file({ sizeBytes: 9000, parts: [] }) });
  const stored = treeOf({ a: file({ sizeBytes: 9000, parts: [] }) });
  const node = stored.root.children.get("a");
  if (node?.kind !== "file") throw new Error("a is a file");
  const dataRuns = [{ startBlock: 1, blockCount: 1 }];
  stored.root.children.set("a", { ...node, payload: { ...node.payload, dataRuns } });
  assertEquals(firstDifference(viewTree(stored), viewTree(zeros)), undefined);
  const strict = firstDifference(viewTree(stored), viewTree(zeros), { sameHoles: true });
  assertEquals(strict?.field, "data ranges");
});
