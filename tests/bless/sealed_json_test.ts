import { assertEquals, assertThrows } from "@std/assert";
import { openSealedJson, sealJson } from "../../lib/bless/sealed_json.ts";
import { InputError } from "../../lib/errors.ts";

const DOCUMENT = { name: "base \u00e9", list: [1, { deep: null }] };

Deno.test("openSealedJson reads what sealJson wrote", () => {
  const bytes = sealJson(3, DOCUMENT);
  assertEquals(openSealedJson(bytes, 3, "it"), { version: 3, ...DOCUMENT });
  assertEquals(sealJson(3, DOCUMENT), bytes);
});

Deno.test("openSealedJson refuses another version, any changed byte and any cut", () => {
  const bytes = sealJson(3, DOCUMENT);
  assertThrows(() => openSealedJson(bytes, 4, "it"), InputError, "it: version is 3: wanted 4");
  for (let at = 0; at < bytes.length - 1; at++) {
    const damaged = Uint8Array.from(bytes);
    damaged[at]! ^= 1;
    assertThrows(() => openSealedJson(damaged, 3, "it"), InputError, "it: ");
    assertThrows(() => openSealedJson(bytes.subarray(0, at), 3, "it"), InputError, "it: ");
  }
});
