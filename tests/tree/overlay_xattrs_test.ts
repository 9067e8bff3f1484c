import { assertEquals, assertStrictEquals } from "@std/assert";
import type { NodeAttributes } from "../../lib/model/node.ts";
import { hasPrivateXattrs, overlayAttributes } from "../../lib/tree/overlay_xattrs.ts";
import { Warnings } from "../../lib/warnings.ts";

function attributesWith(...names: string[]): NodeAttributes {
  return {
    mode: 0o750,
    uid: 1,
    gid: 2,
    mtimeSeconds: 3,
    mtimeNanoseconds: 4,
    xattrs: names.map((name) => ({ name, value: new Uint8Array([1]) })),
  };
}

function namesOf({ xattrs }: NodeAttributes): string[] {
  return xattrs.map(({ name }) => name);
}

Deno.test("overlayAttributes leaves attributes alone that mean nothing to overlayfs", () => {
  const attributes = attributesWith("security.x", "trusted.overlay", "trusted.x", "user.overlay.x");
  assertEquals(hasPrivateXattrs(attributes), false);
  assertStrictEquals(overlayAttributes(attributes, false, () => "f", new Warnings()), attributes);
});

Deno.test("overlayAttributes escapes what overlayfs keeps for itself, and marks opaque ones", () => {
  const attributes = attributesWith("trusted.a", "trusted.overlay.", "trusted.overlay.opaque");
  assertEquals(hasPrivateXattrs(attributes), true);
  const warnings = new Warnings(true);
  assertEquals(namesOf(overlayAttributes(attributes, false, () => "f", warnings)), [
    "trusted.a",
    "trusted.overlay.overlay.",
    "trusted.overlay.overlay.opaque",
  ]);
  const opaque = overlayAttributes(attributes, true, () => "f", warnings);
  assertEquals(namesOf(opaque), [
    "trusted.a",
    "trusted.overlay.opaque",
    "trusted.overlay.overlay.",
    "trusted.overlay.overlay.opaque",
  ]);
  assertEquals(opaque.xattrs[1]!.value, new TextEncoder().encode("y"));
  assertEquals({ ...opaque, xattrs: [] }, { ...attributes, xattrs: [] });
});

Deno.test("overlayAttributes drops a name that gets longer than the kernel takes, and counts it", () => {
  const warnings = new Warnings();
  const longest = `trusted.overlay.${"x".repeat(255 - "trusted.overlay.overlay.".length)}`;
  const escaped = overlayAttributes(
    attributesWith(longest, `${longest}x`),
    false,
    () => "f",
    warnings,
  );
  assertEquals(escaped.xattrs.map(({ name }) => name.length), [255]);
  assertEquals(warnings.list().map(({ kind, count }) => [kind, count]), [["unsupportedXattr", 1]]);
});
