import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  bytesFromByteString,
  byteStringFromBytes,
  byteStringFromText,
  displayName,
  textFromByteString,
} from "../../lib/bytes/byte_string.ts";

Deno.test("byte strings hold any bytes, one a character", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 9000 }), (bytes) => {
    const text = byteStringFromBytes(bytes);
    assertEquals(text.length, bytes.length);
    assertEquals(bytesFromByteString(text), bytes);
  }));
});

Deno.test("byteStringFromBytes takes a part of a view that is a part itself", () => {
  const whole = Uint8Array.from([1, 2, 0x80, 0xff, 5]);
  assertEquals(byteStringFromBytes(whole.subarray(1), 1, 3), "\x80\xff");
});

Deno.test("byte strings compare as their bytes do", () => {
  assertEquals(["\xff", "a", "\x80", ""].sort(), ["", "a", "\x80", "\xff"]);
});

Deno.test("textFromByteString reads UTF-8 and nothing else", () => {
  assertEquals(textFromByteString(byteStringFromText("grün €")), "grün €");
  assertEquals(textFromByteString("\xff"), undefined);
});

Deno.test("displayName shows text and neutralises what would steer a terminal", () => {
  assertEquals(displayName(byteStringFromText("größe")), "größe");
  assertEquals(displayName("a\x1b[2J\n"), "a\\x1b[2J\\x0a");
  assertEquals(displayName("\xfe\xffx"), "\\xfe\\xffx");
  assertEquals(displayName(byteStringFromText("a\u202eb\u009b")), "a\\u{202e}b\\u{9b}");
});
