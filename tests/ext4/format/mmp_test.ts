import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  decodeMmpBlock,
  MMP_SEQUENCE_CLEAN,
  MMP_SIZE_BYTES,
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
