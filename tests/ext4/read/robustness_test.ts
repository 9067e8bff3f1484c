import { assertEquals } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  INODE_FLAG,
  RO_COMPAT,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../../lib/ext4/format/constants.ts";
import { isFastSymlink } from "../../../lib/ext4/volume/content.ts";
import { type Ext4Image, openExt4Image } from "../../../lib/ext4/read/image.ts";
import { inspectImage, inspectInode } from "../../../lib/ext4/read/inspect.ts";
import { findInode, listNames, readDirectory } from "../../../lib/ext4/read/directory.ts";
import { blockRuns } from "../../../lib/ext4/read/content.ts";
import { readTree } from "../../../lib/ext4/read/tree.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";
import { Warnings } from "../../../lib/warnings.ts";
import { Random } from "../../oracle/noise.ts";
import { unpackFixture } from "../format/fixture_image.ts";
import { victimOfMke2fs } from "./read_image.ts";

/** How many damaged images one run reads. */
const TRIAL_COUNT = Number(Deno.env.get("EXT4_SMASHES") ?? "600");
const FIRST_SEED = Number(Deno.env.get("EXT4_SMASH_SEED") ?? "1");
const INODE_FLAGS_OFFSET = 0x20;
const FEATURE_RO_COMPAT_OFFSET = SUPERBLOCK_OFFSET_BYTES + 0x64;

/** What no fixture has: block pointers, with and without checksums elsewhere, and meta_bg. */
const MADE_WITH: Readonly<Record<string, readonly string[]>> = {
  "ext2": ["-t", "ext2", "-b", "1024"],
  "block pointers": ["-t", "ext4", "-b", "1024", "-O", "^extent,^64bit"],
  "meta_bg": ["-t", "ext4", "-b", "1024", "-g", "512", "-O", "meta_bg,^resize_inode"],
};

/** A stretch of an image that holds a structure. */
interface Place {
  readonly what: string;
  readonly offset: number;
  readonly length: number;
}

/** An image with its checksums, or without: then every wrong number gets as far as it can. */
interface Victim {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly places: ReadonlyMap<string, readonly Place[]>;
}

Deno.test("images with bytes smashed into their metadata are read or refused, never more", async () => {
  const victims = makeVictims();
  const outcomes = { read: 0, refused: 0 };
  for (let seed = FIRST_SEED; seed < FIRST_SEED + TRIAL_COUNT; seed++) {
    const random = new Random(seed);
    const victim = random.pick(victims);
    const before: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
    for (let i = random.pick([1, 1, 1, 2, 3]); i > 0; i--) {
      before.push(smash(victim, random));
    }
    try {
      outcomes[await attempt(victim.bytes)]++;
      refusable(() => lookAt(victim.bytes, random));
    } catch (cause) {
      throw new Error(`EXT4_SMASH_SEED=${seed} EXT4_SMASHES=1, ${victim.name}`, { cause });
    }
    for (const { offset, bytes } of before.reverse()) victim.bytes.set(bytes, offset);
  }
  for (const victim of victims) assertEquals(await attempt(victim.bytes), "read", victim.name);
  // Both must happen, or nothing was tried.
  if (TRIAL_COUNT >= 100) assertEquals(outcomes.read > 0 && outcomes.refused > 0, true);
});

Deno.test("an image that is cut short anywhere is refused", async () => {
  const random = new Random(7);
  for (const name of ["plain-4k", "csum-1k", "mmp"]) {
    const bytes = unpackFixture(name);
    const cuts = [0, 1, 1023, 1024, 2047, 2048, 4096, bytes.length - 1];
    for (let i = 0; i < 20; i++) cuts.push(random.below(bytes.length));
    for (const cut of cuts) assertEquals(await attempt(bytes.subarray(0, cut)), "refused");
  }
});

/** Reads everything there is to an image, the bytes of all files included. */
async function attempt(bytes: Uint8Array): Promise<"read" | "refused"> {
  try {
    const warnings = new Warnings();
    const image = openExt4Image(memoryReader(bytes), { warnings });
    await readTree(image, { warnings, scanContent: true, lostAndFound: "keep" });
    return "read";
  } catch (error) {
    if (error instanceof InputError) return "refused";
    throw error;
  }
}

/** What `ls` and `inspect` do, which go on after much that a tree does not. */
function lookAt(bytes: Uint8Array, random: Random): void {
  const reader = memoryReader(bytes);
  refusable(() => {
    for (const _ of inspectImage(reader).groups());
  });
  const image = openExt4Image(reader, { warnings: new Warnings() });
  for (const inodeNumber of [2, 8, 11, 12, random.between(1, 64)]) {
    refusable(() => inspectInode(image, inodeNumber, { maxRunCount: 5 }));
  }
  const root = findInode(image, "/", { followsLast: true });
  for (const _ of listNames(image, root, { recursive: true }));
}

function refusable(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
}

function makeVictims(): Victim[] {
  const names = ["csum-1k", "csum-4k", "gdt-csum-1k", "plain-4k", "plain-64k", "rare-4k", "kernel"];
  const images = names.map((
    name,
  ): [string, Uint8Array<ArrayBuffer>] => [name, unpackFixture(name)]);
  const files = { file: new Random(1).bytes(600_000), other: new Random(2).bytes(20_000) };
  for (const [name, options] of Object.entries(MADE_WITH)) {
    images.push([name, victimOfMke2fs(options, files).bytes]);
  }
  return images.flatMap(([name, bytes]) => {
    const places = findPlaces(bytes);
    const bare = withoutChecksums(bytes, places.get("inode")!);
    const victims = [{ name, bytes, places }];
    return bare ? [...victims, { name: `${name}, bare`, bytes: bare, places }] : victims;
  });
}

/** Undefined where there are none. Directories are not indexed any more: the limits in indexes would be others. */
function withoutChecksums(bytes: Uint8Array, inodes: readonly Place[]): Uint8Array | undefined {
  const bare = bytes.slice();
  const view = new DataView(bare.buffer);
  const features = view.getUint32(FEATURE_RO_COMPAT_OFFSET, true);
  const checksums = RO_COMPAT.METADATA_CSUM | RO_COMPAT.GDT_CSUM;
  if ((features & checksums) === 0) return undefined;
  view.setUint32(FEATURE_RO_COMPAT_OFFSET, (features & ~checksums) >>> 0, true);
  for (const { offset } of inodes) {
    const at = offset + INODE_FLAGS_OFFSET;
    view.setUint32(at, (view.getUint32(at, true) & ~INODE_FLAG.INDEX) >>> 0, true);
  }
  return bare;
}

/** Everything that the reader comes by, by kinds, so that each kind is as likely. */
function findPlaces(bytes: Uint8Array): Map<string, Place[]> {
  const image = openExt4Image(memoryReader(bytes), { warnings: new Warnings() });
  const places = new Map<string, Place[]>();
  const add = (what: string, offset: number, length: number): void => {
    const known = places.get(what) ?? [];
    known.push({ what, offset, length });
    places.set(what, known);
  };
  const { blockSizeBytes, groupCount, descriptorSizeBytes, inodeSizeBytes } = image.geometry;
  add("superblock", SUPERBLOCK_OFFSET_BYTES, 0x290);
  for (let group = 0; group < groupCount; group++) {
    const block = image.descriptorBlock(Math.floor(group / image.descriptorsPerBlock));
    const at = (group % image.descriptorsPerBlock) * descriptorSizeBytes;
    add("descriptor", block * blockSizeBytes + at, descriptorSizeBytes);
  }
  for (const { number, kind, xattrBlock } of usedInodes(image)) {
    const offset = image.inodeOffset(number);
    add("inode", offset, inodeSizeBytes);
    add("block field", offset + 0x28, 60);
    if (inodeSizeBytes > 160) add("attributes in inode", offset + 160, inodeSizeBytes - 160);
    if (xattrBlock !== 0) add("attribute block", xattrBlock * blockSizeBytes, 400);
    if (xattrBlock !== 0) add("values", (xattrBlock + 1) * blockSizeBytes - 400, 400);
    const inode = image.inode(number);
    if ((kind !== "file" && kind !== "directory" && kind !== "symlink")) continue;
    if (kind === "symlink" && isFastSymlink(inode.view)) continue;
    const onMapBlock = (block: { readonly blockNumber: number }) =>
      add("map block", block.blockNumber * blockSizeBytes, blockSizeBytes);
    for (const { startBlock, blockCount } of blockRuns(image, inode, { onMapBlock })) {
      if (kind !== "directory") continue;
      for (let i = 0; i < blockCount; i++) {
        add("directory block", (startBlock + i) * blockSizeBytes, blockSizeBytes);
        add("directory head", (startBlock + i) * blockSizeBytes, 64);
      }
    }
  }
  return places;
}

function* usedInodes(image: Ext4Image) {
  const seen = new Set<number>([2]);
  for (const number of seen) {
    const { kind, record: { xattrBlock } } = image.inode(number);
    yield { number, kind, xattrBlock };
    if (kind !== "directory") continue;
    for (const { inodeNumber } of readDirectory(image, image.inode(number)).names) {
      seen.add(inodeNumber);
    }
  }
}

const ODD_NUMBERS = [0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0xffff, 0x10000, 11, 12, 4096];

/** Puts something else into a random place; returns what was there. */
function smash(victim: Victim, random: Random): { offset: number; bytes: Uint8Array } {
  const { bytes, places } = victim;
  const kind = random.pick([...places.keys()]);
  const place = random.pick(places.get(kind)!);
  const length = Math.min(random.pick([1, 1, 2, 4, 4, 4, 8, 60, 300]), place.length);
  const room = place.length - length;
  const offset = place.offset + Math.floor(random.below(room + 1) / length) * length;
  const before = bytes.slice(offset, offset + length);
  const target = bytes.subarray(offset, offset + length);
  if (length === 4 && random.chance(0.7)) {
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, random.pick(ODD_NUMBERS), true);
  } else if (length <= 2 && random.chance(0.5)) {
    target[0]! ^= 1 << random.below(8);
  } else if (random.chance(0.1)) {
    // A structure in the place of another.
    const other = random.pick(places.get(kind)!);
    target.set(bytes.slice(other.offset, other.offset + length));
  } else {
    target.set(random.bytes(length));
  }
  return { offset, bytes: before };
}
