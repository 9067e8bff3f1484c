/**
 * Volumes of fixtures, for the tests of the walkers.
 *
 * @module
 */
import { imageGeometry } from "../../../lib/ext4/volume/superblock.ts";
import { Findings, type Judge } from "../../../lib/ext4/volume/judge.ts";
import { Volume } from "../../../lib/ext4/volume/volume.ts";
import { memoryReader, type RandomReader } from "../../../lib/io/random_reader.ts";
import { decodeSuperblock, type Superblock } from "../../../lib/ext4/format/superblock.ts";
import { fixture } from "../format/fixture_image.ts";

/** A volume over bytes of an image, whose faults are collected unless another judge is given. */
export function volumeOfBytes(
  bytes: Uint8Array,
  judge: Judge = new Findings(100),
  reader: RandomReader = memoryReader(bytes),
): Volume {
  const superblock = decodeSuperblock(bytes.subarray(1024, 2048));
  return new Volume(reader, { superblock, geometry: imageGeometry(superblock), judge });
}

/** A volume over a fixture, with some fields of its superblock changed. */
export function volumeOf(name: string, changes: Partial<Superblock> = {}): Volume {
  const { bytes, superblock: found } = fixture(name);
  const superblock = { ...found, ...changes };
  const geometry = imageGeometry(superblock);
  return new Volume(memoryReader(bytes), { superblock, geometry, judge: new Findings(100) });
}
