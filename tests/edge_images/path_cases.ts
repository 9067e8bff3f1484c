/**
 * Edge images about paths: how they are cut, kept inside the root, and led through symlinks.
 *
 * @module
 */
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import type { SimpleEntry } from "../tar/build.ts";
import type { EdgeImage, ExpectedNode } from "./edge_image.ts";

const USR_LIB: readonly SimpleEntry[] = [
  { path: "usr/" },
  { path: "usr/lib/", mode: 0o711 },
  { path: "usr/lib/x", data: "1" },
];
const USR_LIB_EXPECTED: readonly ExpectedNode[] = [
  { path: "usr/" },
  { path: "usr/lib/", mode: 0o711 },
  { path: "usr/lib/x", data: "1" },
];

/** Spellings of one path, roots, directories without an entry, and symlinks on the way. */
export const PATH_CASES: readonly EdgeImage[] = [
  {
    name: "path-spellings",
    layers: [[{ path: "./a" }, { path: "././b//" }, { path: "b//./c" }]],
    expected: [{ path: "a" }, { path: "b/" }, { path: "b/c" }],
  },
  {
    name: "path-absolute",
    layers: [[{ path: "/abs/" }, { path: "/abs/f", data: "1" }]],
    warnings: { clampedPath: 2 },
    expected: [{ path: "abs/" }, { path: "abs/f", data: "1" }],
  },
  {
    name: "path-out-of-the-root",
    layers: [[{ path: "X/" }, { path: "../X/f" }, { path: "../../../g" }]],
    warnings: { clampedPath: 2 },
    expected: [{ path: "X/" }, { path: "X/f" }, { path: "g" }],
  },
  {
    name: "path-with-dot-dot-inside",
    layers: [[{ path: "a/../b" }]],
    warnings: { clampedPath: 1 },
    expected: [{ path: "b" }],
  },
  {
    name: "path-of-the-longest-name",
    layers: [[{ path: "n".repeat(255) }, { path: `${"d".repeat(255)}/` }, {
      path: `${"d".repeat(255)}/${"m".repeat(255)}`,
    }]],
    expected: [{ path: `${"d".repeat(255)}/` }, {
      path: `${"d".repeat(255)}/${"m".repeat(255)}`,
    }, { path: "n".repeat(255) }],
  },
  {
    name: "path-of-too-long-a-name",
    layers: [[{ path: "n".repeat(256) }]],
    refused: "has 256 bytes; ext4 allows 255",
  },
  {
    name: "path-of-any-bytes",
    layers: [[
      { path: "\xff\xfe" },
      { path: "new\nline" },
      { path: "esc\x1b[2J" },
      { path: byteStringFromText("naïve") },
      { path: " " },
      { path: "...", data: "dots" },
    ]],
    expected: [
      { path: " " },
      { path: "...", data: "dots" },
      { path: "esc\x1b[2J" },
      { path: byteStringFromText("naïve") },
      { path: "new\nline" },
      { path: "\xff\xfe" },
    ],
  },
  {
    name: "root-entry",
    layers: [
      [{ path: "./", mode: 0o711, uid: 1, gid: 2, mtime: 3, xattrs: { "user.k": "v" } }, {
        path: "a",
      }],
      [{ path: "b" }],
    ],
    expected: [
      { path: "/", mode: 0o711, uid: 1, gid: 2, mtime: 3, xattrs: { "user.k": "v" } },
      { path: "a" },
      { path: "b" },
    ],
  },
  {
    name: "root-entry-replaces-attributes",
    layers: [[{ path: "./", mode: 0o711, xattrs: { "user.k": "v" } }, { path: "a" }], [
      { path: "/", mode: 0o750, mtime: 4 },
    ]],
    expected: [{ path: "/", mode: 0o750, mtime: 4, xattrs: {} }, { path: "a" }],
  },
  {
    name: "root-entry-twice",
    layers: [[{ path: "./", mode: 0o711 }, { path: "a" }, { path: "/", mode: 0o750 }]],
    warnings: { duplicatePath: 1 },
    expected: [{ path: "/", mode: 0o750 }, { path: "a" }],
  },
  {
    name: "root-entry-as-a-symlink",
    layers: [[{ path: ".", link: "/etc" }]],
    refused: "the entry for the root is a symlink, not a directory",
  },
  {
    name: "root-entry-as-a-file",
    layers: [[{ path: ".", kind: "file" }]],
    refused: "the entry for the root is a file, not a directory",
  },
  {
    name: "root-entry-as-a-hard-link",
    layers: [[{ path: "a" }, { path: "a/..", kind: "hardlink", link: "a" }]],
    warnings: { clampedPath: 1 },
    refused: "the entry for the root is a hardlink, not a directory",
  },
  {
    name: "implied-directories",
    layers: [[{ path: "p/q/f" }]],
    expected: [
      { path: "p/", mode: 0o755, uid: 0, gid: 0 },
      { path: "p/q/", mode: 0o755, uid: 0, gid: 0 },
      { path: "p/q/f" },
    ],
  },
  {
    name: "implied-directories-that-are-below",
    layers: [[
      { path: "p/", mode: 0o700, uid: 4, mtime: 6, xattrs: { "user.k": "v" } },
      { path: "p/q/", mode: 0o710 },
    ], [{ path: "p/q/f" }]],
    expected: [
      { path: "p/", mode: 0o700, uid: 4, mtime: 6, xattrs: { "user.k": "v" } },
      { path: "p/q/", mode: 0o710 },
      { path: "p/q/f" },
    ],
  },
  {
    name: "implied-directories-described-later",
    layers: [[{ path: "p/q/f" }, { path: "p/q/", mode: 0o700 }, { path: "p/", uid: 8 }]],
    expected: [{ path: "p/", uid: 8 }, { path: "p/q/", mode: 0o700 }, { path: "p/q/f" }],
  },
  {
    name: "implied-directory-described-twice",
    layers: [[{ path: "p/f" }, { path: "p/", mode: 0o700 }, { path: "p/", mode: 0o710 }]],
    warnings: { duplicatePath: 1 },
    expected: [{ path: "p/", mode: 0o710 }, { path: "p/f" }],
  },
  {
    name: "file-on-the-path",
    layers: [[{ path: "d", data: "a file" }], [{ path: "d/x" }]],
    warnings: { replacedParent: 1 },
    expected: [{ path: "d/", mode: 0o755 }, { path: "d/x" }],
    umociDiffers: "0.4.7 fails; later versions replace the file",
  },
  {
    name: "file-on-the-path-in-one-layer",
    layers: [[{ path: "d", kind: "fifo" }, { path: "d/x" }]],
    warnings: { replacedParent: 1 },
    expected: [{ path: "d/", mode: 0o755 }, { path: "d/x" }],
    umociDiffers: "0.4.7 fails; later versions replace the file",
  },
  {
    name: "symlink-on-the-path",
    layers: [[...USR_LIB, { path: "lib", link: "usr/lib" }], [{ path: "lib/f", data: "2" }]],
    expected: [
      { path: "lib", link: "usr/lib" },
      { path: "usr/" },
      { path: "usr/lib/", mode: 0o711 },
      { path: "usr/lib/f", data: "2" },
      { path: "usr/lib/x", data: "1" },
    ],
  },
  {
    name: "symlink-on-the-path-absolute",
    layers: [[...USR_LIB, { path: "lib", link: "/usr/lib" }, { path: "lib/f" }], [
      { path: "lib/g/" },
      { path: "lib/x", data: "2" },
    ]],
    expected: [
      { path: "lib", link: "/usr/lib" },
      { path: "usr/" },
      { path: "usr/lib/", mode: 0o711 },
      { path: "usr/lib/f" },
      { path: "usr/lib/g/" },
      { path: "usr/lib/x", data: "2" },
    ],
  },
  {
    name: "symlink-on-the-path-chain",
    layers: [[
      ...USR_LIB,
      { path: "s1", link: "s2" },
      { path: "s2", link: "usr/./s3/" },
      { path: "usr/s3", link: "../../../usr/lib" },
    ], [{ path: "s1/f" }]],
    expected: [
      { path: "s1", link: "s2" },
      { path: "s2", link: "usr/./s3/" },
      { path: "usr/" },
      { path: "usr/lib/", mode: 0o711 },
      { path: "usr/lib/f" },
      { path: "usr/lib/x", data: "1" },
      { path: "usr/s3", link: "../../../usr/lib" },
    ],
  },
  {
    name: "symlink-out-of-the-root",
    layers: [[{ path: "e", link: "../../../etc" }, { path: "e/passwd", data: "inside" }]],
    expected: [
      { path: "e", link: "../../../etc" },
      { path: "etc/", mode: 0o755 },
      { path: "etc/passwd", data: "inside" },
    ],
  },
  {
    name: "symlink-through-a-missing-name-and-back",
    layers: [
      [{ path: "etc/" }, { path: "etc/old" }, { path: "etc/kept", data: "1" }],
      [{ path: "local", link: "missing/../../../etc" }],
      [
        { path: "local/new", data: "2" },
        { path: "hard", kind: "hardlink", link: "local/kept" },
        { path: "local/.wh.old" },
      ],
    ],
    expected: [
      { path: "etc/" },
      { path: "etc/kept", data: "1" },
      { path: "etc/new", data: "2" },
      { path: "hard", sameAs: "etc/kept" },
      { path: "local", link: "missing/../../../etc" },
    ],
  },
  {
    name: "symlink-dangling-on-the-path",
    layers: [[{ path: "e", link: "/abs/outside" }], [{ path: "e/f", data: "1" }]],
    expected: [
      { path: "abs/", mode: 0o755 },
      { path: "abs/outside/", mode: 0o755 },
      { path: "abs/outside/f", data: "1" },
      { path: "e", link: "/abs/outside" },
    ],
  },
  {
    name: "symlink-to-a-file-on-the-path",
    layers: [[{ path: "a", data: "1" }, { path: "e", link: "a" }], [{ path: "e/f" }]],
    warnings: { replacedParent: 1 },
    expected: [{ path: "a/", mode: 0o755 }, { path: "a/f" }, { path: "e", link: "a" }],
    umociDiffers: "0.4.7 fails; later versions replace the file",
  },
  {
    name: "symlink-replaced-by-a-directory-entry",
    layers: [[...USR_LIB, { path: "lib", link: "usr/lib" }], [
      { path: "lib/", mode: 0o700 },
      { path: "lib/foo" },
    ]],
    expected: [{ path: "lib/", mode: 0o700 }, { path: "lib/foo" }, ...USR_LIB_EXPECTED],
  },
  {
    name: "symlink-as-the-last-name-is-not-followed",
    layers: [[...USR_LIB, { path: "s", link: "usr/lib/x" }], [{ path: "s", data: "2" }]],
    expected: [{ path: "s", data: "2" }, ...USR_LIB_EXPECTED],
  },
  {
    name: "symlink-loop",
    layers: [[{ path: "a", link: "b" }, { path: "b", link: "a" }, { path: "a/f" }]],
    refused: "more than 255 symlinks, the last one",
  },
  {
    name: "symlink-to-itself-as-the-last-name",
    layers: [[{ path: "a", link: "a" }]],
    expected: [{ path: "a", link: "a" }],
  },
];
