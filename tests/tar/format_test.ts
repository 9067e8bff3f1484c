import { assertEquals } from "@std/assert";
import {
  GNU_FIELDS,
  HEADER_FIELDS,
  paddedSizeBytes,
  STAR_PREFIX,
  USTAR_PREFIX,
} from "../../lib/tar/format.ts";

Deno.test("paddedSizeBytes rounds up to whole blocks", () => {
  assertEquals([0, 1, 511, 512, 513, 2 ** 44 + 1].map(paddedSizeBytes), [
    0,
    512,
    512,
    512,
    1024,
    2 ** 44 + 512,
  ]);
});

Deno.test("header fields do not overlap within a format", () => {
  const formats = [
    [...Object.values(HEADER_FIELDS), USTAR_PREFIX],
    [...Object.values(HEADER_FIELDS), STAR_PREFIX],
    [...Object.values(HEADER_FIELDS), ...Object.values(GNU_FIELDS)],
  ];
  for (const fields of formats) {
    let end = 0;
    for (const { offset, lengthBytes } of fields) {
      assertEquals(offset >= end, true, `the field at ${offset}`);
      end = offset + lengthBytes;
    }
    assertEquals(end <= 512, true);
  }
});
