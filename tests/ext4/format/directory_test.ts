import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { byteStringFromBytes } from "../../../lib/bytes/byte_string.ts";
import { InputError } from "../../../lib/errors.ts";
import { INODE_FLAG } from "../../../lib/ext4/format/constants.ts";
import type { DirectoryEntry } from "../../../lib/ext4/format/directory.ts";
import {
  decodeDirectoryBlock,
  decodeDirectoryEntries,
  decodeRecordLength,
  DIRECTORY_TAIL_SIZE_BYTES,
  direntSizeBytes,
  encodeDirectoryEntry,
  encodeRecordLength,
  hasDirectoryTail,
  sealDirectoryBlock,
  verifyDirectoryBlock,
} from "../../../lib/ext4/format/directory.ts";
import { fixture, fixtures } from "./fixture_image.ts";

/** Overwrites what an encoder must write: headers and names. Old names in unused room stay. */
function withoutEntries(block: Uint8Array, entries: readonly DirectoryEntry[]): Uint8Array {
  const blank = block.slice();
  let at = 0;
  for (const { name, recordLength } of entries) {
    blank.fill(0xaa, at, at + 8 + name.length);
    at += recordLength;
  }
  blank.fill(0xaa, at);
  return blank;
}

Deno.test("directory blocks come back byte for byte, checksum included", () => {
  let blockCount = 0;
  let unusedCount = 0;
  let wholeBlockCount = 0;
  for (const image of fixtures()) {
    for (const used of image.directories()) {
      const seed = image.inodeSeed(used);
      for (const { number, bytes } of image.directoryBlocks(used).leaves) {
        const what = `${image.name} block ${number}`;
        const entries = decodeDirectoryBlock(bytes, { checksummed: seed !== undefined, what });
        const encoded = withoutEntries(bytes, entries);
        let at = 0;
        for (const entry of entries) {
          encodeDirectoryEntry(encoded, at, entry);
          at += entry.recordLength;
          if (entry.inodeNumber === 0) unusedCount++;
          if (entry.recordLength === 65536) wholeBlockCount++;
        }
        if (seed !== undefined) {
          verifyDirectoryBlock(bytes, seed, what);
          sealDirectoryBlock(encoded, seed);
        }
        assertEquals(encoded, bytes.slice(), what);
        blockCount++;
      }
    }
  }
  assert(blockCount > 500 && unusedCount > 20 && wholeBlockCount >= 1);
});

Deno.test("decodeDirectoryBlock finds the names that were put there", () => {
  const image = fixture("csum-4k");
  const root = image.usedInodes().find(({ number }) => number === 2);
  assert(root !== undefined);
  const names = image.directoryBlocks(root).leaves.flatMap(({ bytes }) =>
    decodeDirectoryBlock(bytes, { checksummed: true, what: "root" })
  ).filter(({ inodeNumber }) => inodeNumber !== 0);
  const types = Object.fromEntries(names.map(({ name, fileType }) => [name, fileType]));
  const { directory, empty, short, disk, pipe } = types;
  assertEquals([types["."], directory, empty, short, types["null"], disk, pipe], [
    2,
    2,
    1,
    7,
    3,
    4,
    5,
  ]);
});

Deno.test("decodeDirectoryEntries reads inline directories behind their parent's number", () => {
  const image = fixture("rare-4k");
  const inline = image.usedInodes().filter(({ inode }) =>
    (inode.mode & 0xf000) === 0x4000 && (inode.flags & INODE_FLAG.INLINE_DATA) !== 0
  );
  const names = inline.flatMap(({ inode }) =>
    decodeDirectoryEntries(inode.blockField, { start: 4, end: 60, what: "inline directory" })
      .filter(({ inodeNumber }) => inodeNumber !== 0).map(({ name }) => name)
  );
  assertEquals(names.sort(), ["a", "small"]);
});

Deno.test("decodeDirectoryBlock reads what the kernel wrote after a deletion", () => {
  const image = fixture("kernel");
  const names = image.directories().flatMap((used) =>
    image.directoryBlocks(used).leaves.flatMap(({ bytes }) =>
      decodeDirectoryBlock(bytes, { checksummed: true, what: "block" }).map(({ name }) => name)
    )
  );
  assert(names.includes("\xc3\xa9t\xc3\xa9") && names.includes("\xff\xfe\x80"));
  assert(names.includes("z") && !names.includes("y"));
});

Deno.test("record lengths of 64 KiB blocks have their own spelling", () => {
  assertEquals(encodeRecordLength(65536), 65535);
  assertEquals(encodeRecordLength(65532), 65532);
  assertEquals(decodeRecordLength(65535, 65536), 65536);
  assertEquals(decodeRecordLength(0, 65536), 65536);
  assertEquals(decodeRecordLength(65524, 65536), 65524);
  assertEquals(decodeRecordLength(0, 32768), 0);
  assertEquals(decodeRecordLength(32768, 32768), 32768);
});

Deno.test("direntSizeBytes rounds up to 4", () => {
  assertEquals([0, 1, 4, 5, 255].map(direntSizeBytes), [8, 12, 12, 16, 264]);
});

const name = fc.uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => byteStringFromBytes(bytes.map((byte) => byte === 0 || byte === 0x2f ? 1 : byte)));

Deno.test("directory blocks survive a round trip, sealed", () => {
  const entry = fc.record({
    inodeNumber: fc.integer({ min: 0, max: 0xffffffff }),
    name,
    fileType: fc.nat(7),
    slack: fc.nat(20),
  });
  fc.assert(fc.property(fc.array(entry, { maxLength: 12 }), fc.nat(), (parts, seed) => {
    const block = new Uint8Array(8192);
    let at = 0;
    const entries = parts.map(({ slack, ...rest }) => {
      const recordLength = direntSizeBytes(rest.name.length) + 4 * slack;
      at += recordLength;
      return { ...rest, recordLength };
    });
    const room = block.length - DIRECTORY_TAIL_SIZE_BYTES - at;
    entries.push({ inodeNumber: 0, name: "", fileType: 0, recordLength: room });
    at = 0;
    for (const one of entries) {
      encodeDirectoryEntry(block, at, one);
      at += one.recordLength;
    }
    sealDirectoryBlock(block, seed);
    verifyDirectoryBlock(block, seed, "block");
    assertEquals(decodeDirectoryBlock(block, { checksummed: true, what: "block" }), entries);
  }));
});

Deno.test("encodeDirectoryEntry refuses what does not fit", () => {
  const entry = { inodeNumber: 12, recordLength: 16, name: "abcd", fileType: 1 };
  const refused: [number, Partial<DirectoryEntry>][] = [
    [0, { recordLength: 8 }],
    [0, { recordLength: 14 }],
    [0, { recordLength: 1028 }],
    [2, {}],
    [1012, {}],
    [0, { name: "x".repeat(256), recordLength: 300 }],
  ];
  for (const [offset, fields] of refused) {
    const block = new Uint8Array(1024);
    assertThrows(
      () => encodeDirectoryEntry(block, offset, { ...entry, ...fields }),
      Error,
      "Invariant",
    );
  }
});

Deno.test("the longest name fits, in a record that it just fills", () => {
  const block = new Uint8Array(1024);
  const entry = { inodeNumber: 12, recordLength: 264, name: "\xff".repeat(255), fileType: 1 };
  encodeDirectoryEntry(block, 0, entry);
  assertEquals(decodeDirectoryEntries(block, { start: 0, end: 264, what: "block" }), [entry]);
});

/** A block of one file "abc" and free room, with a checksum. */
function smallBlock(): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(1024);
  encodeDirectoryEntry(block, 0, { inodeNumber: 12, recordLength: 12, name: "abc", fileType: 1 });
  encodeDirectoryEntry(block, 12, { inodeNumber: 0, recordLength: 1000, name: "", fileType: 0 });
  sealDirectoryBlock(block, 1);
  return block;
}

Deno.test("decodeDirectoryBlock refuses damaged blocks", () => {
  const damages: [string, (view: DataView) => void][] = [
    ["the entry at 0 is 0 bytes long", (view) => view.setUint16(4, 0, true)],
    ["the entry at 0 is 8 bytes long", (view) => view.setUint16(4, 8, true)],
    ["the entry at 0 is 13 bytes long", (view) => view.setUint16(4, 13, true)],
    ["the entry at 12 is 1004 bytes long", (view) => view.setUint16(16, 1004, true)],
    ["the entry at 12 is 996 bytes long and leaves 4", (view) => view.setUint16(16, 996, true)],
    ["not a multiple of 4 from 16 to", (view) => view.setUint8(6, 5)],
    ['the entry at 0 has the name ""', (view) => view.setUint8(6, 0)],
    ['the entry at 0 has the name "a/c"', (view) => view.setUint8(9, 0x2f)],
    ['the entry at 0 has the name "a\\x00c"', (view) => view.setUint8(9, 0)],
    ["the entry at 0 has the file type 8", (view) => view.setUint8(7, 8)],
    ["it does not end with a checksum", (view) => view.setUint8(1019, 0)],
    ["it does not end with a checksum", (view) => view.setUint8(1012, 1)],
    ["it does not end with a checksum", (view) => view.setUint16(1016, 16, true)],
  ];
  for (const [message, damage] of damages) {
    const block = smallBlock();
    damage(new DataView(block.buffer));
    assertThrows(
      () => decodeDirectoryBlock(block, { checksummed: true, what: "block 9" }),
      InputError,
      message,
    );
  }
});

Deno.test("verifyDirectoryBlock refuses a changed block and another directory's", () => {
  const block = smallBlock();
  verifyDirectoryBlock(block, 1, "block 9");
  assertThrows(
    () => verifyDirectoryBlock(block, 2, "block 9"),
    InputError,
    "block 9: its checksum",
  );
  block[8] = 0x62;
  assertThrows(
    () => verifyDirectoryBlock(block, 1, "block 9"),
    InputError,
    "block 9: its checksum",
  );
  assert(hasDirectoryTail(block) && !hasDirectoryTail(new Uint8Array(1024)));
  assert(!hasDirectoryTail(new Uint8Array(4)));
});

Deno.test("decodeDirectoryBlock never fails on bytes that it does not know but with InputError", () => {
  const header = fc.record({ length: fc.nat(70), nameLength: fc.nat(255), bytes: fc.uint8Array() });
  fc.assert(fc.property(fc.array(header), fc.boolean(), (headers, checksummed) => {
    const block = new Uint8Array(1024);
    let at = 0;
    for (const { length, nameLength, bytes } of headers) {
      block.set([1, 0, 0, 0, length * 4, 0, nameLength, 1, ...bytes].slice(0, 1024 - at), at);
      at = Math.min(at + length * 4, 1000);
    }
    if (checksummed) sealDirectoryBlock(block, 0);
    try {
      decodeDirectoryBlock(block, { checksummed, what: "block" });
    } catch (error) {
      assert(error instanceof InputError, String(error));
    }
  }));
});
