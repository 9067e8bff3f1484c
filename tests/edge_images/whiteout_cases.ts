/**
 * Edge images about whiteouts and opaque directories.
 *
 * @module
 */
import type { EdgeImage } from "./edge_image.ts";

/** Rules of OCI image-spec layer.md, "Whiteouts", and what real layers make of them. */
export const WHITEOUT_CASES: readonly EdgeImage[] = [
  {
    name: "whiteout-file",
    layers: [[{ path: "a", data: "1" }, { path: "ab" }, { path: "d/" }, { path: "d/a" }], [
      { path: ".wh.a" },
    ]],
    expected: [{ path: "ab" }, { path: "d/" }, { path: "d/a" }],
  },
  {
    name: "whiteout-after-new-file",
    layers: [[{ path: "a", data: "1" }], [{ path: "a", data: "2" }, { path: ".wh.a" }]],
    expected: [{ path: "a", data: "2" }],
  },
  {
    name: "whiteout-before-new-file",
    layers: [[{ path: "a", data: "1" }], [{ path: ".wh.a" }, { path: "a", data: "2" }]],
    expected: [{ path: "a", data: "2" }],
  },
  {
    name: "whiteout-then-added-by-a-third-layer",
    layers: [[{ path: "a", data: "1" }], [{ path: ".wh.a" }], [{ path: "a", data: "3" }]],
    expected: [{ path: "a", data: "3" }],
  },
  {
    name: "whiteout-of-nothing",
    layers: [[{ path: "a" }], [{ path: ".wh.nope" }, { path: "nodir/.wh.x" }]],
    expected: [{ path: "a" }],
  },
  {
    name: "whiteout-in-the-lowest-layer",
    layers: [[
      { path: ".wh.a" },
      { path: "d/" },
      { path: "d/.wh.b" },
      { path: "d/.wh..wh..opq" },
      { path: "d/c", data: "1" },
    ]],
    expected: [{ path: "d/" }, { path: "d/c", data: "1" }],
  },
  {
    name: "whiteout-directory",
    layers: [[{ path: "d/" }, { path: "d/e/" }, { path: "d/e/f" }, { path: "g" }], [
      { path: ".wh.d" },
    ]],
    expected: [{ path: "g" }],
  },
  {
    name: "whiteout-directory-and-its-child",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "g" }], [
      { path: ".wh.d" },
      { path: "d/.wh.x" },
    ]],
    expected: [{ path: "g" }],
  },
  {
    name: "whiteout-child-and-its-directory",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "g" }], [
      { path: "d/.wh.x" },
      { path: ".wh.d" },
    ]],
    expected: [{ path: "g" }],
  },
  {
    name: "whiteout-directory-with-new-content",
    layers: [[{ path: "d/", mode: 0o700, uid: 7 }, { path: "d/x" }], [
      { path: ".wh.d" },
      { path: "d/", mode: 0o711, mtime: 5 },
      { path: "d/y", data: "2" },
    ]],
    expected: [{ path: "d/", mode: 0o711, uid: 0, mtime: 5 }, { path: "d/y", data: "2" }],
  },
  {
    name: "whiteout-directory-after-its-new-content",
    layers: [[{ path: "d/", mode: 0o700 }, { path: "d/x" }, { path: "d/e/" }, { path: "d/e/f" }], [
      { path: "d/", mode: 0o711 },
      { path: "d/e/", mode: 0o710 },
      { path: "d/y" },
      { path: ".wh.d" },
    ]],
    expected: [{ path: "d/", mode: 0o711 }, { path: "d/e/", mode: 0o710 }, { path: "d/y" }],
    umociDiffers: "a whiteout after the entries changes the directory's time",
  },
  {
    name: "whiteout-directory-with-implied-new-one",
    layers: [[{ path: "d/", mode: 0o700, uid: 7 }, { path: "d/x" }], [
      { path: "d/y" },
      { path: ".wh.d" },
    ]],
    expected: [{ path: "d/", mode: 0o755, uid: 0 }, { path: "d/y" }],
    umociDiffers: "a whiteout after the entries leaves the lower directory's attributes",
  },
  {
    name: "whiteout-of-any-tar-type",
    layers: [[{ path: "a" }, { path: "b" }, { path: "c" }, { path: "d/" }, { path: "d/x" }], [
      { path: ".wh.a/" },
      { path: ".wh.b", link: "d" },
      { path: ".wh.c", kind: "characterDevice", major: 1, minor: 3 },
      { path: ".wh.d/", mode: 0o700 },
    ]],
    expected: [],
  },
  {
    name: "whiteout-twice",
    layers: [[{ path: "a" }, { path: "b" }], [{ path: ".wh.a" }, { path: "./.wh.a" }]],
    expected: [{ path: "b" }],
  },
  {
    name: "whiteout-symlink-not-its-target",
    layers: [[{ path: "t" }, { path: "s", link: "t" }], [{ path: ".wh.s" }]],
    expected: [{ path: "t" }],
  },
  {
    name: "whiteout-through-a-symlink",
    layers: [[
      { path: "usr/" },
      { path: "usr/lib/" },
      { path: "usr/lib/x" },
      { path: "usr/lib/y" },
      { path: "lib", link: "usr/lib" },
    ], [{ path: "lib/.wh.x" }]],
    expected: [
      { path: "lib", link: "usr/lib" },
      { path: "usr/" },
      { path: "usr/lib/" },
      { path: "usr/lib/y" },
    ],
  },
  {
    name: "whiteout-symlink-and-a-path-through-it",
    layers: [[
      { path: "usr/" },
      { path: "usr/lib/" },
      { path: "usr/lib/x" },
      { path: "lib", link: "usr/lib" },
    ], [{ path: "lib/f", data: "2" }, { path: ".wh.lib" }]],
    expected: [
      { path: "lib/", mode: 0o755 },
      { path: "lib/f", data: "2" },
      { path: "usr/" },
      { path: "usr/lib/" },
      { path: "usr/lib/x" },
    ],
    umociDiffers: "a whiteout after the entries comes too late for their paths",
  },
  {
    name: "opaque-below-a-directory-that-replaces-a-symlink",
    layers: [[
      { path: "usr/" },
      { path: "usr/lib/" },
      { path: "usr/lib/x" },
      { path: "lib", link: "usr/lib" },
    ], [{ path: "lib/.wh..wh..opq" }, { path: "lib/.wh.x" }, { path: "lib/" }, { path: "lib/f" }]],
    expected: [
      { path: "lib/" },
      { path: "lib/f" },
      { path: "usr/" },
      { path: "usr/lib/" },
      { path: "usr/lib/x" },
    ],
    umociDiffers: "markers before the directory's entry go through the symlink",
  },
  {
    name: "opaque-last",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "d/s/" }, { path: "d/s/y" }], [
      { path: "d/" },
      { path: "d/n" },
      { path: "d/s/" },
      { path: "d/s/z" },
      { path: "d/.wh..wh..opq" },
    ]],
    expected: [{ path: "d/" }, { path: "d/n" }, { path: "d/s/" }, { path: "d/s/z" }],
    umociDiffers: "a marker after the entries changes the directory's time",
  },
  {
    name: "opaque-first",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "d/s/" }, { path: "d/s/y" }], [
      { path: "d/.wh..wh..opq" },
      { path: "d/" },
      { path: "d/n" },
      { path: "d/s/" },
      { path: "d/s/z" },
    ]],
    expected: [{ path: "d/" }, { path: "d/n" }, { path: "d/s/" }, { path: "d/s/z" }],
  },
  {
    name: "opaque-without-an-entry-of-its-directory",
    layers: [[{ path: "d/", mode: 0o700, uid: 3, mtime: 9 }, { path: "d/x" }], [
      { path: "d/.wh..wh..opq" },
      { path: "d/n" },
    ]],
    expected: [{ path: "d/", mode: 0o700, uid: 3, mtime: 9 }, { path: "d/n" }],
  },
  {
    name: "opaque-empties-a-directory",
    layers: [[{ path: "d/" }, { path: "d/e/" }, { path: "d/e/f" }], [{ path: "d/.wh..wh..opq" }]],
    expected: [{ path: "d/" }],
  },
  {
    name: "opaque-of-nothing",
    layers: [[{ path: "a" }], [{ path: "nodir/.wh..wh..opq" }]],
    expected: [{ path: "a" }],
  },
  {
    name: "opaque-new-directory",
    layers: [[{ path: "a" }], [{ path: "n/" }, { path: "n/.wh..wh..opq" }, { path: "n/x" }]],
    expected: [{ path: "a" }, { path: "n/" }, { path: "n/x" }],
  },
  {
    name: "opaque-with-whiteouts-inside",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "d/y" }], [
      { path: "d/" },
      { path: "d/.wh.x" },
      { path: "d/.wh..wh..opq" },
      { path: "d/n" },
    ]],
    expected: [{ path: "d/" }, { path: "d/n" }],
  },
  {
    name: "opaque-root",
    layers: [[{ path: "a" }, { path: "d/", mode: 0o700 }, { path: "d/x" }, { path: "e/" }], [
      { path: "b" },
      { path: "d/y" },
      { path: ".wh..wh..opq" },
    ]],
    expected: [{ path: "b" }, { path: "d/", mode: 0o755 }, { path: "d/y" }],
    umociDiffers: "a marker after the entries leaves the lower directory's attributes",
  },
  {
    name: "whiteout-without-a-name",
    layers: [[{ path: "a" }], [{ path: ".wh." }]],
    refused: 'the whiteout is not of a file name, but of ""',
  },
  {
    name: "whiteout-of-dot",
    layers: [[{ path: "d/" }, { path: "d/a" }], [{ path: "d/.wh.." }]],
    refused: 'the whiteout is not of a file name, but of "."',
  },
  {
    name: "whiteout-of-dot-dot",
    layers: [[{ path: "d/" }, { path: "d/a" }], [{ path: "d/.wh..." }]],
    refused: 'the whiteout is not of a file name, but of ".."',
  },
  {
    name: "file-below-a-whiteout-name",
    layers: [[{ path: "d/" }], [{ path: ".wh.d/x" }]],
    refused: "the path leads through .wh.d, which is the name of a whiteout",
    umociDiffers: "it makes a directory of that name",
  },
  {
    name: "whiteout-names-in-a-plain-tar",
    layers: [[{ path: "a" }, { path: ".wh.a", data: "1" }, { path: "d/" }, {
      path: "d/.wh..wh..opq",
    }]],
    whiteouts: false,
    expected: [{ path: ".wh.a", data: "1" }, { path: "a" }, { path: "d/" }, {
      path: "d/.wh..wh..opq",
    }],
    umociDiffers: "an OCI layer always has whiteouts",
  },
  {
    name: "aufs-names-in-a-plain-tar",
    layers: [[
      { path: ".wh..wh.plnk/" },
      { path: ".wh..wh.plnk/12.34", data: "1" },
      { path: "b", kind: "hardlink", link: ".wh..wh.plnk/12.34" },
    ]],
    whiteouts: false,
    expected: [
      { path: ".wh..wh.plnk/" },
      { path: ".wh..wh.plnk/12.34", data: "1" },
      { path: "b", sameAs: ".wh..wh.plnk/12.34" },
    ],
    umociDiffers: "an OCI layer always has whiteouts",
  },
  {
    name: "aufs-metadata",
    layers: [[
      { path: ".wh..wh.plnk/" },
      { path: ".wh..wh.plnk/12.34", data: "linked", mode: 0o600 },
      { path: ".wh..wh.aufs" },
      { path: ".wh..wh.orph/" },
      { path: "b", kind: "hardlink", link: ".wh..wh.plnk/12.34" },
      { path: "c", kind: "hardlink", link: "./.wh..wh.plnk/12.34" },
    ]],
    warnings: { skippedAufsMetadata: 4 },
    expected: [{ path: "b", data: "linked", mode: 0o600 }, { path: "c", sameAs: "b" }],
    umociDiffers: "it knows nothing of AUFS",
  },
  {
    name: "aufs-link-to-nothing",
    layers: [[{ path: ".wh..wh.plnk/" }, {
      path: "b",
      kind: "hardlink",
      link: ".wh..wh.plnk/12.34",
    }]],
    warnings: { skippedAufsMetadata: 1 },
    refused: "the hard link's target .wh..wh.plnk/12.34 exists neither",
  },
];
