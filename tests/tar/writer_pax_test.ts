import { assertEquals } from "@std/assert";
import { forEachPaxRecord } from "../../lib/tar/pax.ts";
import { PaxRecordWriter } from "../../lib/tar/writer_pax.ts";

const place = { tarName: "t", headerOffset: 0, path: "p" };

Deno.test("PaxRecordWriter counts the digits of a record's length into the length", () => {
  for (
    const size of [0, 1, 3, 4, 5, 80, 89, 90, 91, 92, 93, 94, 95, 980, 989, 990, 991, 992, 99990]
  ) {
    const writer = new PaxRecordWriter();
    writer.add("k", "v".repeat(size));
    const bytes = writer.bytes();
    assertEquals(parseInt(String.fromCharCode(...bytes.subarray(0, 6))), bytes.length, `${size}`);
    forEachPaxRecord(
      bytes,
      place,
      (key, start, end) => assertEquals([key, end - start], ["k", size]),
    );
  }
});

Deno.test("PaxRecordWriter writes records in the order given, values as bytes", () => {
  const writer = new PaxRecordWriter();
  assertEquals(writer.bytes().length, 0);
  writer.add("b", new Uint8Array([0, 255, 10]));
  writer.add("a", "\xe9=");
  assertEquals(String.fromCharCode(...writer.bytes()), "8 b=\0\xff\n\n7 a=\xe9=\n");
});
