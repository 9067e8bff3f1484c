import { assert, assertEquals, assertThrows } from "@std/assert";
import { memoryReader, type RandomReader, readAhead } from "../../lib/io/random_reader.ts";
import { IoError } from "../../lib/errors.ts";

function pattern(sizeBytes: number): Uint8Array {
  return Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 31 + (i >>> 8)) & 0xff);
}

/** A reader that counts what is asked of it. */
function counted(bytes: Uint8Array): { reader: RandomReader; calls: number[] } {
  const calls: number[] = [];
  const inner = memoryReader(bytes);
  const readAt = (target: Uint8Array, position: number) => {
    calls.push(target.length);
    return inner.readAt(target, position);
  };
  return { reader: { ...inner, readAt }, calls };
}

Deno.test("readAhead turns small reads in a row, with headers in between, into few", () => {
  const bytes = pattern(1 << 20);
  const { reader, calls } = counted(bytes);
  const ahead = readAhead(reader);
  const target = new Uint8Array(700);
  let reads = 0;
  for (let at = 512; at + target.length <= bytes.length; at += 1536) {
    assertEquals(ahead.readAt(target, at), target.length);
    assertEquals(target, bytes.subarray(at, at + target.length));
    reads++;
  }
  assert(reads > 600);
  assert(calls.length < 10, `${calls.length} calls`);
});

Deno.test("readAhead turns small reads that stay near one another into few, in any order", () => {
  const bytes = pattern(1 << 20);
  const target = new Uint8Array(700);
  const indexes = Array.from({ length: 600 }, (_, i) => i);
  const backwards = indexes.toReversed();
  const mixedIn50s = indexes.map((i) => i - i % 50 + (i * 37) % 50);
  for (const order of [backwards, mixedIn50s]) {
    const { reader, calls } = counted(bytes);
    const ahead = readAhead(reader);
    for (const at of order.map((index) => index * 1536 + 512)) {
      assertEquals(ahead.readAt(target, at), target.length);
      assertEquals(target, bytes.subarray(at, at + target.length));
    }
    assert(calls.length < 100, `${calls.length} calls`);
  }
});

Deno.test("readAhead reads no window from a place that can no longer be read", () => {
  const bytes = pattern(1 << 20);
  const inner = memoryReader(bytes);
  const [released, target] = [600_000, new Uint8Array(700)];
  const ahead = readAhead({
    ...inner,
    readAt: (buffer, position) => position < released ? 0 : inner.readAt(buffer, position),
  });
  for (let at = released + 100_000; at >= released; at -= 1000) {
    assertEquals(ahead.readAt(target, at), target.length);
    assertEquals(target, bytes.subarray(at, at + target.length));
  }
});

Deno.test("readAhead asks for no more than it is asked for when reads jump about or are large", () => {
  const bytes = pattern(1 << 20);
  const { reader, calls } = counted(bytes);
  const ahead = readAhead(reader);
  const small = new Uint8Array(100);
  for (const at of [900_000, 10, 500_000, 4, 300_000]) {
    assertEquals(ahead.readAt(small, at), 100);
    assertEquals(small, bytes.subarray(at, at + 100));
  }
  const large = new Uint8Array(100_000);
  for (const at of [0, 100_000, 200_000]) {
    assertEquals(ahead.readAt(large, at), large.length);
    assertEquals(large, bytes.subarray(at, at + large.length));
  }
  assertEquals(calls, [100, 100, 100, 100, 100, 100_000, 100_000, 100_000]);
});

Deno.test("readAhead returns at the end what its reader returns there", () => {
  const bytes = pattern(5000);
  const ahead = readAhead(memoryReader(bytes));
  const target = new Uint8Array(1000);
  for (let at = 0; at < 5000; at += 900) {
    const count = Math.min(1000, 5000 - at);
    assertEquals(ahead.readAt(target, at), count);
    assertEquals(target.subarray(0, count), bytes.subarray(at, at + count));
  }
  assertEquals(ahead.readAt(target, 5000), 0);
  assertEquals(ahead.readAt(target, 5001), 0);
});

Deno.test("readAhead passes errors on, and keeps nothing of a read that failed", () => {
  const bytes = pattern(4000);
  const inner = memoryReader(bytes);
  let isBroken = false;
  const ahead = readAhead({
    ...inner,
    readAt(target, position) {
      if (!isBroken) return inner.readAt(target, position);
      target.fill(0xee);
      throw new IoError("disk", "is broken");
    },
  });
  const target = new Uint8Array(10);
  ahead.readAt(target, 0);
  isBroken = true;
  assertThrows(() => ahead.readAt(target, 10), IoError);
  isBroken = false;
  assertEquals(ahead.readAt(target, 10), 10);
  assertEquals(target, bytes.subarray(10, 20));
});
