/**
 * Images as others make them: by mke2fs with many sizes of blocks and sets of features, filled by mke2fs itself from a
 * directory or by the kernel through a mount.
 *
 * @module
 */
import { existsSync } from "node:fs";
import type { ByteString } from "../../../lib/bytes/byte_string.ts";
import type { FileTree, TreeNode } from "../../../lib/model/node.ts";
import { mustRun, runCommand } from "../../oracle/command.ts";
import { mountReadWrite } from "../../oracle/kernel.ts";
import { closeDescriptor, openDirectory, openNameAt, readNames } from "../../oracle/libc.ts";
import { removeAt, renameAt } from "../../oracle/libc_changes.ts";
import { materializeTree } from "../../oracle/materialize.ts";
import { dir, file, special, symlink, treeOf } from "../../oracle/tree_builder.ts";

/** How an image is made. */
export interface Recipe {
  readonly name: string;
  /** For mke2fs, beside the image and its size. */
  readonly options: readonly string[];
  readonly sizeMib?: number;
  /** Who puts the files in. */
  readonly filledBy?: "mke2fs" | "kernel";
  /** Kernels may be unable to mount it; an image that is made with these options must show the same tree. */
  readonly twin?: readonly string[];
  /** For tune2fs, afterwards. */
  readonly tuning?: readonly string[];
  /** Indexes all directories with e2fsck -D. */
  readonly optimised?: boolean;
  /** Leaves out what does not go with it. */
  readonly content?: ContentChoices;
}

/** What a tree for a recipe has. */
export interface ContentChoices {
  readonly blockSizeBytes?: number;
  readonly bigValues?: boolean;
  /** Names in the largest directory; 300 when left out, which mke2fs -d takes a fifth of a second less for. */
  readonly nameCount?: number;
  /** Times after 2038 need inodes of more than 128 bytes. */
  readonly classicTimes?: boolean;
  /** ext2 and ext3 directories have at most 32000 links; their files end at 16 GiB with 1 KiB blocks. */
  readonly farMib?: number;
}

const EXT4 = ["-t", "ext4", "-E", "lazy_itable_init=0"];
const CLASSIC = { classicTimes: true };
const MANY_1K = { blockSizeBytes: 1024, nameCount: 1500 };
const MANY = { nameCount: 2000 };

/** Images of mke2fs -d. */
export const MKE2FS_RECIPES: readonly Recipe[] = [
  { name: "1K", options: [...EXT4, "-b", "1024"], content: MANY_1K },
  { name: "2K", options: [...EXT4, "-b", "2048"], content: { blockSizeBytes: 2048 } },
  { name: "4K", options: [...EXT4, "-b", "4096"], content: MANY },
  { name: "64K", options: [...EXT4, "-b", "65536"], sizeMib: 192, twin: EXT4 },
  { name: "32-byte descriptors", options: [...EXT4, "-O", "^64bit"] },
  { name: "no checksums", options: [...EXT4, "-O", "^metadata_csum,^uninit_bg"] },
  {
    name: "uninit_bg",
    options: [...EXT4, "-b", "1024", "-O", "^metadata_csum,^64bit,uninit_bg"],
    content: { blockSizeBytes: 1024 },
  },
  {
    name: "ext2",
    options: ["-t", "ext2", "-b", "1024", "-I", "256"],
    content: { blockSizeBytes: 1024 },
  },
  { name: "ext2 as of old", options: ["-t", "ext2", "-I", "128", "-O", "none"], content: CLASSIC },
  { name: "revision 0", options: ["-r", "0", "-O", "none", "-b", "4096"], content: CLASSIC },
  { name: "ext3", options: ["-t", "ext3", "-I", "256"] },
  { name: "block maps with checksums", options: [...EXT4, "-O", "^extent,^64bit"] },
  { name: "128-byte inodes", options: [...EXT4, "-I", "128"], content: CLASSIC },
  { name: "1024-byte inodes", options: [...EXT4, "-I", "1024"] },
  { name: "inline data", options: [...EXT4, "-O", "inline_data"] },
  {
    name: "inline data in large inodes, 64K",
    options: [...EXT4, "-O", "inline_data", "-I", "2048", "-b", "65536"],
    sizeMib: 192,
    twin: [...EXT4, "-O", "inline_data", "-I", "2048"],
  },
  { name: "ea_inode", options: [...EXT4, "-O", "ea_inode"], content: { bigValues: true } },
  {
    name: "meta_bg",
    options: [...EXT4, "-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024"],
    content: { blockSizeBytes: 1024 },
  },
  {
    name: "meta_bg without flex_bg and sparse_super",
    options: [...EXT4, "-b", "1024", "-O", "meta_bg,^resize_inode,^flex_bg,^sparse_super"],
    content: { blockSizeBytes: 1024 },
  },
  { name: "sparse_super2", options: [...EXT4, "-O", "sparse_super2,^resize_inode"] },
  { name: "no dir_index", options: [...EXT4, "-O", "^dir_index"] },
  { name: "no filetype", options: [...EXT4, "-O", "^filetype"] },
  { name: "indexed", options: EXT4, optimised: true, content: MANY },
  {
    name: "indexed in two levels",
    options: [...EXT4, "-b", "1024", "-O", "large_dir"],
    optimised: true,
    content: MANY_1K,
  },
  {
    name: "indexed with tea",
    options: EXT4,
    tuning: ["-E", "hash_alg=tea"],
    optimised: true,
    content: MANY,
  },
  { name: "indexed, ext3", options: ["-t", "ext3", "-I", "256"], optimised: true, content: MANY },
  {
    name: "orphan file, seed and quotas",
    options: [...EXT4, "-O", "orphan_file,metadata_csum_seed,quota,project,verity,encrypt"],
  },
  { name: "casefold", options: [...EXT4, "-O", "casefold"], twin: EXT4 },
  { name: "mmp", options: [...EXT4, "-O", "mmp"] },
  { name: "fast commit", options: [...EXT4, "-O", "fast_commit"] },
];

/** Images that the kernel fills. */
export const KERNEL_RECIPES: readonly Recipe[] = [
  { name: "4K", options: EXT4, content: MANY },
  { name: "1K", options: [...EXT4, "-b", "1024"], content: MANY_1K },
  {
    name: "everything",
    options: [
      ...EXT4,
      "-O",
      "inline_data,ea_inode,orphan_file,metadata_csum_seed,large_dir,^resize_inode",
    ],
    content: { bigValues: true },
  },
  { name: "no checksums", options: [...EXT4, "-O", "^metadata_csum,uninit_bg,^64bit"] },
  {
    name: "ext3",
    options: ["-t", "ext3", "-I", "256", "-b", "1024"],
    content: { farMib: 3000, blockSizeBytes: 1024 },
  },
  {
    name: "ext2",
    options: ["-t", "ext2", "-b", "2048", "-I", "128"],
    content: { ...CLASSIC, farMib: 3000, blockSizeBytes: 2048 },
  },
  {
    name: "block maps with checksums",
    options: [...EXT4, "-O", "^extent,^64bit,inline_data"],
    content: { farMib: 3000 },
  },
].map((recipe): Recipe => ({ ...recipe, filledBy: "kernel" }));

/**
 * Makes the image of a recipe. Needs root, and for those that the kernel fills that it can mount.
 *
 * @param sources a directory for what mke2fs fills images from, which several recipes can share
 */
export function makeImage(recipe: Recipe, image: string, sources: string): void {
  const { sizeMib = 64, filledBy, content = {} } = recipe;
  // For small images mke2fs would take 1 KiB.
  const hasBlockSize = recipe.options.includes("-b");
  const options = hasBlockSize ? recipe.options : [...recipe.options, "-b", "4096"];
  const size = `${sizeMib}M`;
  if (filledBy === "kernel") {
    mustRun("mke2fs", ["-q", "-F", ...options, image, size]);
    mountReadWrite(image, (mountPoint) => {
      materializeTree(recipeTree(content), mountPoint);
      exercise(mountPoint);
    });
    return;
  }
  const source = `${sources}/${encodeURIComponent(JSON.stringify(content))}`;
  if (!existsSync(source)) {
    Deno.mkdirSync(source);
    materializeTree(recipeTree(content), source);
  }
  mustRun("mke2fs", ["-q", "-F", ...options, "-d", source, image, size]);
  if (recipe.tuning) mustRun("tune2fs", [...recipe.tuning, image]);
  if (recipe.optimised) {
    const { status, stdout } = runCommand("e2fsck", ["-fyD", image]);
    if (status > 1) throw new Error(`e2fsck -D: ${stdout}`);
  }
}

/** Every kind of node, and files and directories of the sizes at which maps and indexes change their shape. */
function recipeTree(choices: ContentChoices): FileTree {
  const { blockSizeBytes = 4096, bigValues, classicTimes, farMib = 5000, nameCount = 300 } =
    choices;
  const late = classicTimes ? 2_000_000_000 : 7_000_000_000;
  const linked = file("linked", { mode: 0o4711 });
  return treeOf(
    {
      "empty": file(),
      "tiny": file("x", { mtime: [-5, classicTimes ? 0 : 999_999_999] }),
      "inline-60": file("a".repeat(60)),
      "inline-100": file("b".repeat(100)),
      "inline-150": file("c".repeat(150), { xattrs: { "user.a": "b" } }),
      "block": file("d".repeat(4096), { uid: 70000, gid: 4_294_967_290 }),
      "more": file("e".repeat(70_001), { mtime: late }),
      "large": file({ sizeBytes: 9_000_003, noise: "all", seed: 3 }),
      "far": file({
        sizeBytes: farMib * 2 ** 20,
        noise: [[300 * 2 ** 20, 9000], [(farMib - 1) * 2 ** 20, 5000]],
        seed: 4,
      }),
      "holes": file({ sizeBytes: 700 * 8192, noise: everySecondBlock(700), seed: 5 }),
      "link-1": linked,
      "dir": dir({ "link-2": linked, "sub": dir({ "deep": dir() }), "file": file("z") }),
      "few": dir(manyNames(5, 10), { mode: 0o2775 }),
      "many": dir(manyNames(nameCount, 60)),
      "long-names": dir(manyNames(200, 255), { mtime: 1 }),
      "null": special("characterDevice", [1, 3]),
      "big-device": special("blockDevice", [259, 70000], { uid: 5 }),
      "pipe": special("fifo"),
      "socket": special("socket"),
      ...symlinks(blockSizeBytes),
      ...withXattrs(blockSizeBytes, bigValues ?? false),
      "na\xefve \x1b[31m": file("escape"),
    },
    { mode: 0o755, mtime: 1_234_567_890 },
  );
}

function symlinks(blockSizeBytes: number): Record<string, TreeNode> {
  const lengths = [1, 59, 60, 61, 100, 155, 500, Math.min(blockSizeBytes, 4096) - 2];
  return Object.fromEntries(
    lengths.map((length) => [`symlink-${length}`, symlink("t".repeat(length))]),
  );
}

/** As many as fit a block beside one another, or with `bigValues` more. */
function withXattrs(blockSizeBytes: number, bigValues: boolean): Record<string, TreeNode> {
  const acl = new Uint8Array(44);
  acl.set([2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0]);
  acl.set([4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0], 20);
  acl.fill(255, 40);
  const room = Math.min(blockSizeBytes, 4096) - 500;
  const xattrs = { "user.one": "1", "trusted.two": "x".repeat(room), "security.three": "" };
  return {
    "xattr-small": file("", { xattrs: { "user.a": "b", "user.zz": "\x00\xff" } }),
    "xattr-block": file("", { xattrs }),
    "xattr-shared-1": file("1", { xattrs }),
    "xattr-shared-2": dir({}, { xattrs }),
    "xattr-link": symlink("to", { xattrs: { "trusted.link": "value" } }),
    "xattr-acl": file("", { mode: 0o640, xattrs: { "system.posix_acl_access": acl } }),
    "xattr-default": dir({}, { xattrs: { "system.posix_acl_default": acl } }),
    ...(bigValues
      ? { "xattr-big": file("", { xattrs: { "user.big": "v".repeat(3000), "user.b2": "w" } }) }
      : {}),
  };
}

function everySecondBlock(count: number): [number, number][] {
  return Array.from({ length: count }, (_, i) => [i * 8192, 4096]);
}

function manyNames(count: number, length: number): [ByteString, TreeNode][] {
  const only = file("shared by many", { mode: 0o600 });
  return Array.from({ length: count }, (_, i) => {
    const name = `${i}-`.padEnd(length, "n\xc3\xa9").slice(0, length);
    return [name, i % 3 === 0 ? file() : only];
  });
}

/** What only time leaves behind: deleted and renamed names, files cut and extended, room set aside. */
function exercise(mountPoint: string): void {
  const root = openDirectory(mountPoint);
  try {
    for (const name of ["many", "long-names"]) {
      const directory = openNameAt(root, name, true);
      try {
        readNames(directory).forEach((child, i) => {
          if (i % 4 === 0) removeAt(directory, child, false);
          if (i % 4 === 1) renameAt(directory, child, `renamed-${i}`);
        });
      } finally {
        closeDescriptor(directory);
      }
    }
  } finally {
    closeDescriptor(root);
  }
  Deno.truncateSync(`${mountPoint}/large`, 5_000_001);
  // Not on ext2 and ext3, which cannot set room aside.
  runCommand("fallocate", ["-l", "1M", "-o", "8M", `${mountPoint}/large`]);
  runCommand("fallocate", ["-n", "-l", "1M", "-o", "1M", `${mountPoint}/more`]);
  runCommand("fallocate", ["-p", "-l", "12K", "-o", "8K", `${mountPoint}/more`]);
}
