/**
 * Small blessed images of every kind, with a structure of every kind in them.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import type { LayoutOptions } from "../../../lib/bless/options.ts";
import type { FileTree, TreeNode } from "../../../lib/model/node.ts";
import { dir, file, special, symlink, treeOf } from "../../oracle/tree_builder.ts";
import { makeImage, MIB } from "../made_image.ts";

const NO_JOURNAL = { journalBytes: 0 };

/** Options of the images, by name. */
const CHOICES: Readonly<Record<string, Partial<LayoutOptions>>> = {
  merged: {},
  layer: { ...NO_JOURNAL, backups: "none" },
  inline: { ...NO_JOURNAL, inlineData: true },
  "without checksums": { metadataChecksums: false },
  "inline, without checksums": { ...NO_JOURNAL, inlineData: true, metadataChecksums: false },
  "3.10": { compat: ["3.10"] },
  "3.10, without checksums": { ...NO_JOURNAL, compat: ["3.10"], metadataChecksums: false },
};

/** A node of every kind, a hashed directory, files of many extents, attributes in inodes and in blocks. */
function treeOfEverything(): FileTree {
  const entries = Array.from(
    { length: 700 },
    (_, i): [string, TreeNode] => [`entry-${i}`, file(`${i}`)],
  );
  const noise = Array.from({ length: 400 }, (_, i) => [i * 8192, 4096] as const);
  return treeOf({
    hashed: dir(entries),
    extents: file({ sizeBytes: 400 * 8192, noise, seed: 1 }),
    attributes: file("x", {
      xattrs: { "user.a": "a".repeat(500), "security.b": "b".repeat(700), "user.c": "" },
    }),
    small: file("less than an inode holds"),
    hundred: file("y".repeat(100)),
    long: symlink("t".repeat(100)),
    short: symlink("t"),
    null: special("characterDevice", [1, 3]),
    disk: special("blockDevice", [300, 70_000]),
    pipe: special("fifo"),
    large: file({ sizeBytes: 300_000, noise: "all", seed: 2 }),
    deep: dir([["er", dir([["still", file("q")]])]]),
  });
}

/** The images, one after the other. */
export async function* blessedImages(
  scratch: string,
): AsyncGenerator<[name: string, bytes: Uint8Array<ArrayBuffer>]> {
  for (const [name, choices] of Object.entries(CHOICES)) {
    const path = `${scratch}/${name}.ext4`;
    const size = { kind: "total", sizeBytes: 24 * MIB } as const;
    await makeImage(path, treeOfEverything(), { size, ...choices });
    yield [name, new Uint8Array(readFileSync(path))];
  }
}
