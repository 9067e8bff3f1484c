import { assertEquals, assertThrows } from "@std/assert";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { InputError, IoError } from "../../lib/errors.ts";
import { mustRun, withTemporaryDirectory } from "../oracle/command.ts";
import { kernelOrNotice } from "../oracle/kernel.ts";
import { memoryReader, openFileReader, readExactly } from "../../lib/io/random_reader.ts";

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
    assertThrows(() => reader.readAt(target, 0), IoError, "cannot read at offset 0");
  } finally {
    rmSync(scratch, { recursive: true });
  }
});

Deno.test("openFileReader finds out how large a block device is", () => {
  if (!kernelOrNotice("reading a block device")) return;
  withTemporaryDirectory((scratch) => {
    for (const sectors of [1, 5, 2048, 9999]) {
      writeFileSync(`${scratch}/file`, new Uint8Array(512 * sectors).fill(7));
      const device = mustRun("losetup", ["-f", "--show", `${scratch}/file`]).trim();
      try {
        const reader = openFileReader(device);
        assertEquals(reader.sizeBytes, 512 * sectors);
        reader.close();
      } finally {
        mustRun("losetup", ["-d", device]);
      }
    }
  });
});

Deno.test("openFileReader refuses what has no positions, and waits for nobody", () => {
  withTemporaryDirectory((scratch) => {
    const fifo = `${scratch}/fifo`;
    mustRun("mkfifo", [fifo]);
    assertThrows(() => openFileReader(fifo), InputError, `${fifo}: is a pipe`);
    assertThrows(() => openFileReader(scratch), InputError, `${scratch}: is a directory`);
    assertThrows(() => openFileReader("/dev/zero"), InputError, "/dev/zero: is no file");
  });
});

Deno.test("openFileReader names a file that is not there", () => {
  assertThrows(() => openFileReader("/nonexistent/file"), IoError, "/nonexistent/file");
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
