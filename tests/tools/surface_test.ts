import { assertEquals } from "@std/assert";
import { LISTING, surfaceListing } from "../../tools/surface_listing.ts";

Deno.test("the public surface is the one that is listed (a change that is wanted: deno task surface)", () => {
  const listed = Deno.readTextFileSync(LISTING).split("\n");
  const found = surfaceListing().split("\n");
  const gone = listed.filter((line) => !found.includes(line));
  const added = found.filter((line) => !listed.includes(line));
  assertEquals({ gone, added }, { gone: [], added: [] });
  assertEquals(found, listed);
});
