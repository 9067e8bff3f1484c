import { assertEquals, assertThrows } from "@std/assert";
import { fstatSync } from "node:fs";
import { IoError } from "../../lib/errors.ts";
import { PartedSpool, SpoolWriter } from "../../lib/io/spool.ts";
import { notRun } from "../oracle/notice.ts";
import { noise, openFilesBelow, withDirectory } from "../source/helpers.ts";

/** A spool that holds `bytes`, written in pieces of odd sizes. */
function spoolOf(directory: string, bytes: Uint8Array, partCount: number, partBytes: number) {
  const spool = new PartedSpool(directory, { partCount, partBytes });
  const writer = new SpoolWriter(spool.target);
  let size = 1;
  for (let at = 0; at < bytes.length; size = size * 3 % 1_000_003) {
    writer.append(bytes.subarray(at, at + size));
    at += size;
  }
  writer.flush();
  return spool;
}

Deno.test("PartedSpool reads back what was written, across parts of any size and count", async () => {
  await withDirectory((directory) => {
    const bytes = noise(3_000_000);
    for (const partCount of [1, 2, 3, 7]) {
      for (const partBytes of [1, 4096, 1_000_000, 1_500_000, 2_999_999, 3_000_000, 9_000_000]) {
        const spool = spoolOf(directory, bytes, partCount, partBytes);
        const sizes = spool.target.descriptors.map((part) => fstatSync(part).size);
        assertEquals(sizes.reduce((sum, size) => sum + size), bytes.length);
        for (const size of sizes.slice(0, -1)) assertEquals(size <= partBytes, true);
        const reader = spool.reader("spool", 0, bytes.length);
        for (const [position, length] of [[0, 3_000_000], [999_998, 5], [2_999_999, 5], [7, 0]]) {
          const target = new Uint8Array(length!);
          const count = reader.readAt(target, position!);
          assertEquals(count, Math.min(length!, bytes.length - position!));
          const wanted = bytes.subarray(position!, position! + count);
          assertEquals(target.subarray(0, count).every((byte, i) => byte === wanted[i]), true);
        }
        assertEquals(reader.readAt(new Uint8Array(1), 3_000_000), 0);
        reader.close();
      }
    }
    assertEquals(openFilesBelow(directory), []);
  });
});

Deno.test("PartedSpool frees a part when all its readers gave it back", async () => {
  await withDirectory((directory) => {
    const bytes = noise(1000);
    const spool = spoolOf(directory, bytes, 3, 400);
    const [first, second] = [spool.share().reader("a", 0, 1000), spool.reader("b", 0, 1000)];
    const open = () => openFilesBelow(directory).length;
    if (open() === 0) return notRun("counting open parts", "there is no /proc/self/fd");
    first.parts!.release(1);
    first.parts!.release(1);
    assertEquals(open(), 3);
    assertEquals(second.readAt(new Uint8Array(1000), 0), 1000);
    // Who reads over the end of what is left gets less.
    assertEquals(first.readAt(new Uint8Array(1000), 0), 400);
    assertEquals(first.readAt(new Uint8Array(10), 500), 0);
    second.parts!.release(1);
    assertEquals(open(), 2);
    first.close();
    second.close();
    first.close();
    assertEquals(open(), 0);
  });
});

Deno.test("PartedSpool leaves nothing open when it cannot be made", () => {
  assertThrows(
    () => new PartedSpool("/nonexistent/tmp", { partCount: 3, partBytes: 10 }),
    IoError,
    "/nonexistent/tmp: a temporary file cannot be made",
  );
});
