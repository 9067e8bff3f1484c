import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  decodeMmpBlock,
  decodeOrphanBlock,
  MMP_SEQUENCE_CLEAN,
  MMP_SIZE_BYTES,
  sealMmpBlock,
  sealOrphanBlock,
  storedOrphanBlockChecksum,
  verifyMmpBlock,
  verifyOrphanBlock,
} from "../../../lib/ext4/format/special_blocks.ts";
import { fixture } from "./fixture_image.ts";

Deno.test("decodeMmpBlock and verifyMmpBlock read what mke2fs wrote", () => {
  const image = fixture("mmp");
  const bytes = image.block(image.superblock.mmpBlock).subarray(0, MMP_SIZE_BYTES);
  verifyMmpBlock(bytes, image.anySeed, "MMP block");
  const block = decodeMmpBlock(bytes, "MMP block");
  assertEquals(block.sequence, MMP_SEQUENCE_CLEAN);
  assertEquals(new TextDecoder().decode(block.nodeName), "fixture");
  assertEquals(new TextDecoder().decode(block.deviceName), "mmp.img");
  assertEquals(block.checkIntervalSeconds, 5);
});

Deno.test("damaged MMP blocks are refused", () => {
  const image = fixture("mmp");
  const bytes = image.block(image.superblock.mmpBlock).slice(0, MMP_SIZE_BYTES);
  bytes[200] = 1;
  assertThrows(() => verifyMmpBlock(bytes, image.anySeed, "MMP block"), InputError, "its checksum");
  bytes[0] = 0;
  assertThrows(() => decodeMmpBlock(bytes, "MMP block"), InputError, "magic number");
});

Deno.test("sealMmpBlock writes the checksum that is verified, and takes it away", () => {
  const block = new Uint8Array(MMP_SIZE_BYTES).fill(3);
  sealMmpBlock(block, 8);
  verifyMmpBlock(block, 8, "block");
  sealMmpBlock(block, undefined);
  assertEquals([...block.subarray(0x3fc)], [0, 0, 0, 0]);
});

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
