import { assert, assertEquals, assertThrows } from "@std/assert";
import { crc32c } from "../../../lib/bytes/crc32c.ts";
import { InputError } from "../../../lib/errors.ts";
import { bitmapChecksum } from "../../../lib/ext4/format/group_descriptor.ts";
import {
  checkChecksum,
  CRC32C_START,
  filesystemSeed,
  inodeSeed,
} from "../../../lib/ext4/format/checksum.ts";
import { encodeDirectoryEntry, sealDirectoryBlock } from "../../../lib/ext4/format/directory.ts";
import { fixture } from "./fixture_image.ts";

/** 12345678-1234-1234-1234-123456789abc, as in all fixtures. */
const SEED = 0x94361cb2;

Deno.test("crc32c is CRC-32C without the final inversion", () => {
  assertEquals(crc32c(CRC32C_START, new TextEncoder().encode("123456789")), 0x1cf96d7c);
});

Deno.test("filesystemSeed and inodeSeed match the published vectors", () => {
  assertEquals(filesystemSeed(fixture("csum-4k").superblock.uuid), SEED);
  assertEquals(inodeSeed(SEED, 12, 0), 0x16fbffac);
});

Deno.test("inodeSeed takes inode numbers and generations over 2^31", () => {
  const key = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x89, 0xab, 0xcd, 0xef);
  assertEquals(inodeSeed(SEED, 0xffffffff, 0xefcdab89), crc32c(SEED, key));
});

Deno.test("bitmapChecksum matches the published vectors", () => {
  assertEquals(bitmapChecksum(SEED, new Uint8Array(4096).fill(0xff), 4096), 0xe8c090ee);
  assertEquals(bitmapChecksum(SEED, new Uint8Array(4096), 4096), 0x55f82f74);
});

Deno.test("sealDirectoryBlock matches the published vector", () => {
  const block = new Uint8Array(4096);
  const dot = { inodeNumber: 2, recordLength: 12, name: ".", fileType: 2 };
  encodeDirectoryEntry(block, 0, dot);
  encodeDirectoryEntry(block, 12, { ...dot, recordLength: 4072, name: ".." });
  sealDirectoryBlock(block, inodeSeed(SEED, 2, 0));
  assertEquals(new DataView(block.buffer).getUint32(4092, true), 0x2481e4d6);
  assertEquals(block.subarray(4084, 4092), Uint8Array.of(0, 0, 0, 0, 12, 0, 0, 0xde));
});

Deno.test("checkChecksum names the structure, the value found and the one wanted", () => {
  checkChecksum("block 7", 5, 5);
  const error = assertThrows(() => checkChecksum("block 7", 0xab, 0xffffffff), InputError);
  assertEquals(error.message, "block 7: its checksum is 0x00ab, not 0xffffffff");
  assert(error.data.actual === 0xab && error.data.expected === 0xffffffff);
});
