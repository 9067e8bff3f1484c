import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  decodeMmpBlock,
  MMP_SEQUENCE_CLEAN,
  MMP_SIZE_BYTES,
  sealMmpBlock,
  verifyMmpBlock,
} from "../../../lib/ext4/format/mmp.ts";
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
