import { assertEquals } from "@std/assert";
import { findInode, listNames } from "../../../lib/ext4/read/directory.ts";
import { blockRuns } from "../../../lib/ext4/read/content.ts";
import { openExt4Image } from "../../../lib/ext4/read/image.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { mustRun, withTemporaryDirectory } from "../../oracle/command.ts";
import { kernelOrNotice } from "../../oracle/kernel.ts";
import { assertKernelShows, Victim } from "./read_image.ts";

const BLOCK_BYTES = 1024;
const I_SIZE = 0x04;
const I_BLOCK = 0x28;
const I_FILE_ACL_HIGH = 0x76;
const S_CREATOR_OS = 1024 + 0x48;
const INDIRECT_LEVELS = 0x1e;
/** The first hash in the root of an index, and its block. */
const SECOND_ENTRY = 0x28;

/** Images by their options, each made once. */
const MADE = new Map<string, Victim>();

function victim(options: readonly string[] = []): Victim {
  const key = options.join(" ");
  const made = MADE.get(key) ?? makeVictim(options);
  MADE.set(key, made);
  return new Victim(made.bytes);
}

/** Directories in blocks of 1 KiB, made without checksums so that anything in them can be another number. */
function makeVictim(options: readonly string[]): Victim {
  return withTemporaryDirectory((scratch) => {
    const source = `${scratch}/source`;
    for (const directory of ["small", "linear", "hashed"]) {
      Deno.mkdirSync(`${source}/${directory}`, { recursive: true });
    }
    const write = (name: string) => Deno.writeTextFileSync(`${source}/${name}`, name);
    for (const name of ["a", "b", "c"]) write(`small/${name}`);
    for (let i = 0; i < 60; i++) write(`linear/${`${i}`.padStart(40, "x")}`);
    for (let i = 0; i < 300; i++) write(`hashed/${`${i}`.padStart(40, "y")}`);
    Deno.symlinkSync("t".repeat(70), `${source}/long`);
    const image = `${scratch}/image`;
    const features = "^metadata_csum,^64bit";
    const all = ["-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, ...options];
    mustRun("mke2fs", [...all, "-d", source, image, "4M"]);
    // Directories get their index by e2fsck, which exits with 1 when it changed something.
    for (const flag of ["-fy", "-fyD"]) {
      new Deno.Command("e2fsck", { args: [flag, image] }).outputSync();
    }
    return new Victim(Deno.readFileSync(image));
  });
}

/** Where a block of a directory or a file begins. */
function blockOf(damaged: Victim, path: string, index = 0): number {
  const image = damaged.open();
  const { inode } = findInode(image, path, { followsLast: false });
  return blockRuns(image, inode)[index]!.startBlock * BLOCK_BYTES;
}

function inodeAt(damaged: Victim, path: string): number {
  return damaged.inodeOffset(findInode(damaged.open(), path, { followsLast: false }).inode.number);
}

interface Case {
  readonly what: string;
  readonly damage: (damaged: Victim) => void;
  /** How many names are left below the root. */
  readonly nameCount: number;
  /** What a warning says. */
  readonly message: RegExp;
  readonly options?: readonly string[];
  /** For what the kernel lists, but does not find. */
  readonly kernelDiffers?: true;
}

const ALL = 3 + 3 + 60 + 300 + 1;

const CASES: readonly Case[] = [
  {
    what: "a record that is too long ends its block",
    damage: (damaged) =>
      damaged.view.setUint16(blockOf(damaged, "/small") + 24 + 12 + 4, 2000, true),
    nameCount: ALL - 2,
    message: /what follows it in the block is left out/,
  },
  {
    what: "a directory without an entry for itself",
    damage: (damaged) => damaged.view.setUint32(blockOf(damaged, "/small"), 0, true),
    nameCount: ALL,
    message: /first entry, not "\."/,
  },
  {
    what: "an index of too many levels is not followed",
    damage: (damaged) => damaged.view.setUint8(blockOf(damaged, "/hashed") + INDIRECT_LEVELS, 9),
    nameCount: ALL,
    message: /9 levels/,
  },
  {
    what: "names in the wrong leaf are there",
    damage: (damaged) =>
      damaged.view.setUint32(blockOf(damaged, "/hashed") + SECOND_ENTRY, 4, true),
    nameCount: ALL,
    message: /hash of/,
    kernelDiffers: true,
  },
  {
    what: "a directory that its size cuts",
    damage: (damaged) => damaged.view.setUint32(inodeAt(damaged, "/linear") + I_SIZE, 2048, true),
    nameCount: -1,
    message: /i_size/,
    options: ["-O", "^dir_index"],
  },
  {
    what: "a directory whose size is too large",
    damage: (damaged) =>
      damaged.view.setUint32(inodeAt(damaged, "/linear") + I_SIZE, 1 << 20, true),
    nameCount: ALL,
    message: /i_size/,
    options: ["-O", "^dir_index"],
  },
  {
    what: "an attribute block whose number has a high half",
    damage: (damaged) =>
      damaged.view.setUint16(inodeAt(damaged, "/small") + I_FILE_ACL_HIGH, 2, true),
    nameCount: ALL,
    message: /i_file_acl_high/,
  },
  {
    what: "a symlink whose size is too large",
    damage: (damaged) => damaged.view.setUint32(inodeAt(damaged, "/long") + I_SIZE, 900, true),
    nameCount: ALL,
    message: /i_size of a symlink/,
  },
  {
    what: "an image of the Hurd",
    damage: (damaged) => damaged.view.setUint32(S_CREATOR_OS, 1, true),
    nameCount: ALL,
    message: /Hurd/,
  },
];

Deno.test("what the kernel reads past is read with a warning, and as the kernel shows it", async () => {
  const hasKernel = kernelOrNotice("comparing damaged images with the kernel");
  for (const each of CASES) {
    const damaged = victim(each.options);
    each.damage(damaged);
    const warnings = new Warnings();
    const image = openExt4Image(memoryReader(damaged.bytes), { warnings });
    const tree = await readTree(image, { warnings });
    const names = [
      ...listNames(image, { inode: image.inode(2), path: "" }, { recursive: true }),
    ].filter(({ path }) => path !== "/lost+found");
    if (each.nameCount >= 0) assertEquals(names.length, each.nameCount, each.what);
    const messages = warnings.list().map(({ message }) => message);
    assertEquals(messages.some((message) => each.message.test(message)), true, `${messages}`);
    if (!hasKernel || each.kernelDiffers) continue;
    withTemporaryDirectory((scratch) => {
      Deno.writeFileSync(`${scratch}/image`, damaged.bytes);
      assertKernelShows(`${scratch}/image`, tree);
    });
  }
});

Deno.test("what the kernel refuses is refused, and costs no more than itself", async () => {
  const damaged = victim();
  const image = damaged.open();
  const table = image.groupDescriptor(0).inodeTableBlock;
  const file = findInode(image, "/small/b", { followsLast: false }).inode.number;
  // Its first extent: the low half of the block behind length and high half.
  const extent = damaged.inodeOffset(file) + I_BLOCK + 12;
  damaged.view.setUint32(extent + 8, table, true);
  const linearInode = findInode(image, "/linear", { followsLast: false }).inode;
  const runs = blockRuns(image, linearInode);
  const { startBlock, blockCount } = runs.at(-1)!;
  // The first name of the last block.
  damaged.bytes[(startBlock + blockCount - 1) * BLOCK_BYTES + 8] = 0x2f;
  const faults: string[] = [];
  const warnings = new Warnings();
  const opened = openExt4Image(memoryReader(damaged.bytes), { warnings });
  const { root } = await readTree(opened, {
    warnings,
    onFault: (path, { message }) => void faults.push(`${path}: ${message}`),
  });
  const small = root.children.get("small");
  assertEquals(small?.kind === "directory" && [...small.children.keys()], ["a", "c"]);
  const linear = root.children.get("linear");
  // The names of the block with the slash are lost, those of the other blocks are not.
  assertEquals(linear?.kind === "directory" && linear.children.size > 30, true);
  assertEquals(faults.length, 2, `${faults}`);
  assertEquals(faults.some((fault) => /^\/small\/b: extent tree/.test(fault)), true, `${faults}`);
  assertEquals(
    faults.some((fault) => /^\/linear: names in it: directory/.test(fault)),
    true,
    `${faults}`,
  );
});
