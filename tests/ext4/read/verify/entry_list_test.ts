import { assertEquals } from "@std/assert";
import { littleEndianWords } from "../../../../lib/bytes/words.ts";
import {
  decodeDirectoryEntries,
  direntSizeBytes,
  encodeDirectoryEntry,
} from "../../../../lib/ext4/format/directory.ts";
import { EntryList } from "../../../../lib/ext4/read/verify/entry_list.ts";

const SIZE_BYTES = 512;

/** A block with entries of these names, behind which the last one takes all room. */
function blockOf(names: readonly string[]): Uint8Array {
  const bytes = new Uint8Array(SIZE_BYTES);
  let at = 0;
  for (const [i, name] of names.entries()) {
    const isLast = i === names.length - 1;
    const recordLength = isLast ? SIZE_BYTES - at : Math.max(12, direntSizeBytes(name.length));
    encodeDirectoryEntry(bytes, at, { inodeNumber: 11 + i, recordLength, name, fileType: 1 });
    at += recordLength;
  }
  return bytes;
}

function listOf(bytes: Uint8Array, dotCount = 0): EntryList | undefined {
  const list = new EntryList(bytes.length);
  const words = littleEndianWords(bytes);
  const range = { bytes, words, firstWord: 0, start: 0, end: bytes.length, dotCount };
  return list.read(range) ? list : undefined;
}

function isAccepted(bytes: Uint8Array): boolean {
  try {
    decodeDirectoryEntries(bytes, { start: 0, end: bytes.length, what: "block" });
    return true;
  } catch {
    return false;
  }
}

Deno.test("EntryList reads what decodeDirectoryEntries reads, and refuses what it refuses", () => {
  const block = blockOf([".", "..", "bin", "a-much-longer-name", "etc", "usr"]);
  let state = 7;
  let refusedCount = 0;
  for (let round = 0; round < 4000; round++) {
    const bytes = block.slice();
    for (let i = 0; i < round % 4; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      bytes[(state >>> 8) % 120] = state >>> 24 & (round % 3 === 0 ? 0x0f : 0xff);
    }
    const list = listOf(bytes);
    assertEquals(list !== undefined, isAccepted(bytes));
    if (list === undefined) {
      refusedCount++;
      continue;
    }
    const wanted = decodeDirectoryEntries(bytes, { start: 0, end: bytes.length, what: "block" });
    const found = Array.from({ length: list.count }, (_, i) => ({
      inodeNumber: list.inodeAt(i),
      recordLength: (i + 1 < list.count ? list.offsetAt(i + 1) : bytes.length) - list.offsetAt(i),
      name: list.nameAt(i),
      fileType: list.fileTypeAt(i),
    }));
    assertEquals(found, wanted);
  }
  assertEquals(refusedCount > 500 && refusedCount < 3000, true, `${refusedCount}`);
});

Deno.test("EntryList says up to where names ascend, and so differ", () => {
  const cases: [names: string[], dotCount: number, firstUnordered: number][] = [
    [[".", "..", "bin", "etc", "usr"], 2, 5],
    [[".", "..", "bin", "etc", "etc"], 2, 4],
    [[".", "..", "bin", "etcetera", "etc", "zz"], 2, 4],
    [["a", "aa", "ab", "b", "\xff"], 0, 5],
    [["a", "."], 0, 1],
    [[".", "..", ".", "x"], 2, 2],
    [["..", "x"], 0, 0],
    [[".hidden", "x"], 0, 0],
  ];
  for (const [names, dotCount, firstUnordered] of cases) {
    assertEquals(listOf(blockOf(names), dotCount)?.firstUnordered, firstUnordered, names.join());
  }
});
