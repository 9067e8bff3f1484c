import { assert, assertEquals, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import {
  ChangeJournalWriter,
  readChangeJournalHeader,
  readChanges,
  RECORD_SIZE_BYTES_MAX,
} from "../../../lib/ext4/checksum/change_journal.ts";
import { InputError } from "../../../lib/errors.ts";
import { memoryReader } from "../../../lib/io/random_reader.ts";

const HEADER = {
  imageSizeBytes: 2 ** 40,
  enable: true,
  oldSuperblock: new Uint8Array(1024).fill(1),
  halfSuperblock: new Uint8Array(1024).fill(2),
  newSuperblock: new Uint8Array(1024).fill(3),
};

async function journalOf(changes: readonly (readonly [number, Uint8Array])[]): Promise<Uint8Array> {
  const bytes = new Uint8Array(4 << 20);
  let sizeBytes = 0;
  const writer = await ChangeJournalWriter.begin({
    write: (part, offset) => bytes.set(part, offset),
    finish: (size) => void (sizeBytes = size),
    abort: () => {},
  }, HEADER);
  for (const [offset, part] of changes) await writer.add(offset, part);
  await writer.commit();
  return bytes.slice(0, sizeBytes);
}

const read = (bytes: Uint8Array, imageSizeBytes = HEADER.imageSizeBytes) =>
  Array.from(
    readChanges(memoryReader(bytes), imageSizeBytes),
    ({ offsetBytes, bytes: part }) => [offsetBytes, part.slice()] as const,
  );

Deno.test("readChanges gives what ChangeJournalWriter was given, long changes in parts", async () => {
  const long = new Uint8Array(RECORD_SIZE_BYTES_MAX + 5).map((_, i) => i * 7);
  const journal = await journalOf([[2 ** 35, Uint8Array.of(1, 2, 3)], [0, long]]);
  assertEquals(readChangeJournalHeader(memoryReader(journal)), HEADER);
  const wanted = [
    [2 ** 35, Uint8Array.of(1, 2, 3)],
    [0, long.subarray(0, RECORD_SIZE_BYTES_MAX)],
    [RECORD_SIZE_BYTES_MAX, long.subarray(RECORD_SIZE_BYTES_MAX)],
  ] as const;
  const found = read(journal);
  assertEquals(found.map(([offset]) => offset), wanted.map(([offset]) => offset));
  found.forEach(([, part], i) => assert(Buffer.compare(part, wanted[i]![1]) === 0, `record ${i}`));
});

Deno.test("readChanges and readChangeJournalHeader refuse every flipped bit and every cut", async () => {
  const journal = await journalOf([[4096, Uint8Array.of(1, 2, 3)], [0, Uint8Array.of(4)]]);
  const all = (bytes: Uint8Array) => {
    const header = readChangeJournalHeader(memoryReader(bytes));
    return read(bytes, header.imageSizeBytes);
  };
  for (let bit = 0; bit < journal.length * 8; bit += bit < 400 || bit > 4096 * 8 ? 1 : 97) {
    const flipped = new Uint8Array(journal);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    assertThrows(() => all(flipped), InputError);
  }
  for (let end = 0; end < journal.length; end += end < 4000 ? 500 : 1) {
    assertThrows(() => all(journal.subarray(0, end)), InputError);
  }
  assertThrows(() => read(journal, 4098), InputError, "lies outside of the image");
});
