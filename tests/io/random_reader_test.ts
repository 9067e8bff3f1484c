import { assertEquals, assertThrows } from "@std/assert";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { InputError } from "../../lib/errors.ts";
import { memoryReader, openFileReader, partAt, readExactly } from "../../lib/io/random_reader.ts";

Deno.test("openFileReader reads at any position and stops at the end", () => {
  const scratch = mkdtempSync(`${tmpdir()}/blessfs-test-`);
  try {
    writeFileSync(`${scratch}/file`, "0123456789");
    const reader = openFileReader(`${scratch}/file`);
    const target = new Uint8Array(4);
    assertEquals(reader.sizeBytes, 10);
    assertEquals(reader.readAt(target, 5), 4);
    assertEquals(new TextDecoder().decode(target), "5678");
    assertEquals(reader.readAt(target, 8), 2);
    assertEquals(reader.readAt(target, 20), 0);
    reader.close();
    assertThrows(() => reader.readAt(target, 0), Error, "once it is closed");
    reader.close();
  } finally {
    rmSync(scratch, { recursive: true });
  }
});

Deno.test("openFileReader says what it found in place of what is wanted", () => {
  const missing = "/nonexistent/file";
  const why = `${missing}: does not exist: wanted`;
  assertThrows(() => openFileReader(missing), InputError, `${why} a regular file or a block`);
  assertThrows(() => openFileReader(missing, { what: "a tar" }), InputError, `${why} a tar`);
});

Deno.test("readExactly says where the bytes end", () => {
  const reader = memoryReader(new Uint8Array(10), "spool");
  readExactly(reader, new Uint8Array(10), 0);
  assertThrows(
    () => readExactly(reader, new Uint8Array(8), 4),
    InputError,
    "spool: ends at offset 10: wanted 8 bytes at 4",
  );
  assertThrows(
    () => readExactly(reader, new Uint8Array(8), 40),
    InputError,
    "spool: ends at offset 10: wanted 8 bytes at 40",
  );
});

Deno.test("partAt gives all that is behind the parts to the last one", () => {
  const offsets = [0, 9, 10, 19, 20, 29, 30, 1000];
  const partsOf = (count: number) =>
    offsets.map((offset) => partAt({ count, partBytes: 10 }, offset));
  assertEquals(partsOf(3), [0, 0, 1, 1, 2, 2, 2, 2]);
  assertEquals(partsOf(1), [0, 0, 0, 0, 0, 0, 0, 0]);
});
