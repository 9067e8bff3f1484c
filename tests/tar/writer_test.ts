import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { byteStringFromText } from "../../lib/bytes/byte_string.ts";
import type { TarEntry } from "../../lib/tar/entry.ts";
import {
  checkHeaderSum,
  HEADER_FIELDS,
  headerFormat,
  readNumberField,
} from "../../lib/tar/header.ts";
import { forEachPaxRecord } from "../../lib/tar/pax.ts";
import {
  encodeTarEntry,
  fitsOctal,
  PaxRecordWriter,
  putName,
  putNumber,
  sealHeader,
} from "../../lib/tar/writer.ts";
import { buildTar, buildTarEntry, type SimpleEntry, type SparseData, tarEntryOf } from "./build.ts";
import { contentOf, readOne, readTar } from "./read.ts";

/** What must come back of an entry. Where the payload lies in the tar is the tar's own affair. */
function comparable(entry: TarEntry): Omit<TarEntry, "payload" | "headerOffset"> {
  const { payload: _payload, headerOffset: _headerOffset, ...rest } = entry;
  return rest;
}

function assertRoundTrip(entry: SimpleEntry): void {
  const tar = buildTar([entry, { path: "next" }]);
  const { entries, warningKinds } = readTar(tar);
  assertEquals(entries.length, 2);
  assertEquals(warningKinds, []);
  assertEquals(comparable(entries[0]!), comparable(tarEntryOf(entry)));
}

/** How many blocks stand before the payload: 1 for a plain ustar header. */
function headBlocks(entry: SimpleEntry): number {
  return encodeTarEntry(tarEntryOf(entry)).head.length / 512;
}

Deno.test("encodeTarEntry writes a plain ustar header where everything fits one", () => {
  const max = 8 ** 7 - 1;
  assertEquals(headBlocks({ path: "a", data: "x", uid: max, gid: max, mtime: 8 ** 11 - 1 }), 1);
  assertEquals(headBlocks({ path: "n".repeat(100) }), 1);
  assertEquals(headBlocks({ path: `${"p".repeat(155)}/${"n".repeat(100)}` }), 1);
  assertEquals(headBlocks({ path: "l", link: "t".repeat(100) }), 1);
  assertEquals(headBlocks({ path: "c", kind: "characterDevice", major: max, minor: max }), 1);
});

Deno.test("encodeTarEntry writes an extended header where something does not fit", () => {
  for (
    const entry of [
      { path: "a", uid: 8 ** 7 },
      { path: "a", gid: 8 ** 7 },
      { path: "a", mtime: 8 ** 11 },
      { path: "a", mtime: -1 },
      { path: "a", mtime: [0, 1] as const },
      { path: "n".repeat(101) },
      { path: `${"p".repeat(156)}/${"n".repeat(100)}` },
      { path: `/${"n".repeat(100)}` },
      { path: `${"n".repeat(100)}/` },
      { path: "\xc3\xbc" },
      { path: "l", link: "t".repeat(101) },
      { path: "a", xattrs: { "user.a": "" } },
    ]
  ) {
    assertEquals(headBlocks(entry), 3, JSON.stringify(entry));
    assertRoundTrip(entry);
  }
});

Deno.test("encodeTarEntry writes the same bytes for the same entry", () => {
  const entry: SimpleEntry = {
    path: "d/\xff",
    data: { sizeBytes: 9000, parts: [[5, new Uint8Array(3).fill(1)]] },
    mtime: [-5, 7],
    xattrs: { "user.b": "1", "user.a": "2" },
  };
  assertEquals(buildTarEntry(entry), buildTarEntry(entry));
});

Deno.test("encodeTarEntry says that names are raw bytes when they are not UTF-8", () => {
  const textOf = (entry: SimpleEntry) =>
    String.fromCharCode(...encodeTarEntry(tarEntryOf(entry)).head);
  assertEquals(textOf({ path: "\xff" }).includes("21 hdrcharset=BINARY\n9 path=\xff\n"), true);
  assertEquals(textOf({ path: "l", link: "\xff" }).includes("hdrcharset=BINARY"), true);
  assertEquals(textOf({ path: byteStringFromText("ü") }).includes("hdrcharset"), false);
});

Deno.test("encodeTarEntry keeps sizes beyond 8 GiB in step for readers with and without PAX", () => {
  const entry = tarEntryOf({ path: "big" });
  const sizeBytes = 20 * 2 ** 30;
  const segments = [{ fileOffset: 0, storeOffset: 0, lengthBytes: sizeBytes }];
  const { head, storedSizeBytes } = encodeTarEntry({
    ...entry,
    payload: { sizeBytes, segments, dataRuns: [], contentHash: 0 },
  });
  assertEquals(storedSizeBytes, sizeBytes);
  assertEquals(String.fromCharCode(...head).includes(`20 size=${sizeBytes}\n`), true);
  assertEquals([...head.subarray(1024 + 124, 1024 + 136)], [0x80, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]);
});

Deno.test("encodeTarEntry stores whole tar blocks of a sparse file and joins those that meet", () => {
  const part = (length: number) => new Uint8Array(length).fill(65);
  const encoded = encodeTarEntry(tarEntryOf({
    path: "s",
    data: {
      sizeBytes: 10000,
      parts: [[700, part(100)], [1030, part(1)], [2048, part(0)], [4096, part(600)], [
        9990,
        part(3),
      ]],
    },
  }));
  assertEquals(encoded.storedRanges, [
    { fileOffset: 512, lengthBytes: 1024 },
    { fileOffset: 4096, lengthBytes: 1024 },
    { fileOffset: 9728, lengthBytes: 272 },
  ]);
  assertEquals([encoded.storedSizeBytes, encoded.paddingSizeBytes], [2320, 240]);
});

Deno.test("encodeTarEntry writes a file as plain when widening its segments closes the holes", () => {
  const encoded = encodeTarEntry(tarEntryOf({
    path: "s",
    data: { sizeBytes: 700, parts: [[10, new Uint8Array(10)], [600, new Uint8Array(10)]] },
  }));
  assertEquals(encoded.head.length, 512);
  assertEquals(encoded.storedRanges, [{ fileOffset: 0, lengthBytes: 700 }]);
});

Deno.test("a sparse file comes back with its content and holes", () => {
  const part = new TextEncoder().encode("some data");
  for (
    const data of [
      { sizeBytes: 100000, parts: [] },
      { sizeBytes: 100000, parts: [[0, part]] },
      { sizeBytes: 100000, parts: [[100000 - part.length, part]] },
      { sizeBytes: 100000, parts: [[5000, part], [50000, part], [50009, part]] },
    ] satisfies SparseData[]
  ) {
    const tar = buildTar([{ path: "dir/sparse", data }]);
    const entry = readOne(tar);
    assertEquals(entry.path, "dir/sparse");
    const content = new Uint8Array(data.sizeBytes);
    for (const [offset, bytes] of data.parts) content.set(bytes, offset);
    assertEquals(contentOf(entry, tar), content);
    const plain = readOne(buildTar([{ path: "f", data: content }]));
    assertEquals(entry.payload?.dataRuns, plain.payload?.dataRuns);
    assertEquals(entry.payload?.contentHash, plain.payload?.contentHash);
  }
});

Deno.test("encodeTarEntry escapes in names of xattrs only what would be misread", () => {
  const keyOf = (name: string) => {
    const entry = { path: "f", xattrs: { [name]: "v" } };
    assertEquals(readOne(buildTar([entry])).xattrs.map((xattr) => xattr.name), [name]);
    const text = String.fromCharCode(...encodeTarEntry(tarEntryOf(entry)).head);
    return /SCHILY\.xattr\.([^=]*)=/.exec(text)?.[1];
  };
  assertEquals(keyOf("user.100%"), "user.100%");
  assertEquals(keyOf("user.%41%2%3"), "user.%41%2%3");
  assertEquals(keyOf("user.a=b"), "user.a%3Db");
  assertEquals(keyOf("user.%25%3D%%25"), "user.%2525%253D%%2525");
  assertEquals(keyOf("user.%=25=%3"), "user.%%3D25%3D%3");
});

const nameBytes = fc.array(
  fc.oneof(fc.integer({ min: 1, max: 255 }), fc.integer({ min: 97, max: 122 })),
  { minLength: 1, maxLength: 200 },
).map((codes) => String.fromCharCode(...codes));
const paths = fc.oneof(
  nameBytes,
  fc.array(nameBytes, { minLength: 1, maxLength: 4 }).map((names) => names.join("/")),
);
const values = fc.uint8Array({ maxLength: 300 });
const ids = fc.oneof(fc.integer({ min: 0, max: 65535 }), fc.integer({ min: 0, max: 0xfffffffe }));

/** A slash at the end of its name makes a file a directory. */
const isAsItSays = ({ kind, path }: SimpleEntry) => kind !== "file" || !path.endsWith("/");

const anyEntry: fc.Arbitrary<SimpleEntry> = fc.record({
  path: paths,
  kind: fc.constantFrom(
    "file",
    "directory",
    "symlink",
    "hardlink",
    "characterDevice",
    "blockDevice",
    "fifo",
  ),
  data: fc.uint8Array({ maxLength: 3000 }),
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: ids,
  gid: ids,
  mtime: fc.tuple(
    fc.oneof(
      fc.integer({ min: -(2 ** 31), max: 2 ** 34 }),
      fc.integer({ min: -(2 ** 52), max: 2 ** 52 }),
    ),
    fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 999_999_999 })),
  ),
  link: paths,
  xattrs: fc.dictionary(
    fc.oneof(
      nameBytes,
      fc.array(fc.constantFrom("%", "=", "25", "3D", "a"), { minLength: 1 }).map((parts) =>
        parts.join("")
      ),
    ).map((name) => `user.${name}`),
    values,
    { maxKeys: 4 },
  ),
  major: ids,
  minor: ids,
}).map((entry): SimpleEntry => {
  const isLink = entry.kind === "symlink" || entry.kind === "hardlink";
  const isDevice = entry.kind.endsWith("Device");
  const { link, major, minor, data, ...rest } = entry;
  return {
    ...rest,
    ...(isLink ? { link } : {}),
    ...(isDevice ? { major, minor } : {}),
    ...(entry.kind === "file" ? { data } : {}),
  } as SimpleEntry;
}).filter(isAsItSays);

Deno.test("TarIndexer reads back exactly what encodeTarEntry wrote, for any entries in any chunks", () => {
  fc.assert(
    fc.property(
      fc.array(anyEntry, { minLength: 1, maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 4 }),
      (simple, chunkSizes) => {
        const tar = buildTar(simple);
        const { entries, warningKinds } = readTar(tar, { chunkSizes });
        assertEquals(warningKinds, []);
        assertEquals(entries.map(comparable), simple.map(tarEntryOf).map(comparable));
        entries.forEach((entry, i) => {
          if (entry.kind === "file") {
            assertEquals(contentOf(entry, tar), simple[i]!.data as Uint8Array);
          }
        });
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("putNumber writes what readNumberField reads, for any number that fits the field", () => {
  fc.assert(fc.property(fc.maxSafeInteger(), (value) => {
    const block = new Uint8Array(12);
    if (value === Number.MAX_SAFE_INTEGER || value === Number.MIN_SAFE_INTEGER) return;
    putNumber(block, { offset: 0, lengthBytes: 12 }, value);
    assertEquals(readNumberField(block, 0, { offset: 0, lengthBytes: 12 }), value);
  }));
  fc.assert(fc.property(fc.integer({ min: -(2 ** 31), max: 2 ** 32 - 1 }), (value) => {
    const block = new Uint8Array(9);
    putNumber(block, { offset: 1, lengthBytes: 8 }, value);
    assertEquals(readNumberField(block, 0, { offset: 1, lengthBytes: 8 }), value);
  }));
});

Deno.test("putNumber writes octal digits and a NUL where they fit, as fitsOctal says", () => {
  const text = (value: number) => {
    const block = new Uint8Array(8);
    putNumber(block, { offset: 0, lengthBytes: 8 }, value);
    return String.fromCharCode(...block);
  };
  const field = { offset: 0, lengthBytes: 8 };
  assertEquals(text(0o644), "0000644\0");
  assertEquals([text(8 ** 7 - 1), fitsOctal(8 ** 7 - 1, field)], ["7777777\0", true]);
  assertEquals([text(8 ** 7), fitsOctal(8 ** 7, field)], ["\x80\0\0\0\0\x20\0\0", false]);
  assertEquals([text(-1), fitsOctal(-1, field)], ["\xff".repeat(8), false]);
});

Deno.test("putName cuts a name at the end of its field", () => {
  const block = new Uint8Array(512);
  putName(block, HEADER_FIELDS.name, "\xff".repeat(200));
  assertEquals([block[99], block[100]], [0xff, 0]);
});

Deno.test("sealHeader makes a POSIX header whose checksum holds", () => {
  const block = new Uint8Array(512).fill(0xc8, 0, 100);
  sealHeader(block);
  assertEquals(headerFormat(block, 0), "ustar");
  checkHeaderSum(block, 0, { tarName: "t", headerOffset: 0, path: "" });
  assertEquals(String.fromCharCode(...block.subarray(148, 156)), "050657\0 ");
});

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
