import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { bytesFromByteString } from "../../lib/bytes/byte_string.ts";
import { parseDecimal, parsePaxTime, readNumberField, readPaxTime } from "../../lib/tar/numbers.ts";

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
  for (const text of ["", ".5", "1.2.3", "1.-5", "1e9", "nan", "9007199254740992", "1.5x"]) {
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
