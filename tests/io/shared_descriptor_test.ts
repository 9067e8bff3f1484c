import { assertEquals, assertThrows } from "@std/assert";
import { IoError } from "../../lib/errors.ts";
import { SharedDescriptor } from "../../lib/io/random_reader.ts";
import { createUnlinkedFile, singleFile, SpoolWriter } from "../../lib/io/spool.ts";

function tenBytes(): SharedDescriptor {
  const descriptor = createUnlinkedFile();
  const writer = new SpoolWriter(singleFile(descriptor, "tmp"));
  writer.append(Uint8Array.from({ length: 10 }, (_, i) => i));
  writer.flush();
  return new SharedDescriptor(descriptor);
}

Deno.test("SharedDescriptor stays open until the last share is released", () => {
  const file = tenBytes();
  const reader = file.share().reader("part", 2, 5);
  file.release();
  const target = new Uint8Array(8);
  assertEquals(reader.readAt(target, 1), 4);
  assertEquals([...target], [3, 4, 5, 6, 0, 0, 0, 0]);
  reader.close();
  reader.close();
  assertThrows(() => file.descriptor);
  assertThrows(() => file.share());
  assertThrows(() => file.release());
});

Deno.test("SharedDescriptor's readers end where their part ends", () => {
  const file = tenBytes();
  const reader = file.reader("part", 2, 5);
  assertEquals(reader.sizeBytes, 5);
  assertEquals(reader.readAt(new Uint8Array(3), 5), 0);
  assertEquals(reader.readAt(new Uint8Array(3), 99), 0);
  assertEquals(reader.readAt(new Uint8Array(3), 4), 1);
  reader.close();
});

Deno.test("SharedDescriptor.openFile names what cannot be opened", () => {
  assertThrows(() => SharedDescriptor.openFile("/nonexistent/x"), IoError, "/nonexistent/x: ");
});
