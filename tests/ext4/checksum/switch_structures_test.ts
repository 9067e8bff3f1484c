import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import { switchIndexBlock, switchLeaf } from "../../../lib/ext4/checksum/switch_structures.ts";
import {
  decodeDirectoryBlock,
  encodeDirectoryEntry,
  verifyDirectoryBlock,
} from "../../../lib/ext4/format/directory.ts";
import {
  DX_NODE_COUNT_OFFSET,
  encodeDxNode,
  verifyDxBlock,
} from "../../../lib/ext4/format/htree.ts";

const what = "block";
const on = { enable: true, inodeSeed: 5, what };
const off = { ...on, enable: false };

function leafOf(size: number, lastRecord: number, name: string, inodeNumber = 12): Uint8Array {
  const block = new Uint8Array(size);
  const first = size - lastRecord;
  if (first > 0) {
    const entry = { inodeNumber: 11, recordLength: first, name: "first", fileType: 1 };
    encodeDirectoryEntry(block, 0, entry);
  }
  const last = { inodeNumber, recordLength: lastRecord, name, fileType: 1 };
  encodeDirectoryEntry(block, first, last);
  return block;
}

Deno.test("switchLeaf takes 12 bytes off the last record and gives them back", () => {
  for (const size of [1024, 4096, 65536]) {
    for (const block of [leafOf(size, size, "x"), leafOf(size, 40, "a-name-of-20-bytes--")]) {
      const before = block.slice();
      assert(switchLeaf(block, on));
      verifyDirectoryBlock(block, 5, what);
      assert(switchLeaf(block, off));
      assertEquals(block, before);
    }
  }
});

Deno.test("switchLeaf says when there is no room and changes nothing", () => {
  const cases: [lastRecord: number, name: string, inodeNumber: number, fits: boolean][] = [
    [24, "abcd", 12, true],
    [20, "abcd", 12, false],
    [24, "abcde", 12, false],
    [28, "abcde", 12, true],
    // An unused record may be cut to its header.
    [24, "long-name-1234", 0, true],
    [20, "", 0, false],
    // Already as long as the checksum's own.
    [12, "", 0, true],
    [12, "abcd", 12, false],
  ];
  for (const [lastRecord, name, inodeNumber, fits] of cases) {
    const block = leafOf(1024, Math.max(lastRecord, 24), name, inodeNumber);
    const start = 1024 - lastRecord;
    if (lastRecord < 24 || name.startsWith("long")) {
      block.fill(0);
      encodeDirectoryEntry(block, 0, {
        inodeNumber: 11,
        recordLength: start,
        name: "first",
        fileType: 1,
      });
      new DataView(block.buffer).setUint32(start, inodeNumber, true);
      new DataView(block.buffer).setUint16(start + 4, lastRecord, true);
      block[start + 6] = name.length;
      for (let i = 0; i < name.length && start + 8 + i < 1024; i++) {
        block[start + 8 + i] = name.charCodeAt(i);
      }
    }
    const before = block.slice();
    assertEquals(switchLeaf(block, on), fits, `${lastRecord} ${name} ${inodeNumber}`);
    if (!fits) assertEquals(block, before);
    else assert(decodeDirectoryBlock(block, { checksummed: true, what }).length > 0);
  }
});

Deno.test("switchLeaf checks a checksum before it takes it away", () => {
  const block = leafOf(1024, 1024, "x");
  switchLeaf(block, on);
  block[8]! ^= 1;
  assertThrows(() => switchLeaf(block, off), InputError, "its checksum is");
});

Deno.test("switchIndexBlock moves the limit, and has no room when all places are taken", () => {
  for (const count of [1, 126, 127]) {
    const block = new Uint8Array(1024);
    const entries = Array.from({ length: count }, (_, i) => ({ hash: i * 4, block: i + 1 }));
    encodeDxNode(block, { entries, checksummed: false });
    const before = block.slice();
    const isSwitched = switchIndexBlock(block, DX_NODE_COUNT_OFFSET, on);
    if (count === 127) {
      assertEquals(isSwitched, false);
      assertEquals(block, before);
      continue;
    }
    assertEquals(isSwitched, true);
    verifyDxBlock(block, { countOffset: DX_NODE_COUNT_OFFSET, inodeSeed: 5, what });
    assertEquals(switchIndexBlock(block, DX_NODE_COUNT_OFFSET, off), true);
    assertEquals(block, before);
  }
});
