import {
  derivedUuid,
  Digester,
  digestOf,
  formatUuid,
  parseDigest,
  uuidBytes,
} from "../../lib/bytes/digest.ts";
import { InputError } from "../../lib/errors.ts";
import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";

const ABC = new TextEncoder().encode("abc");
// FIPS 180-2, appendix B.1 and C.1.
const ABC_SHA256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABC_SHA512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" +
  "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
// What sha256sum says of an empty file.
const EMPTY_SHA256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

Deno.test("digestOf and Digester compute the standard's vectors", () => {
  assertEquals(digestOf(ABC), ABC_SHA256);
  assertEquals(digestOf(ABC, "sha512"), ABC_SHA512);
  assertEquals(digestOf(new Uint8Array(0)), EMPTY_SHA256);
  const digester = new Digester();
  for (const byte of ABC) digester.update(new Uint8Array([byte]));
  assertEquals(digester.digest(), ABC_SHA256);
});

Deno.test("parseDigest takes both algorithms apart", () => {
  assertEquals(parseDigest(ABC_SHA256, "x"), { algorithm: "sha256", hex: ABC_SHA256.slice(7) });
  assertEquals(parseDigest(ABC_SHA512, "x").algorithm, "sha512");
});

Deno.test("parseDigest refuses whatever could be something else in a path", () => {
  const hex = "0".repeat(64);
  const wrong = [
    "",
    "sha256",
    "sha256:",
    `sha256:${hex}0`,
    `sha256:${hex.slice(1)}`,
    `sha512:${hex}`,
    `SHA256:${hex}`,
    `sha256:${"A".repeat(64)}`,
    `sha256:../../../../etc/passwd`,
    `sha256:${hex}/..`,
    `sha256:${hex}\n`,
    `../sha256:${hex}`,
    `md5:${hex}`,
    `constructor:${hex}`,
    `sha256+b64:${hex}`,
    "sha256:" + "0".repeat(5000),
    "\x1b[2J",
  ];
  for (const text of wrong) assertThrows(() => parseDigest(text, "doc"), InputError, "doc: ");
});

Deno.test("parseDigest shows no control characters", () => {
  try {
    parseDigest("sha256:\x1b[2J\u202e\x9b", "doc");
  } catch (error) {
    assertEquals(/[^\x20-\x7e]/.test((error as Error).message), false);
    return;
  }
  throw new Error("it was accepted");
});

Deno.test("a UUID as text and as bytes", () => {
  const text = "00112233-4455-6677-8899-aabbccddeeff";
  assertEquals(formatUuid(uuidBytes(text)!), text);
  assertEquals(uuidBytes(text.toUpperCase()), uuidBytes(text));
  for (const wrong of ["", text.slice(1), `${text}0`, text.replace("-", "")]) {
    assertEquals(uuidBytes(wrong), undefined);
  }
});

Deno.test("a derived UUID is of version 8 and depends on purpose and content", () => {
  const uuid = formatUuid(derivedUuid("a", "b"));
  assertEquals(/^.{14}8.{4}[89ab]/.test(uuid), true);
  assertNotEquals(uuid, formatUuid(derivedUuid("a", "c")));
  assertNotEquals(uuid, formatUuid(derivedUuid("b", "b")));
});
