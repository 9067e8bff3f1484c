import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  decodeOrphanBlock,
  encodeOrphanBlock,
  sealOrphanBlock,
  storedOrphanBlockChecksum,
  verifyOrphanBlock,
} from "../../../lib/ext4/format/orphan_file.ts";
import { fixture } from "./fixture_image.ts";

Deno.test("orphan blocks come back byte for byte, checksum included", () => {
  const image = fixture("rare-4k");
  const number = image.superblock.orphanFileInode;
  const used = image.usedInodes().find((one) => one.number === number);
  assert(used !== undefined);
  const inodeSeed = image.inodeSeed(used) ?? 0;
  const blocks = [...image.fileBlocks(used).values()];
  assert(blocks.length >= 2);
  for (const { number: blockNumber, bytes } of blocks) {
    const what = `block ${blockNumber}`;
    verifyOrphanBlock(bytes, { blockNumber, inodeSeed, what });
    const encoded = new Uint8Array(bytes.length).fill(0xaa);
    encodeOrphanBlock(encoded, decodeOrphanBlock(bytes, what));
    assertEquals(storedOrphanBlockChecksum(encoded), 0);
    sealOrphanBlock(encoded, { blockNumber, inodeSeed });
    assertEquals(encoded, bytes.slice());
    assertThrows(
      () => verifyOrphanBlock(bytes, { blockNumber: blockNumber + 1, inodeSeed, what }),
      InputError,
      `${what}: its checksum`,
    );
  }
});

Deno.test("decodeOrphanBlock gives the inodes and refuses blocks of another kind", () => {
  const block = new Uint8Array(1024);
  encodeOrphanBlock(block, [12, 0, 99]);
  assertEquals(decodeOrphanBlock(block, "block"), [12, 99]);
  assertEquals(block.subarray(1016), Uint8Array.of(0x04, 0xca, 0x10, 0x0b, 0, 0, 0, 0));
  block[1016] = 0;
  assertThrows(() => decodeOrphanBlock(block, "block"), InputError, "magic number");
});
