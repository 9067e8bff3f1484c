/**
 * Images, and damage to them that knows where their structures are.
 *
 * @module
 */
import { readFileSync, writeFileSync } from "node:fs";
import { mustRun } from "../../oracle/command.ts";
import type { Random } from "../../oracle/noise.ts";
import { FIXTURES, unpackFixture } from "../format/fixture_image.ts";
import { blessedImages } from "./blessed_images.ts";
import { metadataRegions, sealedParts } from "./damage.ts";

/** Images that neither the fixtures nor bless have. */
const MADE_WITH: Readonly<Record<string, readonly string[]>> = {
  "ext2": ["-t", "ext2", "-b", "1024"],
  "ext3": ["-t", "ext3", "-b", "1024"],
  "meta_bg": ["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"],
  "large slots": ["-t", "ext4", "-I", "1024", "-O", "inline_data,ea_inode"],
};

/** An image to be damaged. */
export interface Image {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** 20 kinds of images: the fixtures, blessed ones and those of mke2fs. */
export async function makeImages(scratch: string): Promise<Image[]> {
  const images: Image[] = FIXTURES.map((name) => ({ name, bytes: unpackFixture(name) }));
  for await (const [name, bytes] of blessedImages(scratch)) images.push({ name, bytes });
  const source = `${scratch}/source`;
  Deno.mkdirSync(`${source}/directory/below`, { recursive: true });
  for (let i = 0; i < 40; i++) writeFileSync(`${source}/directory/file-${i}`, "x".repeat(i * 97));
  Deno.symlinkSync("directory", `${source}/link`);
  for (const [name, options] of Object.entries(MADE_WITH)) {
    const path = `${scratch}/${name.replace(" ", "-")}`;
    mustRun("mke2fs", ["-q", "-F", ...options, "-d", source, path, "16M"]);
    images.push({ name, bytes: new Uint8Array(readFileSync(path)) });
  }
  return images;
}

/** Damages an image: a bit of a structure, some bytes of one, or a bit under a checksum that is made right again. */
export function mutate({ name, bytes }: Image, random: Random): { what: string; undo: () => void } {
  const isChecksummed = (bytes[1024 + 0x65]! & 4) !== 0;
  const way = random.below(isChecksummed ? 3 : 2);
  if (way === 2) {
    const part = random.pick(sealedParts(name, bytes));
    const before = bytes.slice(part.offset, part.offset + part.length);
    const at = random.below(part.length);
    bytes[part.offset + at]! ^= 1 << random.below(8);
    part.seal();
    return { what: `sealed ${part.offset}+${at}`, undo: () => bytes.set(before, part.offset) };
  }
  const regions = metadataRegions(name, bytes);
  const kind = random.pick([...new Set(regions.map((region) => region.kind))]);
  const region = random.pick(regions.filter((each) => each.kind === kind));
  const length = way === 0 ? 1 : Math.min(region.length, random.between(2, 8));
  const at = region.offset + random.below(region.length - length + 1);
  const before = bytes.slice(at, at + length);
  if (way === 0) bytes[at]! ^= 1 << random.below(8);
  else bytes.set(random.bytes(length), at);
  return { what: `${kind} ${at}x${length}`, undo: () => bytes.set(before, at) };
}
