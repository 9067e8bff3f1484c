import { assertEquals } from "@std/assert";
import { FORMAT_VERSION } from "../../lib/bless/plan_image.ts";
import { changedPins, computeDigests, readPins } from "./pins.ts";

Deno.test("images have the bytes that are pinned for this format version", async () => {
  const pins = readPins();
  const found = await computeDigests();
  assertEquals(pins.formatVersion, FORMAT_VERSION, "pin again: deno run -A tests/pins/pins.ts");
  const explanation =
    "these images have other bytes than before; where that is meant, raise FORMAT_VERSION " +
    "(lib/bless/plan_image.ts), say why in CHANGELOG.md, and run tests/pins/pins.ts";
  assertEquals(changedPins(pins, found), [], explanation);
  const unpinned = Object.keys(found).filter((name) => !(name in pins.digests));
  assertEquals(unpinned, [], "pin these: deno run -A tests/pins/pins.ts");
});

Deno.test("a pin that differs, and one whose image is not made, are found", () => {
  const pins = { formatVersion: 1, digests: { same: "1", other: "2", gone: "3" } };
  assertEquals(changedPins(pins, { same: "1", other: "x", new: "4" }), ["other", "gone"]);
});
