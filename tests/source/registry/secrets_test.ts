import { assert, assertEquals, assertThrows } from "@std/assert";
import { InputError } from "../../../lib/errors.ts";
import {
  asSecretObject,
  basicAuthorization,
  isToken,
  parseSecretObject,
  Secrets,
  secretText,
} from "../../../lib/source/registry/secrets.ts";

Deno.test("basicAuthorization encodes as RFC 7617 has it", () => {
  assertEquals(
    basicAuthorization("Aladdin", "open sesame"),
    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
  );
  assertEquals(basicAuthorization("test", "123£"), "Basic dGVzdDoxMjPCow==");
});

Deno.test("isToken wants what a header can hold", () => {
  for (const token of ["a", "eyJ.x-_~+/=="]) assert(isToken(token));
  for (const wrong of ["", "a b", "a\r\nX: y", "ä", 7, undefined, "a".repeat(1 << 17)]) {
    assert(!isToken(wrong));
  }
});

Deno.test("Secrets takes what it knows out of a text", () => {
  const secrets = new Secrets();
  secrets.add("hunter22");
  secrets.add("a");
  assertEquals(
    secrets.hide("the password hunter22 (hunter22) was a wrong one"),
    [
      "the password *** (***) was a wrong one",
    ][0]!,
  );
});

Deno.test("parseSecretObject shows nothing of a document that is wrong", () => {
  for (const text of ['{"auth": "c2VjcmV0"', '"c2VjcmV0"', "[1]", "null", ""]) {
    const bytes = new TextEncoder().encode(text);
    const error = assertThrows(() => parseSecretObject(bytes, "config.json"), InputError);
    assert(!error.message.includes("c2V"), error.message);
    assertEquals(error.cause, undefined);
  }
  assertThrows(() => parseSecretObject(new Uint8Array([0x7b, 0xff]), "x"), InputError, "no JSON");
  const deep = new TextEncoder().encode('{"a":'.repeat(100_000));
  assertThrows(() => parseSecretObject(deep, "x"), InputError, "nests more than");
});

Deno.test("secretText reads own strings that are not empty", () => {
  const object = parseSecretObject(new TextEncoder().encode('{"a":"b","c":1,"d":""}'), "x");
  assertEquals(secretText(object, "a"), "b");
  for (const key of ["c", "d", "e", "toString"]) assertEquals(secretText(object, key), undefined);
  assertEquals(asSecretObject([]), undefined);
});
