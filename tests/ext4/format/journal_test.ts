import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { COMPAT } from "../../../lib/ext4/format/constants.ts";
import {
  decodeJournalSuperblock,
  encodeJournalSuperblock,
  hasJournalChecksum,
  JOURNAL_INCOMPAT,
  journalSuperblockChecksum,
} from "../../../lib/ext4/format/journal.ts";
import { fixture, type FixtureImage, fixtures } from "./fixture_image.ts";

/** The first 1024 bytes of an image's journal. */
function journalSuperblock(image: FixtureImage): Uint8Array {
  const number = image.superblock.journalInode;
  const used = image.usedInodes().find((one) => one.number === number);
  assert(used !== undefined);
  const block = image.fileBlocks(used).get(0);
  assert(block !== undefined);
  return block.bytes.subarray(0, 1024);
}

Deno.test("journal superblocks come back byte for byte, the kernel's checksum included", () => {
  let checksummedCount = 0;
  for (const image of fixtures()) {
    if ((image.superblock.featureCompat & COMPAT.HAS_JOURNAL) === 0) continue;
    const bytes = journalSuperblock(image);
    const journal = decodeJournalSuperblock(bytes);
    assertEquals(encodeJournalSuperblock(journal), bytes.slice(), image.name);
    if (hasJournalChecksum(journal.featureIncompat)) checksummedCount++;
  }
  assertEquals(checksummedCount, 1);
});

Deno.test("encodeJournalSuperblock makes by default just what mke2fs makes", () => {
  const image = fixture("csum-4k");
  const encoded = encodeJournalSuperblock({
    blockSizeBytes: 4096,
    blockCount: 1024,
    uuid: image.superblock.uuid,
  });
  assertEquals(encoded, journalSuperblock(image).slice());
});

Deno.test("a journal superblock of version 1 has no features", () => {
  const bytes = journalSuperblock(fixture("kernel")).slice();
  new DataView(bytes.buffer).setUint32(4, 3);
  const { featureIncompat, featureCompat, featureRoCompat } = decodeJournalSuperblock(bytes);
  assertEquals([featureIncompat, featureCompat, featureRoCompat], [0, 0, 0]);
});

Deno.test("decodeJournalSuperblock refuses another kind of block and wrong checksums", () => {
  const good = journalSuperblock(fixture("kernel"));
  const journal = decodeJournalSuperblock(good);
  assert((journal.featureIncompat & JOURNAL_INCOMPAT.CSUM_V3) !== 0);
  assertEquals(
    new DataView(good.buffer, good.byteOffset).getUint32(0xfc),
    journalSuperblockChecksum(good),
  );
  const damages: [string, (view: DataView) => void][] = [
    ["magic 0xc03b3999 and block type 4", (view) => view.setUint32(0, 0xc03b3999)],
    ["block type 5", (view) => view.setUint32(4, 5)],
    ["checksum type is 1", (view) => view.setUint8(0x50, 1)],
    ["its checksum is 0x", (view) => view.setUint8(0x300, 1)],
    ["its checksum is 0x", (view) => view.setUint8(0xfc, view.getUint8(0xfc) ^ 1)],
  ];
  for (const [message, damage] of damages) {
    const bytes = good.slice();
    damage(new DataView(bytes.buffer));
    assertThrows(() => decodeJournalSuperblock(bytes), InputError, message);
  }
});

Deno.test("encodeJournalSuperblock fills in the checksum exactly with CSUM_V2 or CSUM_V3", () => {
  const basic = { blockSizeBytes: 1024, blockCount: 2048, uuid: new Uint8Array(16).fill(9) };
  for (const featureIncompat of [JOURNAL_INCOMPAT.CSUM_V2, JOURNAL_INCOMPAT.CSUM_V3]) {
    const journal = decodeJournalSuperblock(encodeJournalSuperblock({ ...basic, featureIncompat }));
    assertEquals(journal.checksumType, 4);
  }
  const plain = encodeJournalSuperblock({ ...basic, featureIncompat: JOURNAL_INCOMPAT.REVOKE });
  assertEquals(plain.subarray(0x50), new Uint8Array(1024 - 0x50));
});

Deno.test("fields of a journal superblock are where struct journal_superblock_s has them", () => {
  const bytes = encodeJournalSuperblock({
    blockSizeBytes: 1,
    blockCount: 2,
    firstBlock: 3,
    sequence: 4,
    startBlock: 5,
    errorNumber: 6,
    featureCompat: 7,
    featureIncompat: 1,
    featureRoCompat: 9,
    uuid: new Uint8Array(16).fill(10),
    userCount: 11,
    dynamicSuperblock: 12,
    transactionBlocksMax: 13,
    transactionDataBlocksMax: 14,
    checksumType: 15,
    fastCommitBlocks: 16,
    headBlock: 17,
  });
  const words = Array.from({ length: 24 }, (_, i) => new DataView(bytes.buffer).getUint32(4 * i));
  const uuid = Array(4).fill(0x0a0a0a0a);
  const head = [0xc03b3998, 4, 0, 1, 2, 3, 4, 5, 6, 7, 1, 9, ...uuid, 11, 12, 13, 14];
  assertEquals(words, [...head, 15 * 2 ** 24, 16, 17, 0]);
});

Deno.test("every field of a journal superblock survives a round trip", () => {
  const numbers = {
    blockSizeBytes: 4096,
    blockCount: 5000,
    firstBlock: 2,
    sequence: 0xfffffffe,
    startBlock: 3,
    errorNumber: 0xffffffff,
    featureCompat: 1,
    featureIncompat: 0x33,
    featureRoCompat: 4,
    userCount: 5,
    dynamicSuperblock: 6,
    transactionBlocksMax: 7,
    transactionDataBlocksMax: 8,
    checksumType: 4,
    fastCommitBlocks: 9,
    headBlock: 10,
  };
  const journal = { ...numbers, uuid: Uint8Array.from({ length: 16 }, (_, i) => i) };
  assertEquals(decodeJournalSuperblock(encodeJournalSuperblock(journal)), journal);
});
