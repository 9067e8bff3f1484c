import { assertEquals } from "@std/assert";
import { CellCounter } from "../../../lib/ext4/write/cell_counter.ts";

Deno.test("CellCounter counts each cell with a byte in it once, however it is written", () => {
  const counter = new CellCounter(8);
  counter.add(Uint8Array.of(0, 0, 0, 1), 0);
  assertEquals(counter.storedBytes, 8);
  counter.add(Uint8Array.of(1, 1, 1, 1, 0, 0, 0, 0), 4);
  assertEquals(counter.storedBytes, 8);
  counter.add(Uint8Array.of(0, 0, 0, 2), 12);
  assertEquals(counter.storedBytes, 16);
  counter.add(new Uint8Array(100), 16);
  assertEquals(counter.storedBytes, 16);
  counter.add(new Uint8Array(17).fill(1), 119);
  assertEquals(counter.storedBytes, 16 + 24);
});
