import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  decodeOrphanBlock,
  sealOrphanBlock,
  storedOrphanBlockChecksum,
  verifyOrphanBlock,
} from "../../../lib/ext4/format/orphan_file.ts";
import { fixture } from "./fixture_image.ts";

Deno.test("orphan blocks of the kernel are read, and sealed as they are", () => {
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
    assertEquals(decodeOrphanBlock(bytes, what), []);
    const sealed = bytes.slice();
    sealed.fill(0xaa, sealed.length - 4);
    assertEquals(storedOrphanBlockChecksum(sealed), 0xaaaaaaaa);
    sealOrphanBlock(sealed, { blockNumber, inodeSeed });
    assertEquals(sealed, bytes.slice());
    assertThrows(
      () => verifyOrphanBlock(bytes, { blockNumber: blockNumber + 1, inodeSeed, what }),
      InputError,
      `${what}: its checksum`,
    );
  }
});

Deno.test("decodeOrphanBlock gives the inodes and refuses blocks of another kind", () => {
  const block = new Uint8Array(1024);
  block.set([12, 0, 0, 0, 0, 0, 0, 0, 99, 1]);
  block.set([0x04, 0xca, 0x10, 0x0b], 1016);
  assertEquals(decodeOrphanBlock(block, "block"), [12, 99 + 256]);
  block[1016] = 0;
  assertThrows(() => decodeOrphanBlock(block, "block"), InputError, "magic number");
});
