/**
 * Images that mke2fs made of a tree with something of everything, for switching their checksums.
 *
 * @module
 */
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun, runCommand } from "../../oracle/command.ts";

/** One way to make an image. */
export interface Recipe {
  readonly blockSizeBytes: number;
  /** As of mke2fs -O. */
  readonly features: string;
  readonly extra?: readonly string[];
}

const BASE = "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super," +
  "large_file,huge_file,dir_nlink,extra_isize";

/** Recipes by name. Those that begin with `csum` have checksums at first. */
export const RECIPES: Readonly<Record<string, Recipe>> = {
  "csum 1K": { blockSizeBytes: 1024, features: `${BASE},metadata_csum,64bit` },
  "csum 1K, 32-byte descriptors": { blockSizeBytes: 1024, features: `${BASE},metadata_csum` },
  "csum 2K, seed": {
    blockSizeBytes: 2048,
    features: `${BASE},metadata_csum,64bit,metadata_csum_seed`,
  },
  "csum 4K, orphan file, several groups": {
    blockSizeBytes: 4096,
    features: `${BASE},metadata_csum,64bit,orphan_file`,
    extra: ["-g", "2048"],
  },
  "csum 1K, meta_bg": {
    blockSizeBytes: 1024,
    features: `${BASE},metadata_csum,64bit,meta_bg`,
    extra: ["-g", "1024"],
  },
  "csum 4K, bigalloc": {
    blockSizeBytes: 4096,
    features: `${BASE},metadata_csum,64bit,bigalloc`,
    extra: ["-C", "16384"],
  },
  "csum 4K, inline_data, ea_inode": {
    blockSizeBytes: 4096,
    features: `${BASE},metadata_csum,inline_data,ea_inode`,
  },
  "csum 4K, sparse_super2": {
    blockSizeBytes: 4096,
    features: `${BASE},metadata_csum,sparse_super2`.replace("sparse_super,", ""),
    extra: ["-g", "2048"],
  },
  "uninit_bg 1K": { blockSizeBytes: 1024, features: `${BASE},uninit_bg` },
  "plain 1K": { blockSizeBytes: 1024, features: BASE },
  "plain 4K, 128-byte inodes": { blockSizeBytes: 4096, features: BASE, extra: ["-I", "128"] },
  "no extents": { blockSizeBytes: 1024, features: BASE.replace("extent,", "") },
};

/** Makes the directory tree that images are made of. */
export function makeTree(directory: string): void {
  mkdirSync(directory);
  for (const [name, count] of [["few", 3], ["some", 120], ["many", 900]] as const) {
    mkdirSync(join(directory, name));
    for (let i = 0; i < count; i++) {
      const length = 1 + (i * 37) % 60;
      const path = join(directory, name, `${i}-${"n".repeat(length)}`);
      if (i % 10 === 9) symlinkSync("t".repeat(1 + (i * 7) % 100), path);
      else writeFileSync(path, "c".repeat((i * 131) % 3000));
    }
  }
  // Every other block is a hole: more extents than fit an inode.
  const sparse = join(directory, "sparse");
  writeFileSync(sparse, "");
  for (let i = 0; i < 200; i++) {
    truncateSync(sparse, i * 16384);
    writeFileSync(sparse, "x", { flag: "a" });
  }
}

/** Makes an image, with indexed directories and attributes. */
export function makeImage(image: string, tree: string, recipe: Recipe, sizeMib = 24): void {
  writeFileSync(image, "");
  truncateSync(image, sizeMib << 20);
  mustRun("mke2fs", [
    "-q",
    "-F",
    ...["-b", `${recipe.blockSizeBytes}`, "-O", recipe.features, "-d", tree],
    ...["-U", "12345678-1234-1234-1234-123456789abc"],
    ...["-E", "hash_seed=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee,nodiscard"],
    ...recipe.extra ?? [],
    image,
  ]);
  const value = "v".repeat(300);
  for (const name of ["few", "many", "sparse"]) {
    mustRun("debugfs", ["-w", "-R", `ea_set /${name} user.long ${value}`, image]);
  }
  // 1: it made indexes.
  const { status, stdout } = runCommand("e2fsck", ["-fyD", image]);
  if (status !== 0 && status !== 1) throw new Error(`e2fsck -fyD: ${stdout}`);
}
