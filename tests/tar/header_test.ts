import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { bytesFromByteString } from "../../lib/bytes/byte_string.ts";
import { InputError } from "../../lib/errors.ts";
import {
  checkHeaderSum,
  GNU_FIELDS,
  HEADER_FIELDS,
  limitFault,
  paddedSizeBytes,
  parseDecimal,
  parsePaxTime,
  quoted,
  readNumberField,
  readPaxTime,
  STAR_PREFIX,
  USTAR_PREFIX,
} from "../../lib/tar/header.ts";
import { paxHeader, rawEntry, rawHeader, rawTar } from "./raw.ts";
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
  assertStringIncludes(error.message, "test.tar: header at offset 1024: this is not a tar header");
  assertEquals(error.data["headerOffset"], 1024);
  assertThrows(() => readTar(rawTar(rawHeader({ checksum: "xxxxxxxx" }))), InputError);
});

Deno.test("checkHeaderSum adds up blocks at any address", () => {
  const place = { tarName: "t", headerOffset: 0, path: "" };
  const fills = [() => 0xff, () => 0, (i: number) => (i * 37) & 0xff, (i: number) => i & 0x80];
  for (const fill of fills) {
    const block = Uint8Array.from({ length: 512 }, (_, i) => fill(i));
    const sum = block.fill(0x20, 148, 156).reduce((total, byte) => total + byte, 0);
    block.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
    for (let base = 0; base < 5; base++) {
      const bytes = new Uint8Array(1024).fill(0x55);
      bytes.set(block, base);
      checkHeaderSum(bytes, base, place);
      bytes[base + 300]! ^= 1;
      assertThrows(
        () => checkHeaderSum(bytes, base, place),
        InputError,
        "this is not a tar header",
      );
    }
  }
});

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

function read(text: string): number {
  const bytes = bytesFromByteString(`??${text}??`);
  return readNumberField(bytes, 1, { offset: 1, lengthBytes: text.length });
}

Deno.test("readNumberField reads octal with spaces and NULs around it", () => {
  assertEquals(read("0000644\0"), 0o644);
  assertEquals(read("   644 \0"), 0o644);
  assertEquals(read("\0\x00644  "), 0o644);
  assertEquals(read("77777777"), 0o77777777); // no terminator
  assertEquals(read("777777777777"), 8 ** 12 - 1);
  assertEquals(read("        "), 0);
  assertEquals(read("\0\0\0\0\0\0\0\0"), 0);
  assertEquals(read("644\x00junk"), 0o644);
  assertEquals(read("644 \0 \0 "), 0o644);
});

Deno.test("readNumberField answers NaN for what is no octal number", () => {
  for (
    const text of [
      "0000648\0",
      "-000644\0",
      "abc\0\0\0\0\0",
      "12 34\0\0\0",
      "0x12\0\0\0\0",
      "644 1   ",
    ]
  ) {
    assertEquals(read(text), NaN, text);
  }
});

Deno.test("readNumberField reads base-256 of both signs and answers infinity beyond 2^53", () => {
  assertEquals(read("\x80\0\0\0\0\0\0\x01"), 1);
  assertEquals(read("\x80\0\0\0\0\0\0\0\x01\0\0\0"), 0x1000000);
  assertEquals(read("\xff\xff\xff\xff\xff\xff\xff\xff"), -1);
  assertEquals(read("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), -2);
  assertEquals(read("\x80\0\0\0\0\x1f\xff\xff\xff\xff\xff\xfe"), Number.MAX_SAFE_INTEGER - 1);
  assertEquals(read("\x80\0\0\0\0\x20\0\0\0\0\0\0"), Infinity);
  assertEquals(read("\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), Infinity);
  assertEquals(read("\xc0\0\0\0\0\0\0\0\0\0\0\0"), -Infinity);
});

Deno.test("parseDecimal takes decimal numbers that are exact and nothing else", () => {
  assertEquals(parseDecimal("0012"), 12);
  assertEquals(parseDecimal("-5"), -5);
  assertEquals(parseDecimal("+5"), 5);
  assertEquals(Object.is(parseDecimal("-0"), 0), true);
  assertEquals(parseDecimal("9007199254740991"), Number.MAX_SAFE_INTEGER);
  assertEquals(parseDecimal("9007199254740992"), Infinity);
  assertEquals(parseDecimal("-99999999999999999999"), -Infinity);
  for (const text of ["", " 1", "1 ", "1.0", "0x10", "1e3", "--1", "1\n", "\xb2"]) {
    assertEquals(parseDecimal(text), NaN, text);
  }
});

Deno.test("parsePaxTime keeps the real value, rounded down to seconds with nanoseconds forward", () => {
  assertEquals(parsePaxTime("1350244992.023960108"), {
    seconds: 1350244992,
    nanoseconds: 23960108,
  });
  assertEquals(parsePaxTime("5"), { seconds: 5, nanoseconds: 0 });
  assertEquals(parsePaxTime("5."), { seconds: 5, nanoseconds: 0 });
  assertEquals(parsePaxTime("5.1234567899"), { seconds: 5, nanoseconds: 123456789 });
  assertEquals(parsePaxTime("-0.5"), { seconds: -1, nanoseconds: 500000000 });
  assertEquals(parsePaxTime("-1.000000001"), { seconds: -2, nanoseconds: 999999999 });
  assertEquals(parsePaxTime("-2678399.876543211"), { seconds: -2678400, nanoseconds: 123456789 });
  assertEquals(parsePaxTime("-3.0"), { seconds: -3, nanoseconds: 0 });
  for (const text of ["", ".5", "1.2.3", "1.-5", "1e9", "nan", "1.5x"]) {
    assertEquals(parsePaxTime(text), undefined, text);
  }
});

Deno.test("readPaxTime reads in place what parsePaxTime reads as text", () => {
  const texts = [
    "",
    "5",
    "5.",
    ".5",
    "5.1234567899",
    "-0.5",
    "+7.25",
    "1350244992.023960108",
    "5x",
  ];
  texts.push(
    "5.1x",
    "5.1.2",
    "999999999999999.5",
    "9007199254740991",
    "9007199254740992",
    "00001.1",
  );
  for (const text of texts) {
    const bytes = bytesFromByteString(`9.9${text}9`);
    assertEquals(readPaxTime(bytes, 3, bytes.length - 1), parsePaxTime(text), text);
  }
  const digits = fc.string({ unit: fc.constantFrom(..."0123456789.-") });
  fc.assert(fc.property(digits, (text) => {
    const bytes = bytesFromByteString(text);
    assertEquals(readPaxTime(bytes, 0, bytes.length), parsePaxTime(text));
  }));
});

Deno.test("TarIndexer names the tar, the path and the offset, and shows no control characters", () => {
  const error = faultOf(rawTar(rawEntry({}, "x"), rawHeader({ name: "a\x1b[2J", uid: "bad" })));
  assertEquals(
    error.message,
    'test.tar: "a\\x1b[2J" at offset 1024: its header field uid is not a number: ' +
      '"bad\\x00\\x00\\x00\\x00\\x00"',
  );
  const long = faultOf(rawTar(paxHeader([["path", "y".repeat(5000)]]), rawHeader({ uid: "bad" })));
  assert(long.message.length < 700, "long names are cut in messages");
});

Deno.test("limitFault says what was found and what is allowed, in the message and in its data", () => {
  const place = { tarName: "t", headerOffset: 512, path: "" };
  const error = limitFault(place, "its size", "fileSizeBytes", 11, 10);
  assertEquals(error.message, "t: header at offset 512: its size is 11, more than the limit of 10");
  assertEquals(error.data, {
    tar: "t",
    path: "",
    headerOffset: 512,
    limit: "fileSizeBytes",
    actual: 11,
    expected: 10,
  });
});

Deno.test("quoted cuts long text and shows no control characters", () => {
  assertEquals(quoted("a\x07"), '"a\\x07"');
  assertEquals(quoted("a".repeat(200)), `"${"a".repeat(200)}"`);
  assertEquals(quoted("a".repeat(201)), `"${"a".repeat(200)}..."`);
});
