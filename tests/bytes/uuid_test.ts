import { assertEquals, assertNotEquals } from "@std/assert";
import { derivedUuid, formatUuid, uuidBytes } from "../../lib/bytes/uuid.ts";

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
