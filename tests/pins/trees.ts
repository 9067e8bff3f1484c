/**
 * The trees whose images are pinned. They are made here and nowhere else, and are never changed: a new one is added.
 *
 * @module
 */
import type { FileTree, TreeNode } from "../../lib/model/node.ts";
import { Random } from "../oracle/noise.ts";
import type { Content } from "../oracle/tree_builder.ts";
import { dir, file, special, symlink, treeOf } from "../oracle/tree_builder.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const BLOCK = 4 * KIB;

/** A tree by its name; made anew each time, since planning may hold on to nodes. */
export const TREES: Readonly<Record<string, () => FileTree>> = {
  empty: () => treeOf({}),
  kinds: allKinds,
  small: smallFiles,
  edges: sizesAtEdges,
  sparse: sparseFiles,
  names: manyNames,
  attributes: manyAttributes,
  layers: filesOfLayers,
  long: longFiles,
};

function noise(sizeBytes: number, seed: number): Content {
  return { sizeBytes, noise: "all", seed };
}

/** One of every kind of node, links, targets at the limit of an inode, owners and times at theirs. */
function allKinds(): FileTree {
  const shared = file("one inode, three names", { uid: 1000, gid: 1000, mode: 0o4755 });
  return treeOf({
    "a": shared,
    "b": shared,
    "bin": symlink("usr/bin"),
    "block": special("blockDevice", [8, 1]),
    "character": special("characterDevice", [4095, 2 ** 20 - 1]),
    "fast": symlink("x".repeat(59)),
    "fifo": special("fifo"),
    "slow": symlink("y".repeat(60)),
    "slowest": symlink("z/".repeat(2047)),
    "socket": special("socket"),
    "sub": dir({ "c": shared, "empty": file("") }, { mode: 0o1777 }),
    "times": dir({
      "future": file("later", { mtime: [2 ** 33, 999_999_999] }),
      "owner": file("big", { uid: 2 ** 32 - 2, gid: 2 ** 31 }),
      "past": file("before", { mtime: [-1, 1] }),
    }),
    "\xff\xfe": file("a name that is not UTF-8"),
  });
}

/** Many small files in some directories: what packing is about. */
function smallFiles(): FileTree {
  const random = new Random(11);
  const directories = Array.from({ length: 12 }, (_, number) => {
    const children = Array.from({ length: 40 }, (_, i): [string, TreeNode] => [
      `file ${String(i).padStart(2, "0")}`,
      file(noise(random.pick([1, 100, 3000, 4096, 5000, 9000, 20_000, 40_000]), 1000 + i)),
    ]);
    return [`d${String(number).padStart(2, "0")}`, dir(children)] as const;
  });
  return treeOf(dir(directories));
}

/** Sizes at which a layout changes: around blocks, cells and thresholds, alternating with small ones. */
function sizesAtEdges(): FileTree {
  const edges = [BLOCK, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, 1 * MIB];
  const sizes = edges.flatMap((edge) => [-BLOCK, -1, 0, 1, BLOCK].map((change) => edge + change));
  const children = sizes.flatMap((sizeBytes, i): [string, TreeNode][] => {
    const name = String(i).padStart(3, "0");
    return [
      [`${name} edge`, file(noise(sizeBytes, i + 1))],
      [`${name} small`, file(noise((i * 1237) % 9000, 100 + i))],
    ];
  });
  return treeOf(dir(children));
}

/** Holes in front, behind and between; blocks of zeros; more extents than an inode holds, and than a block does. */
function sparseFiles(): FileTree {
  const every = (count: number, stepBytes: number) =>
    Array.from({ length: count }, (_, i) => [i * stepBytes, BLOCK] as const);
  return treeOf({
    "all hole": file({ sizeBytes: 5 * MIB, noise: [], seed: 1 }),
    "behind": file({ sizeBytes: 3 * MIB, noise: [[0, 70 * KIB]], seed: 2 }),
    "before": file({ sizeBytes: 3 * MIB, noise: [[3 * MIB - 100, 100]], seed: 3 }),
    "few": file({ sizeBytes: MIB, noise: every(5, 16 * KIB), seed: 4 }),
    "many": file({ sizeBytes: 8 * MIB, noise: every(400, 8 * KIB), seed: 5 }),
    "small sparse": file({
      sizeBytes: 40 * KIB,
      noise: [[8 * KIB, BLOCK], [32 * KIB, 5]],
      seed: 6,
    }),
    "terabyte": file({ sizeBytes: 2 ** 40, noise: [[2 ** 39, 200 * KIB]], seed: 7 }),
    "zeros": file(new Uint8Array(100_000)),
    "zeros inside": file(
      new Uint8Array(90_000).map((_, i) => (i >> 13) % 2 === 0 ? 0 : 1 + (i % 250)),
    ),
  });
}

/** Directories of one block, of a hash tree, and of one with nodes below its root. */
function manyNames(): FileTree {
  const named = (count: number, length: number): [string, TreeNode][] => {
    const shared = file("x");
    return Array.from({ length: count }, (_, i) => [`${i}`.padEnd(length, "-"), shared]);
  };
  let deep = dir({ "end": file("deep") });
  for (let i = 0; i < 60; i++) deep = dir({ "down": deep });
  return treeOf({
    "block": dir(named(100, 20)),
    "deep": deep,
    "hashed": dir(named(2000, 12)),
    "hashed twice": dir(named(9000, 250)),
    "links": dir(Array.from({ length: 70 }, (_, i) => [`sub ${i}`, dir()] as const)),
  });
}

/** Attributes in the inode, in a shared block, in inodes of their own; ACLs; files that fit into their inodes. */
function manyAttributes(): FileTree {
  const acl = (
    ...entries: readonly (readonly [tag: number, permissions: number, id: number])[]
  ) => {
    const bytes = new Uint8Array(4 + entries.length * 8);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 2, true);
    entries.forEach(([tag, permissions, id], i) => {
      view.setUint16(4 + i * 8, tag, true);
      view.setUint16(6 + i * 8, permissions, true);
      view.setUint32(8 + i * 8, id, true);
    });
    return bytes;
  };
  const none = 0xffffffff;
  const minimal = acl([1, 6, none], [4, 4, none], [0x20, 0, none]);
  const full = acl([1, 7, none], [2, 5, 1000], [4, 5, none], [0x10, 5, none], [0x20, 1, none]);
  const big = { "user.big": "b".repeat(1500), "user.other": "o".repeat(700) };
  const huge = { "user.huge": new Random(5).bytes(60_000), "user.small": "s" };
  return treeOf({
    "acl": file("full", { xattrs: { "system.posix_acl_access": full } }),
    "acl minimal": file("minimal", { xattrs: { "system.posix_acl_access": minimal } }),
    "big": file("1", { xattrs: big }),
    "big again": file("2", { xattrs: big }),
    "capability": file("program", {
      xattrs: { "security.capability": "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0" },
    }),
    "default": dir({}, { xattrs: { "system.posix_acl_default": full, "trusted.x": "" } }),
    "huge": file("3", { xattrs: huge }),
    "huge again": dir({}, { xattrs: huge }),
    "inline 60": file("i".repeat(60)),
    "inline 61": file("i".repeat(61)),
    "inline 100": file("i".repeat(100), { xattrs: { "user.a": "1" } }),
    "inline 150": file("i".repeat(150)),
    "inline 200": file("i".repeat(200)),
    "link": symlink("target", { xattrs: { "security.selinux": "system_u:object_r:bin_t:s0\0" } }),
    "small": file("4", { xattrs: { "user.a": "1", "user.b": "2", "trusted.c": "3" } }),
  });
}

/** Files whose order by layer is another one than by path. */
function filesOfLayers(): FileTree {
  const random = new Random(23);
  const tree = treeOf(dir(Array.from({ length: 90 }, (_, i): [string, TreeNode] => [
    `f${String(i).padStart(2, "0")}`,
    file(noise(random.pick([2000, 9000, 30_000, 70_000, 200_000]), 500 + i)),
  ])));
  for (const node of tree.root.children.values()) {
    node.origin = { layerIndex: random.below(3), entryIndex: random.below(1000) };
    node.firstLayer = Math.min(node.origin.layerIndex, random.below(3));
  }
  return tree;
}

/** More than a block group, across the backups at its end, with small files behind each long one. */
function longFiles(): FileTree {
  return treeOf({
    "a": file(noise(100 * MIB, 1)),
    "b": file(noise(5000, 2)),
    "c": file(noise(60 * MIB, 3)),
    "d": file(noise(70_000, 4)),
  });
}
