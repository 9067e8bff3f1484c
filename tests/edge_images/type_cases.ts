/**
 * Edge images about kinds of files, type changes, and attributes.
 *
 * @module
 */
import type { EdgeImage } from "./edge_image.ts";

const CAPABILITY =
  "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

/** One thing in the place of another, and what each kind of file can carry. */
export const TYPE_CASES: readonly EdgeImage[] = [
  {
    name: "directory-to-file",
    layers: [[{ path: "d/" }, { path: "d/e/" }, { path: "d/e/x" }], [{ path: "d", data: "f" }]],
    expected: [{ path: "d", data: "f" }],
  },
  {
    name: "file-to-directory",
    layers: [[{ path: "d", data: "f" }], [{ path: "d/", mode: 0o700 }, { path: "d/x" }]],
    expected: [{ path: "d/", mode: 0o700 }, { path: "d/x" }],
  },
  {
    name: "directory-to-file-to-directory",
    layers: [[{ path: "d/" }, { path: "d/x" }], [{ path: "d" }], [{ path: "d/" }, { path: "d/y" }]],
    expected: [{ path: "d/" }, { path: "d/y" }],
  },
  {
    name: "directory-to-symlink",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "t/" }], [{ path: "d", link: "t" }]],
    expected: [{ path: "d", link: "t" }, { path: "t/" }],
  },
  {
    name: "file-to-symlink-to-device-to-fifo",
    layers: [
      [{ path: "a", data: "1" }],
      [{ path: "a", link: "t" }],
      [{ path: "a", kind: "blockDevice", major: 8, minor: 1 }],
      [{ path: "a", kind: "fifo", mode: 0o600 }],
    ],
    expected: [{ path: "a", kind: "fifo", mode: 0o600 }],
  },
  {
    name: "directory-over-directory",
    layers: [
      [
        { path: "d/", mode: 0o700, uid: 1, gid: 1, mtime: 1, xattrs: { "user.a": "1" } },
        { path: "d/x" },
      ],
      [{ path: "d/", mode: 0o1777, uid: 2, gid: 3, mtime: 4, xattrs: { "user.b": "2" } }],
    ],
    expected: [
      { path: "d/", mode: 0o1777, uid: 2, gid: 3, mtime: 4, xattrs: { "user.b": "2" } },
      { path: "d/x" },
    ],
  },
  {
    name: "devices",
    layers: [[
      { path: "null", kind: "characterDevice", mode: 0o666, major: 1, minor: 3 },
      { path: "sda", kind: "blockDevice", mode: 0o660, gid: 6, major: 8, minor: 0 },
      { path: "big", kind: "characterDevice", major: 4095, minor: 1048575 },
      { path: "pipe", kind: "fifo", mode: 0o640 },
    ]],
    expected: [
      { path: "big", kind: "characterDevice", major: 4095, minor: 1048575 },
      { path: "null", kind: "characterDevice", mode: 0o666, major: 1, minor: 3 },
      { path: "pipe", kind: "fifo", mode: 0o640 },
      { path: "sda", kind: "blockDevice", mode: 0o660, gid: 6, major: 8, minor: 0 },
    ],
  },
  {
    name: "whiteout-device",
    layers: [[{ path: "a" }, { path: "d/" }], [
      { path: "a", kind: "characterDevice", major: 0, minor: 0 },
      { path: "d/b", kind: "characterDevice", major: 0, minor: 0 },
    ], [{ path: "c", kind: "hardlink", link: "a" }]],
    expected: [
      { path: "a", kind: "characterDevice", major: 0, minor: 0 },
      { path: "c", sameAs: "a" },
      { path: "d/" },
      { path: "d/b", kind: "characterDevice", major: 0, minor: 0 },
    ],
    stackDiffers: "to overlayfs a 0:0 character device is a whiteout: the names do not exist",
  },
  {
    name: "modes-owners-and-times",
    layers: [[
      { path: "setuid", mode: 0o104755, uid: 4294967294, gid: 3000000 },
      { path: "sticky/", mode: 0o41777, mtime: [1700000000, 123456789] },
      { path: "old", mode: 0, mtime: [-86400, 999999999] },
      { path: "future", mtime: 4294967296 },
    ]],
    expected: [
      { path: "future", mtime: 4294967296 },
      { path: "old", mode: 0, mtime: [-86400, 999999999] },
      { path: "setuid", mode: 0o4755, uid: 4294967294, gid: 3000000 },
      { path: "sticky/", mode: 0o1777, mtime: [1700000000, 123456789] },
    ],
  },
  {
    name: "xattrs",
    layers: [[
      { path: "ping", mode: 0o755, xattrs: { "security.capability": CAPABILITY } },
      { path: "bin", xattrs: { "user.z": "", "user.bytes": "\x00\xff\n=" } },
      { path: "d/", xattrs: { "user.d": "1" } },
    ], [{ path: "ping", mode: 0o755 }]],
    expected: [
      { path: "bin", xattrs: { "user.z": "", "user.bytes": "\x00\xff\n=" } },
      { path: "d/", xattrs: { "user.d": "1" } },
      { path: "ping", mode: 0o755, xattrs: {} },
    ],
    umociDiffers: "it takes an xattr without a value for none",
  },
  {
    name: "xattrs-that-the-kind-cannot-have",
    layers: [[
      { path: "s", link: "t", xattrs: { "user.a": "1", "trusted.b": "2" } },
      { path: "p", kind: "fifo", xattrs: { "user.a": "1" } },
      { path: "f", xattrs: { "system.posix_acl_default": "1" } },
    ]],
    warnings: { unsupportedXattr: 3 },
    expected: [
      { path: "f", xattrs: {} },
      { path: "p", kind: "fifo", xattrs: {} },
      { path: "s", link: "t", xattrs: { "trusted.b": "2" } },
    ],
    umociDiffers: "it passes them to the kernel, which refuses them",
  },
  {
    name: "xattrs-of-overlayfs",
    layers: [[{ path: "d/" }, { path: "d/x" }, { path: "h/" }, { path: "h/y" }], [
      { path: "d/", xattrs: { "trusted.overlay.opaque": "y", "user.overlay.opaque": "y" } },
      { path: "g/", xattrs: { "trusted.overlay.redirect": "/h" } },
      { path: "f", xattrs: { "trusted.overlay.overlay.metacopy": "" } },
    ]],
    expected: [
      { path: "d/", xattrs: { "trusted.overlay.opaque": "y", "user.overlay.opaque": "y" } },
      { path: "d/x" },
      { path: "f", xattrs: { "trusted.overlay.overlay.metacopy": "" } },
      { path: "g/", xattrs: { "trusted.overlay.redirect": "/h" } },
      { path: "h/" },
      { path: "h/y" },
    ],
    umociDiffers: "it drops them",
  },
  {
    name: "symlink-targets",
    layers: [[
      { path: "absolute", link: "/x/../y" },
      { path: "fast", link: "t".repeat(59) },
      { path: "slow", link: "t".repeat(60) },
      { path: "longest", link: "t/".repeat(2047) + "t" },
      { path: "bytes", link: "\xff\xfe" },
    ]],
    expected: [
      { path: "absolute", link: "/x/../y" },
      { path: "bytes", link: "\xff\xfe" },
      { path: "fast", link: "t".repeat(59) },
      { path: "longest", link: "t/".repeat(2047) + "t" },
      { path: "slow", link: "t".repeat(60) },
    ],
  },
  {
    name: "symlink-mode",
    layers: [[{ path: "s", link: "t", mode: 0o644, uid: 1, gid: 2, mtime: 3 }]],
    expected: [{ path: "s", link: "t", mode: 0o777, uid: 1, gid: 2, mtime: 3 }],
  },
  {
    name: "symlink-target-too-long",
    layers: [[{ path: "s", link: "t/".repeat(2048) }]],
    refused: "the symlink's target has 4096 bytes; ext4 allows 4095",
  },
  {
    name: "symlink-without-a-target",
    layers: [[{ path: "s", kind: "symlink", link: "" }]],
    refused: "the symlink has no target",
  },
  {
    name: "sparse-and-empty-files",
    layers: [[
      { path: "empty" },
      {
        path: "sparse",
        data: { sizeBytes: 20000, parts: [[8192, new Uint8Array([0x78, 0x79])]] },
      },
    ]],
    expected: [
      { path: "empty" },
      { path: "sparse", data: `${"\0".repeat(8192)}xy${"\0".repeat(20000 - 8194)}` },
    ],
  },
  { name: "no-layers", layers: [], expected: [] },
  {
    name: "empty-layers",
    layers: [[], [{ path: "a" }], []],
    expected: [{ path: "a" }],
  },
];
