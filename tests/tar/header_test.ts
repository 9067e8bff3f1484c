import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InputError } from "../../lib/errors.ts";
import { checkHeaderSum } from "../../lib/tar/header.ts";
import { sealHeader } from "../../lib/tar/writer_fields.ts";
import { rawEntry, rawHeader, rawTar } from "./raw.ts";
import { faultOf, readOne, readTar } from "./read.ts";

Deno.test("TarIndexer takes a name that fills its field, with no NUL", () => {
  const name = "n".repeat(100);
  assertEquals(readOne(rawTar(rawHeader({ name }))).path, name);
  const prefix = "p".repeat(155);
  assertEquals(readOne(rawTar(rawHeader({ name, prefix }))).path, `${prefix}/${name}`);
  assertEquals(
    readOne(rawTar(rawHeader({ name, prefix, format: "star" }))).path,
    `${prefix.slice(0, 131)}/${name}`,
  );
});

Deno.test("TarIndexer takes the prefix of v7 and GNU headers for what it is: not there", () => {
  assertEquals(readOne(rawTar(rawHeader({ prefix: "p", format: "v7" }))).path, "f");
  assertEquals(readOne(rawTar(rawHeader({ prefix: "00000000017\0", format: "gnu" }))).path, "f");
});

Deno.test("TarIndexer takes the prefix that old Go programs wrote into GNU headers", () => {
  assertEquals(readOne(rawTar(rawHeader({ prefix: "dir", format: "gnu" }))).path, "dir/f");
  assertEquals(readOne(rawTar(rawHeader({ prefix: "d\xefr", format: "gnu" }))).path, "f");
});

Deno.test("TarIndexer accepts unsigned and signed checksums and refuses others", () => {
  const header = { name: "\xff\xfe\xfd" };
  assertEquals(readOne(rawTar(rawHeader(header))).path, header.name);
  assertEquals(readOne(rawTar(rawHeader({ ...header, signedChecksum: true }))).path, header.name);
  const error = faultOf(rawTar(
    rawEntry({ name: "ok" }, "data"),
    rawHeader({ checksum: "000001\0 " }),
  ));
  assertStringIncludes(error.message, "test.tar: header at offset 1024: this is no tar header");
  assertEquals(error.data["headerOffset"], 1024);
  assertThrows(() => readTar(rawTar(rawHeader({ checksum: "xxxxxxxx" }))), InputError);
});

Deno.test("checkHeaderSum adds up blocks at any address", () => {
  const place = { tarName: "t", headerOffset: 0, path: "" };
  const fills = [() => 0xff, () => 0, (i: number) => (i * 37) & 0xff, (i: number) => i & 0x80];
  for (const fill of fills) {
    const block = Uint8Array.from({ length: 512 }, (_, i) => fill(i));
    sealHeader(block);
    for (let base = 0; base < 5; base++) {
      const bytes = new Uint8Array(1024).fill(0x55);
      bytes.set(block, base);
      checkHeaderSum(bytes, base, place);
      bytes[base + 300]! ^= 1;
      assertThrows(() => checkHeaderSum(bytes, base, place), InputError, "this is no tar header");
    }
  }
});
