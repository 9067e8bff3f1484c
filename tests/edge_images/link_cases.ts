/**
 * Edge images about hard links and repeated paths.
 *
 * @module
 */
import type { SimpleEntry } from "../tar/build.ts";
import type { EdgeImage } from "./edge_image.ts";

function hardlink(path: string, link: string): SimpleEntry {
  return { path, kind: "hardlink", link };
}

const A1 = { path: "a", data: "1" };
const A2 = { path: "a", data: "2" };
const MISSING = "exists neither in this layer nor below";

/** Hard links in one layer, across layers, forward, and broken; the same path twice. */
export const LINK_CASES: readonly EdgeImage[] = [
  {
    name: "hardlink-in-one-layer",
    layers: [[{ ...A1, mode: 0o640 }, hardlink("b", "a"), { path: "d/" }, hardlink("d/c", "./b")]],
    expected: [{ ...A1, mode: 0o640 }, { path: "b", sameAs: "a" }, { path: "d/" }, {
      path: "d/c",
      sameAs: "a",
    }],
  },
  {
    name: "hardlink-across-layers",
    layers: [[A1], [hardlink("b", "a")]],
    expected: [A1, { path: "b", sameAs: "a" }],
  },
  {
    name: "hardlink-across-layers-inside-directories",
    layers: [[
      { path: "p/", mode: 0o701, mtime: 3 },
      { path: "p/a", data: "1", xattrs: { "user.k": "v" } },
    ], [{ path: "q/" }, hardlink("q/b", "p/a")]],
    expected: [
      { path: "p/", mode: 0o701, mtime: 3 },
      { path: "p/a", data: "1", xattrs: { "user.k": "v" } },
      { path: "q/" },
      { path: "q/b", sameAs: "p/a" },
    ],
  },
  {
    name: "hardlink-own-attributes-are-not-used",
    layers: [[{ ...A1, mode: 0o600, uid: 5, mtime: 7 }], [{
      ...hardlink("b", "a"),
      mode: 0o777,
      uid: 9,
      mtime: 8,
    }]],
    expected: [{ ...A1, mode: 0o600, uid: 5, mtime: 7 }, { path: "b", sameAs: "a" }],
  },
  {
    name: "hardlink-one-name-replaced",
    layers: [[A1, hardlink("b", "a")], [A2]],
    expected: [A2, { path: "b", data: "1" }],
  },
  {
    name: "hardlink-one-name-whited-out",
    layers: [[A1, hardlink("b", "a"), hardlink("c", "a")], [{ path: ".wh.a" }]],
    expected: [{ path: "b", data: "1" }, { path: "c", sameAs: "b" }],
  },
  {
    name: "hardlink-all-but-one-name-whited-out-with-a-directory",
    layers: [[{ path: "d/" }, { path: "d/a", data: "1" }, hardlink("b", "d/a")], [{
      path: ".wh.d",
    }]],
    expected: [{ path: "b", data: "1" }],
  },
  {
    name: "hardlink-third-name-in-a-third-layer",
    layers: [[A1], [hardlink("b", "a")], [hardlink("c", "b")]],
    expected: [A1, { path: "b", sameAs: "a" }, { path: "c", sameAs: "a" }],
  },
  {
    name: "hardlink-to-symlink",
    layers: [[{ path: "s", link: "nowhere" }, hardlink("h", "s")], [hardlink("i", "s")]],
    expected: [{ path: "h", link: "nowhere" }, { path: "i", sameAs: "h" }, {
      path: "s",
      sameAs: "h",
    }],
  },
  {
    name: "hardlink-to-device-and-fifo",
    layers: [[
      { path: "n", kind: "characterDevice", major: 1, minor: 3 },
      { path: "p", kind: "fifo" },
      hardlink("n2", "n"),
      hardlink("p2", "p"),
    ]],
    expected: [
      { path: "n", kind: "characterDevice", major: 1, minor: 3 },
      { path: "n2", sameAs: "n" },
      { path: "p", kind: "fifo" },
      { path: "p2", sameAs: "p" },
    ],
  },
  {
    name: "hardlink-with-missing-directories",
    layers: [[A1, hardlink("x/y/b", "a")]],
    expected: [A1, { path: "x/", mode: 0o755 }, { path: "x/y/", mode: 0o755 }, {
      path: "x/y/b",
      sameAs: "a",
    }],
  },
  {
    name: "hardlink-through-a-symlink",
    layers: [[{ path: "d/" }, { path: "d/a", data: "1" }, { path: "s", link: "/d" }], [
      hardlink("s/b", "s/a"),
    ]],
    expected: [{ path: "d/" }, { path: "d/a", data: "1" }, { path: "d/b", sameAs: "d/a" }, {
      path: "s",
      link: "/d",
    }],
  },
  {
    name: "hardlink-over-file-symlink-and-directory",
    layers: [[
      A1,
      { path: "f", data: "f" },
      { path: "s", link: "f" },
      { path: "d/" },
      { path: "d/x" },
    ], [hardlink("f", "a"), hardlink("s", "a"), hardlink("d", "a")]],
    expected: [A1, { path: "d", sameAs: "a" }, { path: "f", sameAs: "a" }, {
      path: "s",
      sameAs: "a",
    }],
  },
  {
    name: "hardlink-to-itself",
    layers: [[A1, hardlink("b", "a")], [hardlink("a", "a")]],
    expected: [A1, { path: "b", sameAs: "a" }],
    umociDiffers: "it removes the name before it links to it, and fails",
  },
  {
    name: "hardlink-between-names-that-are-linked-already",
    layers: [[A1, hardlink("b", "a")], [hardlink("a", "b")]],
    expected: [A1, { path: "b", sameAs: "a" }],
  },
  {
    name: "hardlink-forward",
    layers: [[hardlink("b", "a"), A1]],
    expected: [A1, { path: "b", sameAs: "a" }],
    umociDiffers: "it wants the target first",
  },
  {
    name: "hardlink-forward-chain",
    layers: [[hardlink("d", "c"), hardlink("c", "b"), hardlink("b", "a"), A1]],
    expected: [A1, { path: "b", sameAs: "a" }, { path: "c", sameAs: "a" }, {
      path: "d",
      sameAs: "a",
    }],
    umociDiffers: "it wants the target first",
  },
  {
    name: "hardlink-forward-over-lower-files",
    layers: [[{ path: "b", data: "old" }, { path: "c", data: "old" }], [
      hardlink("b", "a"),
      hardlink("c", "b"),
      A1,
    ]],
    expected: [A1, { path: "b", sameAs: "a" }, { path: "c", sameAs: "a" }],
    umociDiffers: "it wants the target first",
  },
  {
    name: "hardlink-forward-and-the-name-again",
    layers: [[hardlink("b", "a"), { path: "b", data: "file" }, A1]],
    warnings: { duplicatePath: 1 },
    expected: [A1, { path: "b", data: "file" }],
    umociDiffers: "it wants the target first",
  },
  {
    name: "hardlink-target-of-a-lower-layer-replaced-later",
    layers: [[A1], [hardlink("b", "a"), A2]],
    expected: [A2, { path: "b", data: "1" }],
  },
  {
    name: "hardlink-target-with-dot-dot",
    layers: [[A1, hardlink("b", "../../a")]],
    warnings: { clampedPath: 1 },
    expected: [A1, { path: "b", sameAs: "a" }],
  },
  {
    name: "hardlink-target-absolute",
    layers: [[A1, hardlink("b", "/a")]],
    warnings: { clampedPath: 1 },
    expected: [A1, { path: "b", sameAs: "a" }],
  },
  { name: "hardlink-to-nothing", layers: [[A1, hardlink("b", "nope")]], refused: MISSING },
  {
    name: "hardlink-out-of-the-root",
    layers: [[hardlink("b", "../../etc/passwd")]],
    warnings: { clampedPath: 1 },
    refused: MISSING,
  },
  {
    name: "hardlink-out-of-the-root-through-a-symlink",
    layers: [[{ path: "s", link: "/etc" }, hardlink("b", "s/passwd")]],
    refused: MISSING,
  },
  {
    name: "hardlink-to-a-whited-out-file",
    layers: [[A1], [hardlink("b", "a"), { path: ".wh.a" }]],
    refused: MISSING,
    umociDiffers: "it follows the order in the tar, in which the link comes first",
  },
  {
    name: "hardlink-ring",
    layers: [[hardlink("a", "b"), hardlink("b", "c"), hardlink("c", "a")]],
    refused: MISSING,
  },
  {
    name: "hardlink-to-directory",
    layers: [[{ path: "d/" }, hardlink("b", "d")]],
    refused: "the hard link's target is a directory",
  },
  {
    name: "hardlink-to-root",
    layers: [[hardlink("b", "/")]],
    refused: "the hard link's target is a directory",
  },
  {
    name: "repeated-file",
    layers: [[A1, A2]],
    warnings: { duplicatePath: 1 },
    expected: [A2],
  },
  {
    name: "repeated-file-between-links",
    layers: [[A1, hardlink("b", "a"), { path: "a", data: "22" }]],
    warnings: { duplicatePath: 1 },
    expected: [{ path: "a", data: "22" }, { path: "b", data: "1" }],
  },
  {
    name: "repeated-link",
    layers: [[A1, { path: "c", data: "3" }, hardlink("b", "a"), hardlink("b", "c")]],
    warnings: { duplicatePath: 1 },
    expected: [A1, { path: "b", data: "3" }, { path: "c", sameAs: "b" }],
  },
  {
    name: "repeated-link-to-lower-files",
    layers: [[A1, hardlink("c", "a")], [
      hardlink("b", "a"),
      { path: "b", data: "file" },
      hardlink("c", "a"),
      { path: "c", data: "file" },
    ]],
    warnings: { duplicatePath: 2 },
    expected: [A1, { path: "b", data: "file" }, { path: "c", data: "file" }],
  },
  {
    name: "repeated-directory",
    layers: [[{ path: "d/", mode: 0o700 }, { path: "d/x" }, { path: "./d", kind: "directory" }]],
    warnings: { duplicatePath: 1 },
    expected: [{ path: "d/", mode: 0o755 }, { path: "d/x" }],
  },
  {
    name: "repeated-path-of-another-type",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "d", data: "now a file" }]],
    warnings: { duplicatePath: 1 },
    expected: [{ path: "d", data: "now a file" }],
  },
  {
    name: "repeated-path-under-two-spellings",
    layers: [[{ path: "d/" }, { path: "s", link: "d" }, { path: "d/x", data: "1" }, {
      path: "s/x",
      data: "2",
    }]],
    warnings: { duplicatePath: 1 },
    expected: [{ path: "d/" }, { path: "d/x", data: "2" }, { path: "s", link: "d" }],
  },
];
