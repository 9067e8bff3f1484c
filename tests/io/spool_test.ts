import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { closeSync, existsSync, fstatSync, openSync, readdirSync } from "node:fs";
import { IoError } from "../../lib/errors.ts";
import { descriptorReader } from "../../lib/io/random_reader.ts";
import {
  createUnlinkedFile,
  reopenDescriptor,
  singleFile,
  SpoolWriter,
} from "../../lib/io/spool.ts";
import { withTemporaryDirectory } from "../oracle/command.ts";
import { notRun } from "../oracle/notice.ts";

Deno.test("createUnlinkedFile leaves no name behind and lets nobody else read", () => {
  withTemporaryDirectory((directory) => {
    const descriptor = createUnlinkedFile(directory);
    assertEquals(readdirSync(directory), []);
    assertEquals(fstatSync(descriptor).mode & 0o777, 0o600);
    assertEquals(fstatSync(descriptor).nlink, 0);
    closeSync(descriptor);
  });
});

Deno.test("createUnlinkedFile names a directory that is not there, and --tmpdir", () => {
  try {
    createUnlinkedFile("/nonexistent/tmp");
  } catch (error) {
    assert(error instanceof IoError);
    assertStringIncludes(error.message, "/nonexistent/tmp: a temporary file cannot be made");
    assertEquals(error.remedies[0]?.option, "tmpdir");
    return;
  }
  throw new Error("it was made");
});

Deno.test("SpoolWriter writes pieces of all sizes in order", () => {
  withTemporaryDirectory((directory) => {
    const descriptor = createUnlinkedFile(directory);
    const writer = new SpoolWriter(singleFile(descriptor, directory));
    const sizes = [1, 511, 1 << 20, (1 << 19) - 1, 1 << 19, 3, (1 << 20) + 5, 0, 700_000, 2];
    const wanted = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
    let at = 0;
    sizes.forEach((size, i) => {
      const piece = new Uint8Array(size).fill(i + 1);
      writer.append(piece);
      wanted.set(piece, at);
      piece.fill(0xff);
      at += size;
      assertEquals(writer.sizeBytes, at);
    });
    writer.flush();
    writer.flush();
    assertEquals(fstatSync(descriptor).size, wanted.length);
    const reader = descriptorReader(descriptor, "spool", wanted.length);
    const found = new Uint8Array(wanted.length);
    assertEquals(reader.readAt(found, 0), wanted.length);
    assert(found.every((byte, i) => byte === wanted[i]));
    reader.close();
  });
});

Deno.test("SpoolWriter calls a full disk one", () => {
  if (!existsSync("/dev/full")) return notRun("a full disk", "there is no /dev/full");
  const descriptor = openSync("/dev/full", "r+");
  const writer = new SpoolWriter(singleFile(descriptor, "/scratch"));
  const error = assertThrows(() => writer.append(new Uint8Array(1 << 20)), IoError) as IoError;
  assertEquals(
    error.message,
    "/scratch: inflated data cannot be written: no space is left (ENOSPC)",
  );
  assertEquals(error.remedies[0]?.option, "tmpdir");
  writer.append(new Uint8Array(10));
  assertThrows(() => writer.flush(), IoError, "no space is left");
  closeSync(descriptor);
});

Deno.test("reopenDescriptor opens the same unlinked file once more", () => {
  withTemporaryDirectory((directory) => {
    const descriptor = createUnlinkedFile(directory);
    const again = reopenDescriptor(descriptor, "r+");
    if (again === undefined) {
      closeSync(descriptor);
      return notRun("reopenDescriptor", "there is no /dev/fd");
    }
    closeSync(descriptor);
    new SpoolWriter(singleFile(again, directory)).append(new Uint8Array(1 << 20));
    assertEquals(fstatSync(again).size, 1 << 20);
    closeSync(again);
    assertEquals(reopenDescriptor(again, "r"), undefined);
  });
});
