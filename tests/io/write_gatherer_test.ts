import { assertEquals, assertLessOrEqual, assertThrows } from "@std/assert";
import { WriteGatherer } from "../../lib/io/write_gatherer.ts";

/** A gatherer with small pieces, and copies of what it passed on. */
function setUp(pieceBytes = 8) {
  const emitted: [offset: number, bytes: number[]][] = [];
  const gatherer = new WriteGatherer(
    (bytes, offset) => emitted.push([offset, [...bytes]]),
    pieceBytes,
  );
  return { emitted, gatherer };
}

Deno.test("WriteGatherer joins what is adjacent and parts at a gap", () => {
  const { emitted, gatherer } = setUp();
  gatherer.write(Uint8Array.of(1, 2), 0);
  gatherer.write(Uint8Array.of(3), 2);
  gatherer.write(Uint8Array.of(4), 5);
  assertEquals(emitted, [[0, [1, 2, 3]]]);
  gatherer.flush();
  gatherer.flush();
  assertEquals(emitted, [[0, [1, 2, 3]], [5, [4]]]);
  assertEquals(gatherer.endOffset, 6);
});

Deno.test("WriteGatherer passes on the same bytes whatever the sizes and gaps", () => {
  let state = 7;
  const random = (below: number) => (state = state * 48271 % 0x7fffffff) % below;
  for (let round = 0; round < 300; round++) {
    const { emitted, gatherer } = setUp(1 + random(9));
    const expected = new Uint8Array(400);
    for (let offset = 0; offset < 300;) {
      const bytes = Uint8Array.from({ length: random(30) }, () => 1 + random(255));
      expected.set(bytes, offset);
      gatherer.write(bytes, offset);
      bytes.fill(0);
      offset += bytes.length + (random(3) === 0 ? random(20) : 0);
    }
    gatherer.flush();
    const found = new Uint8Array(400);
    let end = 0;
    for (const [offset, bytes] of emitted) {
      assertLessOrEqual(end, offset);
      end = offset + bytes.length;
      found.set(bytes, offset);
    }
    assertEquals(found, expected);
  }
});

Deno.test("WriteGatherer passes large writes on in whole pieces without keeping them", () => {
  const { emitted, gatherer } = setUp(4);
  gatherer.write(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), 4);
  assertEquals(emitted, [[4, [1, 2, 3, 4]], [8, [5, 6, 7, 8]]]);
  gatherer.flush();
  assertEquals(emitted[2], [12, [9]]);
});

Deno.test("WriteGatherer refuses to go back", () => {
  const { gatherer } = setUp();
  gatherer.write(Uint8Array.of(1, 2), 10);
  assertThrows(() => gatherer.write(Uint8Array.of(3), 11), Error, "write at 11 after the end 12");
});
